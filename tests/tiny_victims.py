"""Processes to be killed. As a program: imports torch once, then forks a process for each task that it reads."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

NOT_PERMITTED = 77  # exit code where a process may not be followed
TENSORS = ("weights", "optimizer")
_TRACE_ME, _NEXT_CALL = 0, 24  # requests of ptrace(2)


class Victims:
    """Starts tasks in processes of their own, one at a time, and kills them."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, **task: Any) -> int:
        """The process that does the task; with `kill_at` it is killed at that system call."""
        self.parent.stdin.write(json.dumps(task) + "\n")
        return int(self.parent.stdout.readline())

    def end(self) -> int:
        """How the process ended: its exit code, or minus the signal's number."""
        return int(self.parent.stdout.readline())

    def kill(self, pid: int) -> bool:
        """Kill it now; whether that was what ended it."""
        with contextlib.suppress(ProcessLookupError):  # it came to its own end, and its parent has seen that
            os.kill(pid, signal.SIGKILL)
        return self.end() == -signal.SIGKILL

    def close(self) -> None:
        for child in psutil.Process(self.parent.pid).children():  # of a test that failed
            child.kill()
        self.parent.kill()
        self.parent.wait()
        self.parent.stdin.close()
        self.parent.stdout.close()


def checkpoint(step: int, size: int) -> dict[str, dict[str, Any]]:
    """The tensors that are saved after a step, different for each."""
    import torch

    return {name: {"w": torch.arange(size, dtype=torch.float32) + step * len(name)} for name in TENSORS}


def save(folder: str, size: int) -> None:
    """Save the checkpoint that follows the newest intact one. The first stays the best."""
    from tuneport_torch.engine.checkpoint import Store

    store = Store(Path(folder), keep=1)
    saved = store.newest_intact()
    step = saved.step + 1 if saved else 1
    tensors = checkpoint(step, size)
    _let_parent_follow()
    store.save_tensors(step, tensors, {"best_step": 1})


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


def _let_parent_follow() -> None:
    """From here on the parent sees each system call; see ptrace(2)."""
    if ctypes.CDLL(None).ptrace(_TRACE_ME, 0, None, None):
        os._exit(NOT_PERMITTED)
    os.kill(os.getpid(), signal.SIGSTOP)


def _followed(pid: int, kill_at: int) -> int:
    """The wait status of a process that is killed as it enters or leaves its `kill_at`-th system call."""
    calls, status = 0, os.waitpid(pid, 0)[1]
    while os.WIFSTOPPED(status):
        if calls == kill_at:
            os.kill(pid, signal.SIGKILL)
        else:
            ctypes.CDLL(None).ptrace(_NEXT_CALL, pid, None, None)
        calls += 1
        status = os.waitpid(pid, 0)[1]
    return status


def main() -> None:
    import torch

    torch.set_num_threads(1)  # and no threads before a fork
    import safetensors.torch  # noqa: F401 - so that the tasks need not

    import tiny_training as tiny

    tiny.model()
    tasks = {"save": save, "train": train}
    for line in sys.stdin:
        task = json.loads(line)
        do, kill_at = tasks[task.pop("do")], task.pop("kill_at", None)
        pid = os.fork()
        if not pid:
            try:
                do(**task)
                os._exit(0)
            finally:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
        print(pid, flush=True)
        status = os.waitpid(pid, 0)[1] if kill_at is None else _followed(pid, kill_at)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
