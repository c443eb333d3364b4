"""How long `import tuneport` and `tuneport --help` take, beside a bare interpreter and the libraries they stand on.

    python benchmarks/startup.py                  # 30 rounds
    python benchmarks/startup.py --rounds 100

Whole processes are timed by turns, so that a busy machine troubles all alike: by the wall clock, and by the processor
time that each used, which other processes disturb less. The promises are of an idle machine: an import within 40 ms of
a bare interpreter, the help under 200 ms.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "bare interpreter": ("-c", "pass"),
    "import tuneport": ("-c", "import tuneport"),
    "import typer": ("-c", "import typer"),
    "tuneport --help": ("-m", "tuneport.cli", "--help"),
    "tuneport check --help": ("-m", "tuneport.cli", "check", "--help"),
}


def once(arguments: tuple[str, ...]) -> tuple[float, float]:
    """Wall-clock and processor seconds of one process."""
    before, start = _children(), time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the start of tuneport.")
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
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


if __name__ == "__main__":
    main()
