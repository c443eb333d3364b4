"""The last message of a training whose settings ask for an export."""

from __future__ import annotations

from pathlib import Path

import pytest

from torch_jobs import begin, no_worker_is_left, settled  # noqa: F401 - the second is a fixture
from tuneport import Status

pytestmark = pytest.mark.timeout(240)


def test_a_model_that_was_not_exported_is_there_and_says_what_to_type(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "whole", count=8, mode="full", export="adapter")  # a whole model has no adapter
    state = settled(job)
    assert state.status is Status.SUCCEEDED
    assert "Not exported (adapter): " in state.message
    assert state.remedy == "Export it as: merged. Run: tuneport export torch:whole --kind KIND -o PATH"
    assert any(event.level == "warning" and "Not exported" in event.message for event in job.events())
    assert job.result().ask("Hello", max_tokens=1) is not None


def test_an_export_that_was_made_needs_no_word(tiny_llama: Path, own_home: Path) -> None:
    job = begin(tiny_llama, "exported", count=8, export="adapter")
    state = settled(job)
    assert (state.status, state.remedy) == (Status.SUCCEEDED, None)
    assert (job.folder.path / "export-adapter" / "adapter_model.safetensors").is_file()
