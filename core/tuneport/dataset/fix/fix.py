"""Applies remedies to all rows of a file: writes a new file, and records each change."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from tuneport.dataset.check.repeats import Records, RepeatKind, find_leaks, find_repeats
from tuneport.dataset.check.row_keys import row_keys
from tuneport.dataset.example import Example, canonical, digest, from_canonical
from tuneport.dataset.findings.codes import CODES
from tuneport.dataset.findings.row_report import RowReport
from tuneport.dataset.fix.fix_row import drop_for_error, drop_for_remedy, fix_row
from tuneport.dataset.fix.remedies import Change, choose_remedies
from tuneport.dataset.read.strict_json import BAD
from tuneport.dataset.shapes.recipe import Recipe
from tuneport.dataset.write import choose_encoder, open_new_file
from tuneport.doors import public
from tuneport.errors import DataError, UsageError

KEPT_CHANGES = 1000
"""How many changes a FixResult has; `counts` and the file of changes have all."""

_DROPS: dict[RepeatKind, str] = {
    "duplicate": "duplicate",
    "near-duplicate": "near-duplicate",
    "conflict": "conflicting-answers",
    "leaked-row": "leaked-row",
}
_LINE_SHIFT = (
    32  # a record's place has the row's line in the high bits, its number among the rows written in the low bits
)
_NUMBER_MASK = (1 << _LINE_SHIFT) - 1


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class FixResult:
    """What `fix` did: `read` = `written` + `dropped` rows, `changed` of those written.

    `counts` has the number of changes by code; `changes` the first 1,000 of them, the rows' own before the repeats.
    """

    path: Path
    read: int
    written: int
    changed: int
    dropped: int
    counts: dict[str, int]
    changes: tuple[Change, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "path": str(self.path),
            "read": self.read,
            "written": self.written,
            "changed": self.changed,
            "dropped": self.dropped,
            "counts": self.counts,
            "changes": [change.to_dict() for change in self.changes],
        }

    def __str__(self) -> str:
        head = f"{self.path}: {self.read:,} rows read = {self.written:,} written + {self.dropped:,} dropped"
        lines = [f"{head}; {self.changed:,} of those written are changed"]
        lines += [f"  {count:>9,}  {code}" for code, count in self.counts.items()]
        return "\n".join(lines)


def fix(
    rows: Iterable[tuple[Any, RowReport]],
    recipe: Recipe,
    path: Path,
    *,
    remedies: Iterable[str] | None = None,
    held_out: Iterable[Example] | None = None,
    changes_to: Path | None = None,
    drop_most: bool = False,
) -> FixResult:
    """Write the fixed rows to `path`, which appears only when it is complete; `rows` are those of a reader.

    Raises UsageError for an unknown remedy or a path that cannot be written, DataError where no row is left, or where
    errors would drop more than half of them and `drop_most` is not set.
    """
    wanted = choose_remedies(remedies)
    if "leaked-row" in wanted and held_out is None:
        raise UsageError("leaked-row needs the held-out rows.", remedy="Pass them: fix(…, against=Dataset.load(…)).")
    try:
        return _fix(rows, recipe, path, wanted, held_out, changes_to, drop_most=drop_most)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}.",
            remedy="Free some space, or name a file in a folder that you can write to.",
        ) from error


def _fix(
    rows: Iterable[tuple[Any, RowReport]],
    recipe: Recipe,
    path: Path,
    wanted: frozenset[str],
    held_out: Iterable[Example] | None,
    changes_to: Path | None,
    *,
    drop_most: bool,
) -> FixResult:
    with ExitStack() as stack:
        log = _Log(stack.enter_context(open_new_file(changes_to)) if changes_to is not None else None)
        records = stack.enter_context(Records())
        draft = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
        shapes: set[type] = set()
        flags = _write_draft(rows, recipe, wanted, draft, records, log, shapes)
        if flags and not drop_most:
            _refuse_to_drop_most(log, len(flags), path)
        repeats = [find_repeats(records)]
        if held_out is not None and "leaked-row" in wanted:
            repeats.append(find_leaks(records, stack.enter_context(_records(held_out))))
        for found in repeats:
            _mark_drops(found, wanted, flags, log)
        written = flags.count(_SAME) + flags.count(_CHANGED)
        if not written:
            raise DataError(
                f"No row is left after fixing, so {path} is not written.",
                remedy="To see what is wrong with each row, run: tuneport check",
            )
        _publish(draft, flags, len(shapes), path)
    return FixResult(
        path=path,
        read=written + log.dropped,
        written=written,
        changed=flags.count(_CHANGED),
        dropped=log.dropped,
        counts=dict(log.counts.most_common()),
        changes=tuple(log.kept),
    )


_SAME, _CHANGED, _DROPPED = range(3)


def _write_draft(
    rows: Iterable[tuple[Any, RowReport]],
    recipe: Recipe,
    wanted: frozenset[str],
    draft: BinaryIO,
    records: Records,
    log: _Log,
    shapes: set[type],
) -> bytearray:
    """Fix row by row; returns a flag for each row that was written to the draft."""
    flags = bytearray()
    for values, report in rows:
        if values is BAD:
            _refuse_broken(report)
            log.add(drop_for_error(report, None))
            continue
        # What a reader notes, such as a byte order mark or a blank line, is not in the new file.
        notes = [one for one in report.found if one.level == "note"]
        log.add_all(Change(report.line, None, finding.code, "changed") for finding in notes)
        if values is None:
            continue
        if (change := drop_for_remedy(report, values, wanted)) is not None:
            log.add(change)
            continue
        example, changes = fix_row(recipe, values, report.line, wanted)
        log.add_all(changes)
        if example is not None:
            text = canonical(example)
            place = (report.line or 0) << _LINE_SHIFT | len(flags)
            records.add(row_keys(example, digest(example)), place)
            draft.write(text + b"\n")
            shapes.add(type(example))
            flags.append(_CHANGED if changes else _SAME)
    return flags


def _refuse_broken(report: RowReport) -> None:
    """Raise DataError where the file cannot be read, and not only one of its rows."""
    if report.line is None:
        first = report.found[0]
        raise DataError(f"{first.message} The file cannot be fixed row by row.", remedy=CODES[first.code].remedy)


def _refuse_to_drop_most(log: _Log, kept: int, path: Path) -> None:
    """Raise DataError where errors would drop more rows than remain: probably there is one cause to fix."""
    if log.dropped <= kept:
        return
    code, times = log.dropped_for.most_common(1)[0]
    raise DataError(
        f"{log.dropped:,} of {log.dropped + kept:,} rows would be dropped, {times:,} of them for {code}, so {path} is "
        "not written.",
        remedy=f"{CODES[code].remedy} To see each row: tuneport check. To drop them anyway: --drop-most "
        "(drop_most=True in Python).",
    )


def _mark_drops(found: Iterable[Any], wanted: frozenset[str], flags: bytearray, log: _Log) -> None:
    for repeat in found:
        code = _DROPS.get(repeat.kind)
        number = repeat.place & _NUMBER_MASK
        if code in wanted and flags[number] != _DROPPED:
            flags[number] = _DROPPED
            first = repeat.first >> _LINE_SHIFT
            reason = f"repeats line {first}" if first else f"is row {repeat.first} of the held-out data"
            log.add(Change(repeat.place >> _LINE_SHIFT, None, str(code), "dropped", message=f"The row {reason}."))


def _records(examples: Iterable[Example]) -> Records:
    records = Records()
    for number, example in enumerate(examples, 1):
        records.add(row_keys(example, digest(example)), number)
    return records


def _publish(draft: BinaryIO, flags: bytearray, shapes: int, path: Path) -> None:
    """Write the rows that are kept: in the form of other trainers, or in tuneport's own for several shapes."""
    encode = choose_encoder(shapes)
    draft.seek(0)
    with open_new_file(path) as file:
        for text, flag in zip(draft, flags, strict=True):
            if flag != _DROPPED:
                file.write(encode(from_canonical(text)) + b"\n")


class _Log:
    """Counts the changes, keeps the first ones, and writes all of them to a file if there is one."""

    def __init__(self, file: BinaryIO | None) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[Change] = []
        self.dropped = 0
        self.dropped_for: Counter[str] = Counter()
        self._file = file

    def add(self, change: Change) -> None:
        """Add one change."""
        self.counts[change.code] += 1
        if change.action == "dropped":
            self.dropped += 1
            self.dropped_for[change.code] += 1
        if len(self.kept) < KEPT_CHANGES:
            self.kept.append(change)
        if self._file is not None:
            self._file.write(msgspec.json.encode(change.to_dict()) + b"\n")

    def add_all(self, changes: Iterable[Change]) -> None:
        """Add several."""
        for change in changes:
            self.add(change)
