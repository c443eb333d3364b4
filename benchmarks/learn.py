"""What a training teaches, ours and TRL's: `python benchmarks/learn.py TRAIN.csv TEST.csv --peer PYTHON_WITH_TRL`.

From two files of `text,category` (banking77's, say), the eight most frequent categories; a seeded 1,000 rows of them to
train on, the test file's rows of them to ask. SmolLM2-135M, LoRA and full, the same token ids, hyperparameters and
number of steps on both sides; then every model answers the held-out rows greedily and is right where its answer is the
category's name. One JSON line a model, with Wilson's 95% interval; with `--out FILE`, what stands there is not done
again, and ours goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

BASE = "torch:smollm2-135m"
SYSTEM = "Name the customer's intent."
LEARNING_RATE = {"lora": 1e-3, "full": 1e-4}
ROWS_PER_STEP = 16
WARMUP_SHARE = 20  # a twentieth of all steps


def main() -> None:
    if len(sys.argv) == 3 and sys.argv[1] == "--trl":
        trl(json.loads(Path(sys.argv[2]).read_text()))
        return
    args = arguments()
    training, held_out = rows(args)
    plan = lengths(training, args)
    print(json.dumps({"training_rows": len(training), "held_out_rows": len(held_out), **plan}), flush=True)
    known = args.out.read_text().splitlines() if args.out and args.out.exists() else []
    done = {json.loads(line)["who"] for line in known}
    for mode in args.modes:
        for side in ("tuneport", "trl") if args.peer else ("tuneport",):
            if f"{side} {mode}" in done:
                continue
            teach = train_ours if side == "tuneport" else peers
            result = {"who": f"{side} {mode}", **teach(training, held_out, mode, plan, args)}
            print(json.dumps(result), flush=True)
            if args.out:
                with args.out.open("a") as file:
                    file.write(json.dumps(result) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="CSV with the columns text and category")
    parser.add_argument("test", type=Path, help="the same, of other rows")
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has torch, trl, peft and datasets")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--held-out", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--modes", nargs="+", choices=["lora", "full"], default=["lora", "full"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="append results to this file of JSON lines")
    return parser.parse_args()


def rows(args: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """Rows to train on and rows held out, as conversations; none stands on both sides."""
    read = [list(csv.DictReader(path.open(encoding="utf-8"))) for path in (args.train, args.test)]
    counts = Counter(row["category"] for row in read[0])
    chosen = {name for name, _ in sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:8]}
    draw = random.Random(args.seed)
    train, test = ([row for row in part if row["category"] in chosen] for part in read)
    train = draw.sample(train, min(args.rows, len(train)))
    seen = {row["text"] for row in train}
    test = [row for row in test if row["text"] not in seen]
    return [conversation(row) for row in train], [
        conversation(row) for row in draw.sample(test, min(args.held_out, len(test)))
    ]


def conversation(row: dict) -> dict:
    turns = (("system", SYSTEM), ("user", row["text"]), ("assistant", row["category"]))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def lengths(training: list[dict], args: argparse.Namespace) -> dict:
    """Tokens of an epoch, and of a step of so many rows as TRL takes."""
    tokens = sum(len(row.ids) for row in render_rows(training))
    steps = -(-len(training) // ROWS_PER_STEP)
    return {"tokens": tokens, "tokens_per_step": -(-tokens // steps), "warmup": steps * args.epochs // WARMUP_SHARE}


def render_rows(conversations: list[dict]) -> list:
    """Token ids and weights, as ours trains on them."""
    from tuneport import Dataset
    from tuneport_torch import bases
    from tuneport_torch.text.load import load_codec
    from tuneport_torch.text.render import Renderer

    codec = load_codec(bases.fetch(bases.resolve(BASE.partition(":")[2])))
    try:
        return Renderer(codec).try_render(list(Dataset.load(conversations)))
    finally:
        codec.close()


def train_ours(training: list[dict], held_out: list[dict], mode: str, plan: dict, args: argparse.Namespace) -> dict:
    import tuneport

    settings = {
        "mode": mode, "learning_rate": LEARNING_RATE[mode], "tokens_per_step": plan["tokens_per_step"],
        "warmup": plan["warmup"], "precision": "bfloat16",
    }  # fmt: skip
    began = time.monotonic()
    job = tuneport.train(BASE, training, epochs=args.epochs, seed=args.seed, settings=settings, suffix="learn")
    model = job.wait()
    return {"seconds": round(time.monotonic() - began, 1), **grade_model(model, held_out)}


def peers(training: list[dict], held_out: list[dict], mode: str, plan: dict, args: argparse.Namespace) -> dict:
    """TRL in a process of its own, from the same weights and the same token ids; ours asks the model that it writes."""
    import tuneport

    with tempfile.TemporaryDirectory() as folder:
        base, tuned, asked = Path(folder, "base"), Path(folder, "tuned"), Path(folder, "asked.json")
        write_base(base)
        task = {
            "base": str(base), "tuned": str(tuned), "mode": mode, "epochs": args.epochs, "seed": args.seed,
            "learning_rate": LEARNING_RATE[mode], "warmup": plan["warmup"],
            "rows": [{"ids": list(row.ids), "weights": list(row.weights)} for row in render_rows(training)],
        }  # fmt: skip
        asked.write_text(json.dumps(task))
        began = time.monotonic()
        command = [args.peer, __file__, "--trl", str(asked)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"TRL failed:\n{done.stderr[-3000:]}")
        seconds = time.monotonic() - began
        return {"seconds": round(seconds, 1), **grade_model(tuneport.open_model(f"torch:{tuned}"), held_out)}


def write_base(folder: Path) -> None:
    """The base as a folder of safetensors with its tokenizer, as transformers reads it."""
    from tuneport_torch import bases
    from tuneport_torch.bases.loading import load_model
    from tuneport_torch.text.load import load_codec

    base = bases.fetch(bases.resolve(BASE.partition(":")[2]))
    load_model(base).save_pretrained(folder)
    codec = load_codec(base)
    codec.save(folder)
    codec.close()


def trl(task: dict) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    base, tuned = Path(task["base"]), Path(task["tuned"])
    gpu = torch.cuda.is_available()
    data = Dataset.from_list(
        [{"input_ids": row["ids"], "completion_mask": [int(w > 0) for w in row["weights"]]} for row in task["rows"]]
    )
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    settings = SFTConfig(
        output_dir=str(tuned), per_device_train_batch_size=ROWS_PER_STEP, num_train_epochs=task["epochs"],
        learning_rate=task["learning_rate"], lr_scheduler_type="cosine", warmup_steps=task["warmup"], weight_decay=0.0,
        max_grad_norm=1.0, packing=False, completion_only_loss=True, bf16=True, use_cpu=not gpu, max_length=None,
        optim="adamw_torch_fused", gradient_checkpointing=False, save_strategy="no", report_to=[], seed=task["seed"],
        disable_tqdm=True, dataloader_pin_memory=gpu,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), args=settings, train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(base),
        peft_config=adapter if task["mode"] == "lora" else None,
    )  # fmt: skip
    trainer.train()
    model = trainer.model.merge_and_unload() if task["mode"] == "lora" else trainer.model
    shutil.copytree(base, tuned, ignore=shutil.ignore_patterns("*.safetensors"), dirs_exist_ok=True)
    model.save_pretrained(tuned)


def grade_model(model, held_out: list[dict]) -> dict:
    """How many answers are exactly the category's name, and where the share lies with 95% confidence."""
    from tuneport.evaluate.intervals import mean_interval

    began = time.monotonic()
    answers = model.reply_many([row["messages"][:-1] for row in held_out], max_tokens=32)
    scores = [
        float(answer.text.strip() == row["messages"][-1]["content"])
        for answer, row in zip(answers, held_out, strict=True)
    ]
    low, high = mean_interval(scores)
    return {
        "right": int(sum(scores)),
        "asked": len(scores),
        "exact_match": round(sum(scores) / len(scores), 4),
        "interval": [round(low, 4), round(high, 4)],
        "asking_seconds": round(time.monotonic() - began, 1),
    }


if __name__ == "__main__":
    main()
