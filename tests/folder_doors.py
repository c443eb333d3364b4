"""The doors by which a model's folder is read. As a program: imports torch once, then forks for each folder."""

from __future__ import annotations

import gc
import json
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from pathlib import Path
from typing import Any

from tuneport.errors import TuneportError, UnavailableError

MEMORY_BYTES = 500 * 10**6
PROCESSOR_SECONDS = 10
LOOK_SECONDS = 0.02
WAIT_SECONDS = 120.0  # of the wall clock: others may be at work on the machine
ROWS = (("user", "My card never arrived."), ("assistant", "card"))


class Doors:
    """Goes through every door with one folder after another; first with a sound one, so that no fork imports much."""

    def __init__(self, home: Path, sound: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(sound)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "TUNEPORT_HOME": str(home)},
        )

    def go(self, path: Path, *doors: str) -> dict[str, str]:
        """What each door gave: ok, or the TuneportError. A fault is whatever begins with FAULT."""
        self.process.stdin.write(json.dumps([str(path), doors]) + "\n")
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def check(path: str) -> None:
    from tuneport_torch import TorchBackend

    TorchBackend().check_base(path)


def plan(path: str) -> None:
    from torch_jobs import request
    from tuneport_torch import TorchBackend

    TorchBackend().plan(request(path, "plan", count=4))


def text(path: str) -> None:
    from tuneport_torch.bases import resolve
    from tuneport_torch.text.load import load_codec

    one = load_codec(resolve(path))
    try:
        for said in ("", "a" * 2000, "My card never arrived.\n" * 50, "\u4e2d\u6587 \U0001f642 \ufdfa"):
            one.decode(one.encode(said).ids)
    finally:
        one.close()


def ask(path: str) -> None:
    from tuneport_torch import TorchModel

    model = TorchModel.base(path)
    try:
        model.ask(ROWS[0][1], max_tokens=3)
    finally:
        model.close()


def train(path: str) -> None:
    """Write a job as `start` does, and be its worker."""
    from torch_jobs import request
    from tuneport.local.folder import Folder
    from tuneport.local.owner import Owner
    from tuneport.local.starting import write_job
    from tuneport.local.worker import Worker
    from tuneport_torch import TorchBackend

    asked = request(path, f"door-{uuid.uuid4().hex[:12]}", count=4)
    folder = Folder.named("torch", asked.name)
    folder.path.mkdir(parents=True)
    try:
        with Owner.take(folder) as owner:
            write_job(TorchBackend(), asked, owner)
            Worker(owner, TorchBackend()).run()
            now = owner.now
    finally:
        shutil.rmtree(folder.path)
    if now.status != "succeeded":
        assert now.remedy, now.message
        assert "please report" not in now.remedy, now.message
        raise UnavailableError(now.message, remedy=now.remedy)


def load(path: str) -> None:
    from tuneport_torch.bases import resolve
    from tuneport_torch.bases.loading import load_model

    load_model(resolve(path))


def follow(path: str) -> None:
    """Ask with all options that read more of the tokenizer and of the logits."""
    from tuneport_torch import TorchModel

    schema = {"type": "object", "properties": {"label": {"enum": ["card", "pin"]}}, "required": ["label"]}
    model = TorchModel.base(path)
    try:
        model.ask(ROWS[0][1], max_tokens=10, schema=schema, logprobs=3, frequency_penalty=1.0)
    finally:
        model.close()


def export(path: str) -> None:
    """Write a GGUF file and a Modelfile."""
    from tuneport_torch import TorchModel

    with tempfile.TemporaryDirectory() as folder:
        TorchModel.base(path).export(Path(folder) / "made", kind="ollama")


DOORS = {
    "check": check,
    "plan": plan,
    "text": text,
    "train": train,
    "load": load,
    "ask": ask,
    "follow": follow,
    "export": export,
}
ALL = ("check", "plan", "text", "ask")


def _through(path: str, doors: list[str], answers: int) -> None:
    """In the fork: go through the doors, a line for each."""
    os.setsid()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, used + MEMORY_BYTES))
    for door in doors or ALL:
        spent = int(time.process_time())
        limit = spent + PROCESSOR_SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        try:
            DOORS[door](path)
            said = "ok"
        except TuneportError as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:  # noqa: BLE001 - a panic of a Rust library is what is looked for, too
            where = "".join(traceback.format_tb(error.__traceback__))
            said = f"FAULT {where[-1500:]}{type(error).__name__}: {error!s:.300}"
        os.write(answers, json.dumps([door, said]).encode() + b"\n")


def _memory(pid: int) -> int:
    """The bytes that a process and those below it hold and share with no file."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        below = " ".join(one.read_text() for one in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:  # it has ended
        return 0
    own = re.search(r"RssAnon:\s+(\d+)", status)
    return (int(own[1]) * 1024 if own else 0) + sum(_memory(int(one)) for one in below.split())


def main() -> None:
    import torch

    torch.set_num_threads(1)  # and no threads before a fork
    import transformers.models.llama.modeling_llama  # noqa: F401 - so that no fork needs to
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401 - likewise

    import torch_jobs  # noqa: F401 - likewise
    from tuneport_torch import backend

    for door in (*ALL, "train"):
        DOORS[door](sys.argv[1])
    backend._renderer.cache_clear()  # its children are not the forks'
    gc.collect()
    gc.freeze()

    for line in sys.stdin:
        path, doors = json.loads(line)
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            try:
                _through(path, doors, writer)
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writer)
        heard, deadline = b"", time.monotonic() + WAIT_SECONDS
        first = peak = _memory(pid)
        while time.monotonic() < deadline:
            if select.select([reader], [], [], LOOK_SECONDS)[0]:
                block = os.read(reader, 65536)
                if not block:
                    break
                heard += block
            peak = max(peak, _memory(pid))
        else:
            os.killpg(pid, signal.SIGKILL)
        os.close(reader)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found: dict[str, Any] = dict(json.loads(one) for one in heard.splitlines())
        if code:
            found["end"] = f"FAULT ended with {code} after {list(found)}"
        if peak - first > MEMORY_BYTES:
            found["memory"] = f"FAULT took {(peak - first) / 1e6:,.0f} MB"
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
