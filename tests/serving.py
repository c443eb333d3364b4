"""A real `tuneport serve` in a separate process, for tests: started, used, killed and started again."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai

from tuneport_server.access.tokens import AccessTokens
from tuneport_server.store import Store

PARROT = Path(__file__).parent / "core" / "loader" / "parrot.py"
PATIENCE = 60.0


def install_plugin(site: Path, module: Path) -> Path:
    """A plugin of one module as an installed package, in a folder to put on PYTHONPATH."""
    name = module.stem
    info = site / f"{name}-0.1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(module, site / module.name)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text(f"[tuneport]\n{name} = {name}\n")
    return site


def install_parrot(site: Path) -> Path:
    """The parrot backend, installed in that folder."""
    return install_plugin(site, PARROT)


PAIRS = [("My card never arrived", "card"), ("I forgot my PIN", "pin"), ("refund still missing", "refund")] * 4


def jsonl(pairs=PAIRS) -> bytes:
    rows = [
        {"messages": [{"role": "user", "content": f"{question} {number}"}, {"role": "assistant", "content": answer}]}
        for number, (question, answer) in enumerate(pairs)
    ]
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


class Served:
    """One home and the server on it. `start` may be called again after `kill`; the port stays."""

    def __init__(self, home: Path, *arguments: str, site: Path | None = None, descriptors: int | None = None) -> None:
        self.home = home
        self._descriptors = descriptors
        self._arguments = arguments
        self._environment = {**os.environ, "TUNEPORT_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        if site is not None:
            paths = (str(site), os.environ.get("PYTHONPATH"))
            self._environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self.process: subprocess.Popen[str] | None = None
        self.token = ""
        self.port = 0
        self.printed: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> Served:
        self.log = self.home.with_suffix(".log").open("a")
        limited = ("sh", "-c", f'ulimit -n {self._descriptors}; exec "$@"', "sh") if self._descriptors else ()
        self.process = subprocess.Popen(
            [*limited, sys.executable, "-m", "tuneport.cli", "serve", "--port", str(self.port), *self._arguments],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line)
            if found := re.match(r"token +(\S+)", line):
                self.token = found[1]
            if found := re.match(r"serving +http://\S+:(\d+)/v1", line):
                self.port = int(found[1])
                return self
        raise AssertionError(f"the server ended: {self.stderr()}")

    def client(self, token: str | None = None, **options) -> openai.OpenAI:
        return openai.OpenAI(api_key=token or self.token, base_url=self.url, timeout=PATIENCE, **options)

    def add_token(self, name: str) -> str:
        """What `tuneport access add` does, without a process of its own."""
        store = Store(self.home / "server" / "server.sqlite3")
        try:
            return AccessTokens(store).add(name)
        finally:
            store.close()

    def remove_token(self, name: str) -> None:
        """What `tuneport access remove` does."""
        store = Store(self.home / "server" / "server.sqlite3")
        try:
            AccessTokens(store).remove(name)
        finally:
            store.close()

    def run(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "tuneport.cli", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True).stdout

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        self.log.close()
        self.process = None
        return code

    def stderr(self) -> str:
        return self.home.with_suffix(".log").read_text()


def until_over(client: openai.OpenAI, id_: str, seconds: float = PATIENCE):
    """Poll a fine-tuning job until it is over."""
    deadline = time.monotonic() + seconds
    while (job := client.fine_tuning.jobs.retrieve(id_)).status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return job


def until_checked(client: openai.OpenAI, id_: str, seconds: float = 2 * PATIENCE):
    """Poll a file until its check is over."""
    deadline = time.monotonic() + seconds
    while (file := client.files.retrieve(id_)).status == "uploaded":
        assert time.monotonic() < deadline, file
        time.sleep(0.05)
    return file
