"""Training speed of the torch plugin, and of TRL on the same rows: `python benchmarks/train.py --peer PYTHON_WITH_TRL`.

Random weights in real shapes; chat-like rows of lognormal length, the loss on what follows the prompt; one epoch. The
two run in turn, each in a process of its own, after a warm-up that is not counted. A useful token is one of a row,
prompt included, padding not. `cpu_s` is processor time: on a busy machine compare that, with `--threads 1`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

LLAMA = {"model_type": "llama", "head_dim": 64}
QWEN3 = {"model_type": "qwen3", "head_dim": 128}
SHAPES = {
    "tiny": {
        **LLAMA, "vocab_size": 4096, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "smollm2-135m": {
        **LLAMA, "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "qwen3-0.6b": {
        **QWEN3, "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "llama-1b": {
        **LLAMA, "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": True,
    },
    "llama-8b": {
        **LLAMA, "head_dim": 128, "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False,
    },
}  # fmt: skip


def main() -> None:
    args = arguments()
    if args.only:
        print(json.dumps(measure(args)))
        return
    contenders = {"tuneport": sys.executable}
    if args.peer:
        contenders["trl"] = args.peer
    results: dict[str, list[dict]] = {name: [] for name in contenders}
    for number in range(1, args.rounds + 1):
        for name, python in contenders.items():
            results[name].append(one_run(python, name))
            print(json.dumps({"round": number, "who": name, **results[name][-1]}), flush=True)
    if args.peer:
        for key in ("tokens_per_second", "tokens_per_cpu_second"):
            ratios = [a[key] / b[key] for a, b in zip(results["tuneport"], results["trl"], strict=True)]
            each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            print(f"tuneport / TRL, {key}: {each}; median {statistics.median(ratios):.2f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--mode", choices=["lora", "full"], default="lora")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--mean", type=float, default=120, help="mean length of a row in tokens")
    parser.add_argument("--cap", type=int, default=512, help="length of the longest rows, and of TRL's packs")
    parser.add_argument("--step", type=int, default=1024, help="tokens of an optimiser step; TRL gets step / cap packs")
    parser.add_argument("--batch", type=int, default=0, help="our tokens_per_batch; 0: auto")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has trl, peft and datasets")
    parser.add_argument("--no-packing", action="store_true", help="TRL pads instead")
    parser.add_argument("--liger", action="store_true", help="TRL with Liger's kernels (CUDA)")
    parser.add_argument("--checkpointing", action="store_true", help="both compute activations twice")
    parser.add_argument("--only", choices=["tuneport", "trl"], help="one run in this process, one JSON line")
    return parser.parse_args()


def one_run(python: str, who: str) -> dict:
    command = [python, __file__, *sys.argv[1:], "--only", who]
    root = Path(__file__).parent.parent
    paths = [str(root / "core"), str(root / "plugins")] if who == "tuneport" else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{who} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(args: argparse.Namespace) -> dict:
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = workload(args.rows, SHAPES[args.shape]["vocab_size"], args.mean, args.cap)
    before = matrix_rate(device)
    train = ours if args.only == "tuneport" else trls
    timer = Timer(device)
    train(args, device, rows, timer)
    rate = max(before, matrix_rate(device))
    tokens, work = sum(len(row.ids) for row in rows), flops(args, rows)
    return {
        "tokens": tokens,
        "wall_s": round(timer.wall, 2),
        "cpu_s": round(timer.cpu, 2),
        "tokens_per_second": round(tokens / timer.wall, 1),
        "tokens_per_cpu_second": round(tokens / timer.cpu, 1),
        "peak_gib": round(timer.peak, 2),
        "matrix_gflops": round(rate / 1e9, 1),
        "fraction_of_matrix_rate": round(work / timer.wall / rate, 3),
    }


class Timer:
    """Wall and processor seconds, and peak memory in GiB: of the GPU, or of the process."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.wall = self.cpu = self.peak = 0.0

    def __enter__(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()

    def __exit__(self, *_: object) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
        self.wall += time.perf_counter()
        self.cpu += time.process_time()
        used = torch.cuda.max_memory_allocated() if self.device == "cuda" else 0
        self.peak = (used or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**30


def workload(count: int, vocabulary: int, mean: float, cap: int) -> list[SimpleNamespace]:
    """Rows of lognormal length (sigma 0.8); between 30% and 70% of each is a prompt."""
    draw = random.Random(0)
    rows = []
    for _ in range(count):
        length = min(cap, max(24, round(draw.lognormvariate(math.log(mean) - 0.8**2 / 2, 0.8))))
        prompt = round(length * draw.uniform(0.3, 0.7))
        ids = [draw.randrange(3, vocabulary) for _ in range(length)]
        rows.append(SimpleNamespace(ids=ids, weights=[0.0] * prompt + [1.0] * (length - prompt)))
    return rows


def build(args: argparse.Namespace, device: str):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = dict(SHAPES[args.shape])
    config = AutoConfig.for_model(shape.pop("model_type"), **shape)
    torch.manual_seed(0)
    with torch.device(device):
        # As models are loaded in practice: bfloat16 on a GPU, where TRL trains it so; float32 on a CPU.
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if device == "cuda" else torch.float32)


def ours(args: argparse.Namespace, device: str, rows: list, timer: Timer) -> None:
    from tuneport_torch.checkpoint import Store
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.loop import Run, train

    settings = TorchSettings(
        mode=args.mode, learning_rate=1e-4, tokens_per_step=args.step, tokens_per_batch=args.batch or "auto",
        precision=args.precision, device=device, checkpoint_every=10**9,
        activation_checkpointing=args.checkpointing or "auto",
    )  # fmt: skip
    for part, clock in ((rows[:8], Timer(device)), (rows, timer)):
        with tempfile.TemporaryDirectory() as folder:
            run = Run(
                model=build(args, device), train=part, settings=settings, epochs=1, store=Store(Path(folder)),
                emit=lambda *_, **__: None,
            )  # fmt: skip
            with clock:
                train(run)


def trls(args: argparse.Namespace, device: str, rows: list, timer: Timer) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import SFTConfig, SFTTrainer

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "<eos>": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
    bfloat16 = args.precision == "bfloat16"
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    for part, clock in ((rows[:8], Timer(device)), (rows, timer)):
        data = Dataset.from_list(
            [{"input_ids": row.ids, "completion_mask": [int(weight) for weight in row.weights]} for row in part]
        )
        with tempfile.TemporaryDirectory() as folder:
            settings = SFTConfig(
                output_dir=folder, per_device_train_batch_size=max(1, args.step // args.cap), num_train_epochs=1,
                learning_rate=1e-4, max_length=args.cap, packing=not args.no_packing, completion_only_loss=True,
                bf16=bfloat16, use_cpu=device == "cpu", use_liger_kernel=args.liger, optim="adamw_torch_fused",
                gradient_checkpointing=args.checkpointing, save_strategy="no", report_to=[], logging_steps=10,
                disable_tqdm=True, dataloader_pin_memory=device == "cuda",
            )  # fmt: skip
            trainer = SFTTrainer(
                model=build(args, device), args=settings, train_dataset=data, processing_class=tokenizer,
                peft_config=adapter if args.mode == "lora" else None,
            )  # fmt: skip
            with clock:
                trainer.train()


def matrix_rate(device: str) -> float:
    """Operations per second of a square bfloat16 matrix product, the best of some: what the device can do."""
    import torch

    size = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    best = math.inf
    for _ in range(8):
        timer = Timer(device)
        with timer:
            a @ b
        best = min(best, timer.wall)
    return 2 * size**3 / best


def flops(args: argparse.Namespace, rows: list) -> float:
    """Operations that the work needs at least: 2 a weight forward, 2 for gradients of activations, 2 for those of
    weights where they are trained; the output head only where there is a target. Attention, adapters and
    recomputation are not counted.
    """
    shape = SHAPES[args.shape]
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    heads, groups = shape["num_attention_heads"], shape["num_key_value_heads"]
    layer = width * shape["head_dim"] * (2 * heads + 2 * groups) + 3 * width * inner
    tokens, targets = sum(len(row.ids) for row in rows), sum(sum(row.weights) for row in rows)
    weights = tokens * layer * shape["num_hidden_layers"] + targets * width * shape["vocab_size"]
    return (4 if args.mode == "lora" else 6) * weights


if __name__ == "__main__":
    main()
