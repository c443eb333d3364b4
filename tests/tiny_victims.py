"""Processes to be killed. As a program: imports torch once, then forks a process for each task that it reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TENSORS = ("weights", "optimizer")


class Victims:
    """Starts tasks in processes of their own, one at a time, and kills them."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, **task: Any) -> int:
        """The process that does the task."""
        self.parent.stdin.write(json.dumps(task) + "\n")
        return int(self.parent.stdout.readline())

    def end(self) -> int:
        """How the process ended: its exit code, or minus the signal's number."""
        return int(self.parent.stdout.readline())

    def kill(self, pid: int) -> bool:
        """Kill it now; whether that was what ended it."""
        os.kill(pid, signal.SIGKILL)  # until `end` is read, the pid cannot belong to another
        return self.end() == -signal.SIGKILL

    def close(self) -> None:
        self.parent.stdin.close()
        self.parent.wait(30)
        self.parent.stdout.close()


def checkpoint(step: int, size: int) -> dict[str, dict[str, Any]]:
    """The tensors that are saved after a step, different for each."""
    import torch

    return {name: {"w": torch.arange(size, dtype=torch.float32) + step * len(name)} for name in TENSORS}


def save(folder: str, size: int) -> None:
    """Save one checkpoint after another, from the newest whole one on, for ever. The first stays the best."""
    from tuneport_torch.checkpoint import Store

    store = Store(Path(folder), keep=1)
    saved = store.newest_whole()
    step = saved.step if saved else 0
    while True:
        step += 1
        store.save(step, checkpoint(step, size), {"best_step": 1})


def train(folder: str, options: dict[str, Any]) -> None:
    """Train to the end, each event a line of events.jsonl, the result in result.json."""
    import tiny_training as tiny

    log = os.open(f"{folder}/events.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    data = {"train": tiny.rows(30), "validation": tiny.rows(8, seed=9)}
    done = tiny.trained(
        Path(folder) / "checkpoints",
        tell=lambda event: os.write(log, json.dumps(event).encode() + b"\n"),
        **data,
        **options,
    )
    weights = {name: [str(weight.dtype), weight.flatten().tolist()] for name, weight in done.weights.items()}
    (Path(folder) / "result.json").write_text(json.dumps({"result": asdict(done.result), "weights": weights}))


def main() -> None:
    import torch

    torch.set_num_threads(1)  # and no threads before a fork
    import tiny_training as tiny

    tiny.model()
    tasks = {"save": save, "train": train}
    for line in sys.stdin:
        task = SimpleNamespace(**json.loads(line))
        pid = os.fork()
        if not pid:
            try:
                tasks[task.do](**{name: value for name, value in vars(task).items() if name != "do"})
                os._exit(0)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
