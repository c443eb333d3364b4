"""How long `import tuneport` and `tuneport --help` take, compared with Python and the libraries they use, and
how long until a training of rows that are checked has a worker.

    python benchmarks/startup.py                  # 30 rounds
    python benchmarks/startup.py --rounds 100
    python benchmarks/startup.py --rounds 5 --start 10000     # also start jobs of so many rows (and cancel them)

Whole processes are timed by turns, so that a busy machine troubles all alike: by the wall clock, and by the processor
time that each used, which other processes disturb less. The promises are of an idle machine: an import within 40 ms of
a bare interpreter, the help under 200 ms, a job of 10,000 checked rows started within a second.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "bare interpreter": ("-c", "pass"),
    "import tuneport": ("-c", "import tuneport"),
    "import typer": ("-c", "import typer"),
    "tuneport --help": ("-m", "tuneport.cli", "--help"),
    "tuneport check --help": ("-m", "tuneport.cli", "check", "--help"),
}

_START = """
import contextlib, sys, time, tuneport
from tuneport.config import config_from_flags
from tuneport.workflow import starting
checked = tuneport.Dataset.load(sys.argv[1]).check()
choice = starting.choose(config_from_flags({"model": "torch:smollm2-135m", "data": {"train": sys.argv[1]}}))
begin, used = time.perf_counter(), time.process_time()
job = starting.start(choice.with_rows(checked.dataset))
print(time.perf_counter() - begin, time.process_time() - used)
job.cancel()
with contextlib.suppress(tuneport.errors.JobCancelled):
    job.wait()
"""
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def once(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one process."""
    before, start = _children(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=_ENVIRONMENT)
    return time.perf_counter() - start, _children() - before


def start_job(rows: int) -> tuple[float, float]:
    """Wall-clock and processor seconds that starting a job takes once its rows are checked, in a home of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        with path.open("w") as file:
            for number in range(rows):
                said = {"user": f"What is {number} and {number}? " * 10, "assistant": f"It is {2 * number}. " * 10}
                turns = [{"role": role, "content": text.strip()} for role, text in said.items()]
                file.write(json.dumps({"messages": turns}) + "\n")
        environment = _ENVIRONMENT | {"TUNEPORT_HOME": folder, "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", _START, str(path)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    wall, processor = map(float, done.stdout.split())
    return wall, processor


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the start of tuneport.")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--start", type=int, metavar="ROWS", help="also time starting jobs of so many rows, 5 times")
    asked = parser.parse_args()
    rounds = asked.rounds
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for turn in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            found = once(arguments)
            if turn:  # the first round fills the file cache and writes bytecode
                measured[name].append(found)
    walls = {name: statistics.median(wall for wall, _ in found) for name, found in measured.items()}
    cpus = {name: statistics.median(cpu for _, cpu in found) for name, found in measured.items()}
    bare = "bare interpreter"
    print(f"medians of {rounds} rounds   wall ms   × bare   processor ms   more than bare, wall ms")
    for name in COMMANDS:
        print(
            f"{name:<21} {1000 * walls[name]:>12.0f} {walls[name] / walls[bare]:>8.1f} {1000 * cpus[name]:>14.0f}"
            f" {1000 * (walls[name] - walls[bare]):>16.0f}"
        )
    if asked.start:
        started = [start_job(asked.start) for _ in range(5)]
        wall, processor = (statistics.median(found[column] for found in started) for column in (0, 1))
        print(f"a job of {asked.start:,} checked rows is started in {wall:.2f} s ({processor:.2f} s of processors)")


if __name__ == "__main__":
    main()
