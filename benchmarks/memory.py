"""Memory that the plan estimates compared with what a training takes: `python benchmarks/memory.py`.

SmolLM2-135M on this machine, LoRA and full, at two sizes of a micro-batch; each in a process of its own, which loads
the model and trains three full steps, as a job's worker does. On a GPU the peak of what is allocated there, else the
peak of the process's resident memory.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

BASE = "smollm2-135m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=["lora", "full"], default=["lora", "full"])
    parser.add_argument("--batches", nargs="+", type=int, default=[512, 2048], help="tokens of a micro-batch")
    parser.add_argument("--length", type=int, default=128, help="tokens of a row")
    parser.add_argument("--checkpointing", action="store_true", help="activations are computed twice")
    parser.add_argument("--one", metavar="MODE,TOKENS", help="one training in this process")
    args = parser.parse_args()
    if args.one:
        mode, tokens = args.one.split(",")
        print(json.dumps(measure(mode, int(tokens), args.length, checkpointing=args.checkpointing)))
        return
    for mode in args.modes:
        for tokens in args.batches:
            command = [sys.executable, __file__, *sys.argv[1:], "--one", f"{mode},{tokens}"]
            environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            print(done.stdout.strip().splitlines()[-1], flush=True)


def measure(mode: str, tokens: int, length: int, *, checkpointing: bool) -> dict:
    import torch

    from tuneport_torch import bases
    from tuneport_torch.bases.loading import load_model
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.engine import footprint
    from tuneport_torch.engine.checkpoint import Store
    from tuneport_torch.engine.loop import Run, train

    base = bases.fetch(bases.resolve(BASE))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = TorchSettings(
        mode=mode, device=device, tokens_per_step=tokens, tokens_per_batch=tokens, checkpoint_every=10**9,
        activation_checkpointing=checkpointing, learning_rate=1e-4, precision="bfloat16",
    )  # fmt: skip
    draw = random.Random(0)
    rows = [
        SimpleNamespace(
            ids=[draw.randrange(base.facts.vocabulary) for _ in range(length)],
            weights=[float(place > length // 2) for place in range(length)],
        )
        for _ in range(3 * tokens // length)
    ]
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            model=load_model(base), train=rows, settings=settings, epochs=1, store=Store(Path(folder)),
            emit=lambda *_, **__: None,
        )  # fmt: skip
        train(run)
    estimate = footprint.estimate(base.facts, settings, device, tokens_per_batch=tokens, longest=length)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 1024 * usage()
    return {
        "mode": mode,
        "tokens_per_batch": tokens,
        "estimated_gb": round(estimate.total / 1e9, 3),
        "measured_gb": round(peak / 1e9, 3),
        "ratio": round(estimate.total / peak, 3),
        "parts_gb": {name: round(size / 1e9, 3) for name, size in estimate.parts.items()},
    }


def usage() -> int:
    """Peak resident memory of this process in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
