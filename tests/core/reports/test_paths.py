"""A report can be sent to others: it shows the names of files, and no folder of this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from reported_run import a_run
from tuneport.reports import page, without_paths


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Kept the weights in /scratch/jane/jobs/x/step-3.", "Kept the weights in step-3."),
        ("see file:///home/jane/log.txt, and ~/notes/x.md", "see log.txt, and x.md"),
        ("C:\\Users\\jane\\rows.csv is gone; \\\\nas\\jane\\rows.csv too", "rows.csv is gone; rows.csv too"),
        ("from torch:/srv/models/llama to torch:tickets-7f3a", "from torch:llama to torch:tickets-7f3a"),
        ("https://host.example/jane/x and data/rows.csv and 3/4/5", None),
        ("../data/rows.csv, ./a/b/c, yes/no/maybe, 12 / 3 / 4", None),
    ],
)
def test_a_sentence_keeps_the_names_of_its_paths(text: str, shown: str | None) -> None:
    run = a_run(state={"status": "failed", "message": text})
    hidden = without_paths(replace(run, events=[replace(run.events[0], message=text)]))
    assert hidden.state["message"] == (shown or text)
    assert hidden.events[0].message == (shown or text)


def test_a_report_names_files_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPORT_HOME", str(tmp_path / "jane doe" / "home"))
    spaced = tmp_path / "jane doe" / "my rows.csv"
    spaced.parent.mkdir()
    spaced.write_text("text,label\n")
    message = f"Read {spaced}, wrote {tmp_path}/jane doe/home/jobs/x and /etc/tuneport/x.yaml"
    run = a_run(
        base="torch:/secret/models/llama",
        config={"model": "torch:/secret/models/llama", "data": {"train": str(spaced), "system": "/think about /a/b"}},
        machine={"folder": str(tmp_path / "jane doe" / "home" / "jobs" / "x"), "log": "/secret/x/worker.log"},
        state={
            "status": "failed",
            "message": message,
            "remedy": f"Look into `{spaced}`.",
            "details": {"sent": "/secret/y"},
        },
        check={"file": str(spaced), "read": 3, "diagnostics": [{"code": "x", "pointer": "/a/b", "message": message}]},
    )
    run = replace(run, events=[replace(run.events[0], message=message)])
    html = page(without_paths(run))
    for folder in ("jane doe", "secret", str(tmp_path), "/etc/"):
        assert folder not in html, folder
    for name in ("my rows.csv", "torch:llama", "worker.log", "x.yaml", "/think about /a/b", ">/a/b<"):
        assert name in html, name
    assert run.samples[0].prompt in html
    assert "jane doe" in page(run), "what it hides is there"
