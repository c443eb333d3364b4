"""How fast and in how much memory `Dataset.check` reads chat rows, and Hugging Face `datasets` loads them.

    python benchmarks/check.py                                  # 200,000 rows of 143 MB, tuneport alone
    python benchmarks/check.py --peer PYTHON                    # with the `datasets` of another interpreter
    python benchmarks/check.py --rows 10000000 --runs 1         # memory at another size

Whole processes are timed, start and imports included, by turns; memory is the largest sum over a process and its
children.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

ROWS = 200_000
_WORDS = """order card account transfer refund please could you tell me why the my is not yet arrived pending top up
exchange rate limit verify identity payment app phone today tomorrow bank statement fee charged twice cancel change
address number pin code help thanks I we it that this with from for and but because when how what where which
delivered"""
_CHECK = "import sys, tuneport; print(tuneport.Dataset.load(sys.argv[1]).check(workers={workers}).read)"
_LOAD = (
    "import sys, datasets; "
    "print(len(datasets.load_dataset('json', data_files=sys.argv[1], split='train', cache_dir=sys.argv[2])))"
)


def write_rows(path: Path, rows: int, seed: int = 0) -> None:
    """Chat rows of some 700 bytes: a system prompt, one or two exchanges, quotes, line ends, letters with accents."""
    import msgspec

    draw, words = random.Random(seed), _WORDS.split()
    texts = [" ".join(draw.choices(words, k=draw.randint(4, 60))) for _ in range(20_000)]
    for number in range(0, len(texts), 5):
        texts[number] = texts[number].replace(" the ", ' "the"\n', 1)
    for number in range(0, len(texts), 200):
        texts[number] = f"Café {texts[number]} – señor"
    with path.open("wb") as file:
        for number in range(rows):
            messages = [{"role": "system", "content": "You answer the customers of a bank, briefly and kindly."}]
            for turn in range(draw.choice((1, 1, 2))):
                messages.append({"role": "user", "content": f"{draw.choice(texts)} {number}/{turn}?"})
                messages.append({"role": "assistant", "content": f"{draw.choice(texts)}."})
            file.write(msgspec.json.format(msgspec.json.encode({"messages": messages}), indent=0) + b"\n")


def measure(command: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of a process with its children."""
    start, used = time.perf_counter(), _processor_seconds()
    process = _start(command)
    if process.wait():
        raise SystemExit(f"{command[0]} failed with {process.returncode}")
    return time.perf_counter() - start, _processor_seconds() - used


def largest_memory(command: list[str]) -> float:
    """The largest memory, in MB, of a process and its children: in a run of its own, since looking takes time."""
    process, largest = _start(command), 0
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        largest = max(largest, sum(_memory(tree)))
        time.sleep(0.02)
    return largest / 1e6


def _start(command: list[str]) -> subprocess.Popen[bytes]:
    quiet = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    environment = os.environ | quiet
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode, on either side
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)


def _processor_seconds() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _memory(tree: psutil.Process) -> Iterator[int]:
    try:
        for one in (tree, *tree.children(recursive=True)):
            yield one.memory_info().rss
    except psutil.NoSuchProcess:
        return


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--peer", help="an interpreter under which `datasets` can be imported")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        write_rows(path, asked.rows)
        size = path.stat().st_size / 1e6
        print(f"{asked.rows:,} rows, {size:.0f} MB, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        path.read_bytes() if size < 1000 else None  # into the page cache, for everybody
        commands = {
            f"tuneport check, {workers} process{'es' * (workers > 1)}": [
                sys.executable,
                "-c",
                _CHECK.format(workers=workers),
                str(path),
            ]
            for workers in asked.workers
        }
        commands["the command, tuneport check"] = [sys.executable, "-m", "tuneport.cli", "check", str(path)]
        if asked.peer:
            cache = str(Path(folder) / "cache")
            commands["datasets load"] = [asked.peer, "-c", _LOAD, str(path), cache]
        memory = {name: largest_memory(command) for name, command in commands.items()}
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(asked.runs):
            for name, command in commands.items():
                shutil.rmtree(Path(folder) / "cache", ignore_errors=True)
                results[name].append(measure(command))
        peer = statistics.median(run[0] for run in results.get("datasets load", [(0.0, 0.0)]))
        for name, runs in results.items():
            seconds, busy = (statistics.median(run[column] for run in runs) for column in (0, 1))
            ratio = f"  {peer / seconds:5.2f} x datasets" if peer else ""
            speed = f"{seconds:7.2f} s  ({busy:.2f} s of processors)  {size / seconds:6.0f} MB/s"
            print(f"{name:30} {speed}  {memory[name]:6.0f} MB{ratio}")


if __name__ == "__main__":
    main()
