"""Plugins that observe a local training get its events from the worker, and cannot harm it."""

from __future__ import annotations

import json
import os
import textwrap
from pathlib import Path

import pytest

import tuneport
from torch_jobs import (
    SMALL,
    gone,
    log,
    no_worker_is_left,  # noqa: F401 - a fixture
    rows,
    settled,
)


def plugin(folder: Path, name: str, code: str) -> None:
    """An installed distribution with one plugin in it."""
    (folder / f"{name}.py").write_text("import tuneport.plugin\nTUNEPORT_API = 1\n" + textwrap.dedent(code))
    information = folder / f"{name}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[tuneport]\n{name} = {name}\n")


@pytest.mark.timeout(120)
def test_observers_see_every_event_in_order_and_cannot_break_a_training(
    tiny_llama: Path, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, seen = tmp_path / "site", tmp_path / "seen.jsonl"
    site.mkdir()
    plugin(
        site,
        "recorder",
        f"""
        import json
        @tuneport.plugin.hookimpl
        def tuneport_on_event(job, event):
            with open({str(seen)!r}, "a") as stream:
                stream.write(json.dumps([str(job.ref), event.seq]) + "\\n")
        """,
    )
    plugin(
        site,
        "quitter",
        """
        @tuneport.plugin.hookimpl
        def tuneport_on_event(job, event):
            raise SystemExit("I quit")
        """,
    )
    monkeypatch.setenv("PYTHONPATH", str(site) + os.pathsep + os.environ.get("PYTHONPATH", ""))
    job = tuneport.train(f"torch:{tiny_llama}", rows(20), epochs=1, settings=SMALL)
    assert settled(job).status is tuneport.Status.SUCCEEDED, log(job)
    assert gone(job)
    delivered = [json.loads(line) for line in seen.read_text().splitlines()]
    assert delivered == [[str(job.ref), event.seq] for event in job.events()]
    assert "The observer quitter failed: SystemExit: I quit" in log(job)
