"""How long a training stands still for a checkpoint: `python benchmarks/saving.py --mode full`.

SmolLM2-135M's shape with random weights and AdamW's state. Each round saves once during the training, which only waits
for the copy, and once waiting for the disk, as it is done where memory is short. `step` is a training step of 512
tokens, alone and while a checkpoint is being written. Medians, in seconds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tuneport_torch.bases import lora
from tuneport_torch.engine import state
from tuneport_torch.engine.checkpoint import Store
from tuneport_torch.engine.saving import Saver
from tuneport_torch.engine.state import Progress
from tuneport_torch.engine.update import adamw

SHAPE = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", choices=["lora", "full"], default="full")
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="where to write; by default the system's temporary folder")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE, num_hidden_layers=args.layers))
    if args.mode == "lora":
        lora.attach(model)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = adamw(trained, 0.0, torch.device("cpu"))
    ids = torch.randint(0, SHAPE["vocab_size"], (1, 512))

    def step() -> None:
        model(ids, labels=ids, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    size = sum(t.nbytes for named in state.tensors(trained, optimizer).values() for t in named.values())
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        figures = measure(Path(folder), trained, optimizer, step, args.rounds)
    print(f"{args.mode}: a checkpoint of {size / 1e6:,.0f} MB, {args.threads} threads")
    for name, seconds in figures.items():
        print(f"  {name:34} {statistics.median(seconds):8.3f}   ({min(seconds):.3f} to {max(seconds):.3f})")


def measure(
    folder: Path, trained: Any, optimizer: Any, step: Callable[[], None], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each thing, once a round."""
    progress, seen = Progress(), []
    saver = Saver(Store(folder), progress, trained, optimizer, {}, every=1, emit=lambda *_, **data: seen.append(data))
    figures: dict[str, list[float]] = {
        "first copy, into fresh memory": [],
        "copy": [],
        "write, during the training": [],
        "wait for the disk": [],
        "step": [],
        "step, while a checkpoint is written": [],
    }
    for number in range(rounds + 1):
        progress.step += 1
        began = time.monotonic()
        figures["copy" if number else "first copy, into fresh memory"].append(run_timed(saver.save))
        while len(seen) < progress.step:
            figures["step, while a checkpoint is written"].append(run_timed(step))
            saver.collect()
        figures["write, during the training"].append(time.monotonic() - began)
        progress.step += 1
        figures["wait for the disk"].append(run_timed(saver.save_last))
        figures["step"].append(run_timed(step))
    saver.close()
    return figures


def run_timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
