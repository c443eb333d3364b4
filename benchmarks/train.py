"""Training speed of the torch plugin and of TRL on the same rows: `python benchmarks/train.py --peer PYTHON_WITH_TRL`.

Without further options it runs what suits this machine: on a GPU a table of shapes and modes, each side at 16k and at
32k tokens a step, ours also with compiled layers, TRL packed, with and without Liger's kernels; on a CPU one row.
`--only NAME` picks rows. The two run in turn, each in a process of its own; of each side the better counts. What does
not fit into memory is said so. `--out FOLDER` writes the table as Markdown and JSON. `cpu_s` is processor time: on a
busy machine compare that, with `--threads 1`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from train_one import Options

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Contender:
    """One side's setting; `name` is what it is called within its side."""

    side: str  # tuneport or trl
    name: str
    options: dict


@dataclass(frozen=True)
class Comparison:
    """A row of the table: the same data, trained by each contender."""

    name: str
    title: str
    options: dict
    contenders: list[Contender]
    results: dict[str, list[dict]] = field(default_factory=dict)


def gpu_comparisons() -> list[Comparison]:
    small = [
        *(
            Contender(
                "tuneport",
                f"{size // 1024}k{', compiled' if compiled else ''}",
                {"step": size, "batch": size, "compile": compiled},
            )
            for size in (16_384, 32_768)
            for compiled in (False, True)
        ),
        *(
            Contender("trl", f"{rows} packed rows{', Liger' if liger else ''}", {"step": rows * 2048, "liger": liger})
            for rows in (8, 16)
            for liger in (False, True)
        ),
    ]
    large = [
        Contender("tuneport", "16k in batches of 8k", {"step": 16_384, "batch": 8192}),
        Contender("tuneport", "16k in batches of 8k, compiled", {"step": 16_384, "batch": 8192, "compile": True}),
        Contender("tuneport", "16k, checkpointed", {"step": 16_384, "batch": 16_384, "checkpointing": True}),
        *(
            Contender(
                "trl",
                f"{rows} packed rows, Liger, checkpointed",
                {"step": rows * 2048, "liger": True, "checkpointing": True},
            )
            for rows in (8, 16)
        ),
    ]
    data = {"rows": 1500, "mean": 400.0, "cap": 2048}
    plan = [
        ("llama-1b-full", "Llama-3.2-1B shape, full", {"shape": "llama-1b", "mode": "full"}, small),
        ("qwen3-0.6b-full", "Qwen3-0.6B shape, full", {"shape": "qwen3-0.6b", "mode": "full"}, small),
        ("llama-1b-lora", "Llama-3.2-1B shape, LoRA r16", {"shape": "llama-1b"}, small),
        ("qwen3-0.6b-lora", "Qwen3-0.6B shape, LoRA r16", {"shape": "qwen3-0.6b"}, small),
        ("llama-8b-lora", "Llama-3.1-8B shape, LoRA r16", {"shape": "llama-8b", "rows": 400}, large),
    ]
    return [Comparison(name, title, {**data, **options}, sides) for name, title, options, sides in plan]


def cpu_comparisons() -> list[Comparison]:
    sides = [Contender("tuneport", "1k", {}), Contender("trl", "2 packed rows", {})]
    modes = {"lora": "LoRA r16", "full": "full"}
    return [
        Comparison(f"smollm2-135m-{mode}", f"SmolLM2-135M shape, {name}", {"mode": mode}, sides)
        for mode, name in modes.items()
    ]


def main() -> None:
    args = arguments()
    gpu = has_gpu()
    offered = gpu_comparisons() if gpu else cpu_comparisons()
    wanted = args.only or [each.name for each in (offered if gpu else offered[:1])]
    unknown = set(wanted) - {each.name for each in offered}
    if unknown:
        sys.exit(f"There is no {', '.join(sorted(unknown))}; there are {', '.join(each.name for each in offered)}.")
    done = [each for each in offered if each.name in wanted]
    for comparison in done:
        compare(comparison, args)
    table = markdown(done)
    print(f"\n{table}")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "train.md").write_text(table)
        (args.out / "train.json").write_text(json.dumps([asdict(each) for each in done], indent=2) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has torch, trl, peft and datasets")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these rows of the table")
    parser.add_argument("--rounds", type=int, default=2, help="how often each side runs")
    parser.add_argument("--rows", type=int, help="other than the row's own number of training rows")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write train.md and train.json there")
    return parser.parse_args()


def has_gpu() -> bool:
    asked = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() == "True"


def compare(comparison: Comparison, args: argparse.Namespace) -> None:
    """Run every contender of a comparison in turn, round by round; one that does not fit is not tried again."""
    given = {"threads": args.threads, **({"rows": args.rows} if args.rows else {})}
    for number in range(1, args.rounds + 1):
        for one in comparison.contenders:
            if one.side == "trl" and not args.peer:
                continue
            key = f"{one.side}, {one.name}"
            before = comparison.results.setdefault(key, [])
            if any("error" in result for result in before):
                continue
            python = args.peer if one.side == "trl" else sys.executable
            result = run(python, Options(side=one.side, **{**comparison.options, **one.options, **given}))
            before.append(result)
            print(json.dumps({"row": comparison.name, "round": number, "who": key, **result}), flush=True)


def run(python: str, options: Options) -> dict:
    """One training in a process of its own; what went wrong, where it did."""
    paths = [str(ROOT / "core"), str(ROOT / "plugins")] if options.side == "tuneport" else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    command = [python, str(Path(__file__).with_name("train_one.py")), json.dumps(asdict(options))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return json.loads(done.stdout.splitlines()[-1])
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    short = "out of memory" in done.stderr.lower()
    return {"error": "out of memory" if short else said[-1][-300:]}


def markdown(comparisons: list[Comparison]) -> str:
    """The best of each side of every comparison, their ratio, and all settings that were tried."""
    lines = [
        "| | ours, tokens/s | TRL's best | ratio | ours: peak, of the matrix rate | TRL: peak, of the matrix rate |",
        "|---|---|---|---|---|---|",
    ]
    tried = [
        "",
        "| run | tokens/s, each round | tokens a CPU second | peak GiB | of the matrix rate |",
        "|---|---|---|---|---|",
    ]
    for each in comparisons:
        best = {side: best_of(each, side) for side in ("tuneport", "trl")}
        cells = [each.title]
        for side in ("tuneport", "trl"):
            found = best[side]
            cells.append(f"{found[1]['tokens_per_second']:,.0f} ({found[0]})" if found else "–")
        ours, theirs = best["tuneport"], best["trl"]
        ratio = ours[1]["tokens_per_second"] / theirs[1]["tokens_per_second"] if ours and theirs else None
        cells.append(f"{ratio:.2f}" if ratio else "–")
        for side in ("tuneport", "trl"):
            found = best[side]
            cells.append(f"{found[1]['peak_gib']} GiB, {found[1]['fraction_of_matrix_rate']:.0%}" if found else "–")
        lines.append(f"| {' | '.join(cells)} |")
        tried += [tried_row(each.name, who, results) for who, results in each.results.items() if results]
    return "\n".join([*lines, *tried]) + "\n"


def tried_row(name: str, who: str, results: list[dict]) -> str:
    whole = [result for result in results if "error" not in result]
    if not whole:
        return f"| {name}: {who} | {results[0]['error']} | | | |"
    columns = ("tokens_per_second", "tokens_per_cpu_second", "peak_gib", "fraction_of_matrix_rate")
    cells = [", ".join(f"{result[column]:,}" for result in whole) for column in columns]
    return f"| {name}: {who} | {' | '.join(cells)} |"


def best_of(comparison: Comparison, side: str) -> tuple[str, dict] | None:
    found = [
        (who.partition(", ")[2], result)
        for who, results in comparison.results.items()
        for result in results
        if who.startswith(f"{side},") and "error" not in result
    ]
    return max(found, key=lambda one: one[1]["tokens_per_second"], default=None)


if __name__ == "__main__":
    main()
