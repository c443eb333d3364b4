"""The server searches for a training that may or may not have been started, because it may cost money."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served, install_parrot, install_plugin, jsonl, until_over


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    site = tmp_path / "packages"
    install_plugin(install_parrot(site), Path(__file__).parent / "heron.py")
    served = Served(tmp_path / "home", "--models", "found=heron:gray,lost=heron:white", site=site)
    yield served.start()
    served.end()


def test_an_unconfirmed_start_is_followed_when_found_and_fails_when_certainly_absent(served: Served) -> None:
    with served.client() as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
        jobs = [client.fine_tuning.jobs.create(model=name, training_file=file).id for name in ("found", "lost")]
        found, lost = (until_over(client, job) for job in jobs)
        assert found.status == "succeeded"
        assert (
            client.chat.completions.create(
                model=found.fine_tuned_model, messages=[{"role": "user", "content": "I forgot my PIN"}]
            )
            .choices[0]
            .message.content
            == "pin"
        )
        assert (lost.status, lost.error.code) == ("failed", "training_not_started")
        assert "No list shows" in lost.error.message
