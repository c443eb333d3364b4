"""Mutations of a real model folder's files, with an eye for their structure."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

WRONG: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 7, 2**31, 2**63, 2**64, 10**9, 10**30, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "\0", "a" * 20_000, "../../x", "\ud800", [], {}, [[]], ["x"], [1, 2], [2**40], {"a": 1}, {"type": "x"}),
    json.loads("[" * 100 + "]" * 100),
)
"""What a place in a JSON file is replaced with."""

SETTINGS = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("model.safetensors.index.json", "tuneport.json", "model.safetensors", "adapter/adapter_config.json"),
)
"""The files of a folder that have JSON in them; of the weights, the header."""


def places(value: Any, under: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:4]) if isinstance(value, list) else ()
    found = [under] if under else []
    for key, inner in list(inside)[:40]:
        found += places(inner, (*under, key))
    return found


def mutate_json(raw: bytes, draw: Callable[[int], int]) -> bytes:
    """One to three places replaced, removed, renamed or repeated; `draw(n)` gives a number below n."""
    value = json.loads(raw)
    for _ in range(1 + draw(3)):
        found = places(value)
        if not found:
            break
        *above, last = found[draw(len(found))]
        inside = value
        for key in above:
            inside = inside[key]
        what = draw(8)
        if what == 0:
            del inside[last]
        elif what == 1 and isinstance(inside, dict):
            inside[f"{last}_"] = inside.pop(last)
        elif what == 2 and isinstance(inside, list):
            inside += [inside[last]] * 50
        else:
            inside[last] = copy.deepcopy(WRONG[draw(len(WRONG))])
    return json.dumps(value).encode()


def mutate_bytes(raw: bytes, draw: Callable[[int], int], within: int) -> bytes:
    """Bytes among the first `within` changed, cut out, put in, or numbers of 8 bytes made huge."""
    changed = bytearray(raw)
    for _ in range(1 + draw(3)):
        at, what = draw(max(1, min(within, len(changed)))), draw(5)
        if what == 0:
            changed[at : at + 1] = bytes([draw(256)])
        elif what == 1:
            del changed[at : at + 1 + draw(16)]
        elif what == 2:
            changed[at:at] = bytes([draw(256)]) * (1 + draw(16))
        elif what == 3:
            changed[at : at + 8] = (1 << draw(64)).to_bytes(8, "little")
        else:
            del changed[at:]
    return bytes(changed)


def mutate(folder: Path, file: str, draw: Callable[[int], int]) -> None:
    """One file of a folder mutated, with an eye for its structure."""
    path = folder / file
    raw = path.read_bytes()
    if draw(6) == 0:
        path.write_bytes(mutate_bytes(raw, draw, 4096))
    elif file.endswith(".json"):
        path.write_bytes(mutate_json(raw, draw))
    else:
        length = int.from_bytes(raw[:8], "little")
        header = mutate_json(raw[8 : 8 + length], draw)
        path.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length :])
