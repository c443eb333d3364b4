"""One training of `train.py` in this process, ours or TRL's, as one JSON line: `train_one.py OPTIONS_AS_JSON`."""

from __future__ import annotations

import json
import math
import random
import resource
import sys
import tempfile
import time
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Options:
    """What is trained how. The defaults are the row for a small CPU."""

    side: str  # tuneport or trl
    shape: str = "smollm2-135m"
    mode: str = "lora"
    rows: int = 60
    mean: float = 120.0  # length of a row in tokens
    cap: int = 512  # length of the longest rows, and of TRL's packs
    step: int = 1024  # tokens of an optimizer step; TRL gets step / cap packs
    batch: int = 0  # our tokens_per_batch; 0: auto
    liger: bool = False
    checkpointing: bool = False
    compile: bool = False  # ours
    threads: int = 0  # 0: torch's choice


def main() -> None:
    print(json.dumps(measure(Options(**json.loads(sys.argv[1])))))


def measure(options: Options) -> dict:
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = workload(options.rows, SHAPES[options.shape]["vocab_size"], options.mean, options.cap)
    before = matrix_rate(device)
    train = train_ours if options.side == "tuneport" else trls
    timer = Timer(device)
    train(options, device, rows, timer)
    rate = max(before, matrix_rate(device))
    tokens, work = sum(len(row.ids) for row in rows), flops(options, rows)
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
    """Wall and processor seconds of the steps of a training, and peak memory in GiB: of the GPU, or of the process.

    What comes before the first step, such as putting adapters on the model, is not counted on either side.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.wall = self.cpu = self.peak = 0.0

    def start(self) -> None:
        """Start to count, unless it has started."""
        import torch

        if self.wall:
            return
        if self.device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self.wall, self.cpu = -time.perf_counter(), -time.process_time()

    def stop(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()
        self.wall += time.perf_counter()
        self.cpu += time.process_time()
        used = torch.cuda.max_memory_allocated() if self.device == "cuda" else 0
        self.peak = (used or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / 2**30


def workload(count: int, vocabulary: int, mean: float, cap: int) -> list[SimpleNamespace]:
    """Rows of random tokens, of lognormal length (sigma 0.8); between 30% and 70% of each is a prompt."""
    import torch

    draw = random.Random(0)
    rows = []
    for _ in range(count):
        length = min(cap, max(24, int(draw.lognormvariate(math.log(mean) - 0.8**2 / 2, 0.8))))
        prompt = int(length * draw.uniform(0.3, 0.7))
        ids = torch.randint(3, vocabulary, (length,), generator=torch.Generator().manual_seed(draw.randrange(1 << 30)))
        rows.append(SimpleNamespace(ids=ids.tolist(), weights=[0.0] * prompt + [1.0] * (length - prompt)))
    return rows


def warm(rows: list, device: str) -> list:
    """The rows of a first training that is not counted."""
    return rows[:64] if device == "cuda" else rows[:8]


def build(options: Options, device: str):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = dict(SHAPES[options.shape])
    config = AutoConfig.for_model(shape.pop("model_type"), **shape)
    torch.manual_seed(0)
    with torch.device(device):
        # As models are loaded in practice: bfloat16 on a GPU, where TRL trains it so; float32 on a CPU.
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if device == "cuda" else torch.float32)


def train_ours(options: Options, device: str, rows: list, timer: Timer) -> None:
    from tuneport_torch.config import TorchSettings
    from tuneport_torch.engine.checkpoint import Store
    from tuneport_torch.engine.loop import Run, train

    settings = TorchSettings(
        mode=options.mode, learning_rate=1e-4, tokens_per_step=options.step, tokens_per_batch=options.batch or "auto",
        precision="bfloat16", device=device, checkpoint_every=10**9,
        activation_checkpointing=options.checkpointing, compile=options.compile,
    )  # fmt: skip
    for part, clock in ((warm(rows, device), Timer(device)), (rows, timer)):
        with tempfile.TemporaryDirectory() as folder:
            run = Run(
                model=build(options, device), train=part, settings=settings, epochs=1, store=Store(Path(folder)),
                emit=log, should_stop=clock.start,  # asked first when the first step is to begin
            )  # fmt: skip
            train(run)
            clock.stop()
            del run


def log(_: str, message: str, **__: object) -> None:
    """What a training tells; one that goes on uncompiled is no measurement of compiled layers."""
    if message.startswith("The layers are not compiled"):
        raise RuntimeError(message)
    if message.startswith("Compiled"):
        print(message, file=sys.stderr)


def trls(options: Options, device: str, rows: list, timer: Timer) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Begin(TrainerCallback):
        def __init__(self, clock: Timer) -> None:
            self.clock = clock

        def on_train_begin(self, *_: object, **__: object) -> None:
            self.clock.start()

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "<eos>": 2}, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    peft = {"peft_config": adapter} if options.mode == "lora" else {}
    model = build(options, device)
    for part, clock in ((warm(rows, device), Timer(device)), (rows, timer)):
        data = Dataset.from_list(
            [{"input_ids": row.ids, "completion_mask": [int(weight) for weight in row.weights]} for row in part]
        )
        with tempfile.TemporaryDirectory() as folder:
            settings = SFTConfig(
                output_dir=folder, per_device_train_batch_size=max(1, options.step // options.cap), num_train_epochs=1,
                learning_rate=1e-4, max_length=options.cap, packing=True, completion_only_loss=True, bf16=True,
                use_cpu=device == "cpu", use_liger_kernel=options.liger, optim="adamw_torch_fused",
                gradient_checkpointing=options.checkpointing, save_strategy="no", report_to=[], logging_steps=10,
                disable_tqdm=True, dataloader_pin_memory=device == "cuda",
            )  # fmt: skip
            trainer = SFTTrainer(
                model=model, args=settings, train_dataset=data, processing_class=tokenizer, callbacks=[Begin(clock)],
                **peft,
            )  # fmt: skip
            trainer.train()
            clock.stop()
        model, peft = trainer.model, {}


def matrix_rate(device: str) -> float:
    """Operations per second of a square bfloat16 matrix product, the best of some: what the device can do."""
    import torch

    size = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=device, dtype=torch.bfloat16)
    best = math.inf
    for _ in range(8):
        timer = Timer(device)
        timer.start()
        a @ b
        timer.stop()
        best = min(best, timer.wall)
    return 2 * size**3 / best


def flops(options: Options, rows: list) -> float:
    """Operations that the work needs at least: 2 a weight forward, 2 for gradients of activations, 2 for those of
    weights where they are trained; the output head only where there is a target. Attention, adapters and
    recomputation are not counted.
    """
    shape = SHAPES[options.shape]
    width, inner = shape["hidden_size"], shape["intermediate_size"]
    heads, groups = shape["num_attention_heads"], shape["num_key_value_heads"]
    layer = width * shape["head_dim"] * (2 * heads + 2 * groups) + 3 * width * inner
    tokens, targets = sum(len(row.ids) for row in rows), sum(sum(row.weights) for row in rows)
    weights = tokens * layer * shape["num_hidden_layers"] + targets * width * shape["vocab_size"]
    return (4 if options.mode == "lora" else 6) * weights


if __name__ == "__main__":
    main()
