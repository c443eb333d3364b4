"""What each means of the torch plugin's speed gains: `python benchmarks/gains.py`.

Steps of the same training, by turns with everything and with one means taken away, which is put back as models and
libraries have it. Prints tokens per second without each, and the ratio to those with everything: medians over the
rounds. SmolLM2-135M's shape and LoRA unless asked otherwise; on a GPU give `--rows`, `--step` and `--mean` of its size.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F
from train_one import SHAPES, Options, build, heard, workload

from tuneport_torch.bases.lora_layer import LoraLinear
from tuneport_torch.config import TorchSettings
from tuneport_torch.engine.forward import Packed, PackedBatch
from tuneport_torch.engine.loss import head_logits, weighted_loss
from tuneport_torch.engine.objective import AnswerRows
from tuneport_torch.engine.pack import epoch_steps
from tuneport_torch.engine.prepare import prepare
from tuneport_torch.engine.update import adamw, update
from tuneport_torch.resolved import resolve

FORWARD = "tuneport_torch.engine.forward"
ATTENTION = "tuneport_torch.engine.attention"


def main() -> None:
    args = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = Options(side="tuneport", shape=args.shape, mode=args.mode, rows=args.rows, mean=args.mean, cap=args.cap)
    chosen = {name: VARIANTS[name] for name in VARIANTS if name == EVERYTHING or not args.only or name in args.only}
    if args.mode == "full":
        chosen = {name: variant for name, variant in chosen.items() if "adapter" not in name and "frozen" not in name}
    rates: dict[str, list[float]] = {name: [] for name in chosen}
    steps(options, args, device, {})  # what is warmed up by the first of all is counted for none
    for _ in range(args.rounds):
        for name, (settings, replaced) in chosen.items():
            with ExitStack() as stack:
                for target, value in replaced.items():
                    stack.enter_context(patch(target, value))
                rates[name].append(steps(options, args, device, settings))
            print(json.dumps({"variant": name, "tokens_per_second": round(rates[name][-1], 1)}), flush=True)
    print(table(rates))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--mode", choices=["lora", "full"], default="lora")
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--mean", type=float, default=120.0, help="mean length of a row in tokens")
    parser.add_argument("--cap", type=int, default=512, help="length of the longest rows")
    parser.add_argument("--step", type=int, default=1024, help="tokens of a step")
    parser.add_argument("--steps", type=int, default=3, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these variants, next to the one with everything")
    return parser.parse_args()


def steps(options: Options, args: argparse.Namespace, device: torch.device, changed: dict) -> float:
    """Tokens per second of some steps of a new model."""
    unfused = changed.get("optimizer") == "not fused"
    chosen = {name: value for name, value in changed.items() if name != "optimizer"}
    settings = TorchSettings(mode=options.mode, precision="bfloat16", device=device.type, **chosen)
    model = build(options, device.type)
    plan = resolve(settings, epochs=1, rows=1, tokens=1, hidden_size=1, device=device.type)
    forward = prepare(model, settings, plan, heard)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.AdamW(trained.values()) if unfused else adamw(trained, 0.0, device)
    data = AnswerRows(workload(options.rows, SHAPES[options.shape]["vocab_size"], options.mean, options.cap), "train")
    batches = epoch_steps(data.lengths, args.step, 0, 0)[: args.steps]
    model.train()
    synchronize(device)
    began = time.perf_counter()
    for examples in batches:
        total = torch.zeros((), device=device)
        for batch in data.split(forward, examples, args.step):
            with torch.autocast(device.type, torch.bfloat16):
                loss = data.measure(forward, data.pack(forward, batch))[0] / data.weight(examples)
            loss.backward()
            total += loss.detach()
        update(optimizer, list(trained.values()), 1e-4, 1.0, total)
    synchronize(device)
    seconds = time.perf_counter() - began
    forward.close()
    return sum(data.lengths[row] for examples in batches for row in examples) / seconds


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def change_nothing(_: object) -> Callable[[], None]:
    """In the place of what changes a model: nothing is changed, and nothing undone."""
    return lambda: None


def plain_adapter(self: LoraLinear, x: Tensor) -> Tensor:
    """An adapter as its formula says it, differentiated by autograd."""
    return self.base(x) + F.linear(F.linear(x, self.lora_A), self.lora_B) * self.scale


def loss_everywhere(self: Packed, batch: PackedBatch) -> Tensor:
    """Logits at every position, of which those without a target count nothing."""
    target_T = torch.roll(batch.ids_T, -1)
    weight_T = torch.zeros(len(batch.ids_T), device=self.device).index_copy_(0, batch.where_N, batch.weight_N)
    return weighted_loss(self.hidden(batch), self.head, target_T, weight_T)


def loss_by_autograd(self: Packed, batch: PackedBatch) -> Tensor:
    """The logits of all targets at once, kept for the way back."""
    logits_NV = head_logits(self.hidden(batch).index_select(0, batch.where_N), self.head)
    return (F.cross_entropy(logits_NV, batch.target_N, reduction="none") * batch.weight_N).sum()


def masked_attention(query_HTd, key_GTd, value_GTd, documents, scaling, dropout, window, softcap):  # noqa: ARG001
    """Attention over the whole pack, under a mask of who sees whom; (T, H, d)."""
    lengths = torch.tensor(documents.lengths, device=query_HTd.device)
    document_T = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    allowed_TT = (document_T[:, None] == document_T).tril()
    out = F.scaled_dot_product_attention(
        query_HTd[None], key_GTd[None], value_GTd[None], attn_mask=allowed_TT, scale=scaling, enable_gqa=True
    )
    return out[0].transpose(0, 1)


def masked_on_a_gpu(query, key, value, documents, scaling, window):
    return masked_attention(query[0], key[0], value[0], documents, scaling, 0.0, window, None)[None]


EVERYTHING = "with everything"
VARIANTS: dict[str, tuple[dict, dict]] = {  # what it is called: settings, and what is put in the place of what
    EVERYTHING: ({}, {}),
    "rows padded instead of packed, in the model's own forward pass": ({"packing": False}, {}),
    "attention under a mask over the pack": (
        {},
        {f"{ATTENTION}._in_rectangles": masked_attention, f"{ATTENTION}._varlen": masked_on_a_gpu},
    ),
    "logits at every position": ({}, {f"{FORWARD}.Packed.loss": loss_everywhere}),
    "logits kept for autograd": ({}, {f"{FORWARD}.Packed.loss": loss_by_autograd}),
    "norms, gates and rotations by autograd": ({}, {f"{FORWARD}.fuse": change_nothing}),
    "adapters by autograd": (
        {},
        {f"{FORWARD}.join": change_nothing, "tuneport_torch.bases.lora_layer.LoraLinear.forward": plain_adapter},
    ),
    "adapters that share an input each by itself": ({}, {f"{FORWARD}.join": change_nothing}),
    "frozen weights rounded at every use": ({}, {"tuneport_torch.bases.lora.cast_frozen": lambda *_: None}),
    "optimizer not fused": ({"optimizer": "not fused"}, {}),
    "layers compiled (not counting the time that it takes)": ({"compile": True}, {}),
}


def table(rates: dict[str, list[float]]) -> str:
    whole = statistics.median(rates[EVERYTHING])
    lines = ["| | tokens/s, each round | with everything is |", "|---|---|---|"]
    for name, each in rates.items():
        seen = ", ".join(f"{rate:,.0f}" for rate in each)
        lines.append(f"| {name} | {seen} | {whole / statistics.median(each):.2f} times as fast |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
