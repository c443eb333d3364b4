"""No row vanishes on its way from the job's snapshot to the loop."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from tuneport import Conversation, Dataset, Message
from tuneport.local.folder import Folder
from tuneport_torch.bases import resolve
from tuneport_torch.text.load import load_codec
from tuneport_torch.text.render import Renderer
from tuneport_torch.text.rows import read_rows

LIMIT = 40


def talk(words: int, answer: int) -> Conversation:
    return Conversation((Message("user", "card " * words + "?"), Message("assistant", "refund " * answer + ".")))


@pytest.mark.parametrize("policy", ["drop", "truncate"])
def test_every_row_that_is_read_is_used_or_counted(tmp_path: Path, tiny_llama: Path, policy: str) -> None:
    """Rows of all lengths around the limit, more than one batch: the snapshot's count is used + dropped."""
    draw, reported = random.Random(2), []
    some = [talk(draw.randrange(45), draw.randrange(1, 25)) for _ in range(600)]
    folder, codec = Folder(tmp_path), load_codec(resolve(str(tiny_llama)))
    count, fingerprint = folder.write_rows("train", Dataset.from_examples(some))
    whole = Renderer(codec).try_render(some)
    fitting = sum(len(row.ids) <= LIMIT for row in whole)
    learnable = sum(any(row.weights[:LIMIT]) for row in whole)
    assert 0 < fitting < learnable < count == 600
    source = SimpleNamespace(
        examples=lambda part: folder.rows(part, fingerprint),
        note=lambda _: None,
        emit=lambda *_, **data: reported.append(data),
    )
    asked = {"options": {"method": "sft", "too_long": policy}, "data": {"train": {"fingerprint": fingerprint}}}
    rows = read_rows(source, asked, codec, LIMIT)
    used = fitting if policy == "drop" else learnable
    assert len(rows.train) == used
    counts = {"read": 600, "used": used, "dropped": 600 - used, "truncated": used - fitting}
    assert reported == [{"level": "warning", **counts}]
    assert [list(row.ids) for row in rows.train] == [
        row.ids[:LIMIT] for row in whole if len(row.ids) <= LIMIT or (policy == "truncate" and any(row.weights[:LIMIT]))
    ]
