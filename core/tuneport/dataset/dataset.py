"""The dataset, an immutable stream of examples from any source, and the result of checking it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.dataset.check import one_file
from tuneport.dataset.check.limits import TooLong, shape_of
from tuneport.dataset.check_rows import check_rows
from tuneport.dataset.example import Example
from tuneport.dataset.findings.diagnostic import Diagnostic, Severity
from tuneport.dataset.read.objects import encode_row, store_rows
from tuneport.dataset.read.open_source import open_source
from tuneport.dataset.read.readers import read_rows
from tuneport.dataset.read.sniff import ReadOptions
from tuneport.dataset.rows import Origin, Rows
from tuneport.dataset.rules import DataRules, Piece
from tuneport.dataset.scan.fold import Limits
from tuneport.dataset.stats import Stats, collect_stats
from tuneport.dataset.write import require_jsonl_name, require_new, write_examples
from tuneport.doors import public
from tuneport.errors import DataError, UsageError
from tuneport.homefolder import local_path
from tuneport.printable import one_line
from tuneport.units import many

if TYPE_CHECKING:
    from tuneport.dataset.fix.fix import FixResult


@public()
class Dataset:
    """An immutable stream of examples (conversations, preferences or completions) that can be read again and again.

    Rows are read only as they are needed, so a dataset may be of any size. Iterating gives the rows without errors;
    `check` reports what is wrong with the others.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @classmethod
    def load(
        cls,
        source: object,
        format: str = "auto",  # noqa: A002 - the word that users say
        columns: Mapping[str, str] | None = None,
        *,
        system: str | None = None,
        encoding: str | None = None,
        sheet: str | None = None,
    ) -> Dataset:
        """Open a file (JSONL, JSON, CSV, TSV, Parquet, .xlsx, .xls, .ods; text also gzipped), `-` for standard input,
        an iterable of rows, or a data frame. docs/checks.md lists the shapes of rows that are recognized.

        `format` is the kind of file, such as `csv`; by default it is detected. `columns` names the
        column of each role, such as `{"text": "body", "label": "queue"}`. `system` is put in front of conversations
        without a system prompt. `encoding` is that of a text file, such as `latin-1`; by default UTF-8. `sheet` names
        the sheet of a workbook; by default the first one. Raises UsageError when there is nothing to open.

        >>> data = Dataset.load([{"question": "2 + 2?", "answer": "4"}])
        >>> len(data)
        1
        """
        options = ReadOptions(format, encoding, sheet)
        return cls(Rows(Origin(open_source(source, options), columns or {}, system)))

    @classmethod
    def from_examples(cls, examples: Iterable[Example]) -> Dataset:
        """A dataset of examples made in Python; they are read once and kept."""
        return cls(Rows(Origin(store_rows(examples, "examples", encode_row, {}), {}, None)))

    def __iter__(self) -> Iterator[Example]:
        return iter(self._rows)

    def lines(self) -> Iterator[bytes]:
        """Each example as its canonical JSON text, from which the fingerprint is made; jobs store rows this way. Much
        faster than iterating over the examples.
        """
        return self._rows.lines()

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        rows = many(len(self), "row") if self._rows.is_counted else "rows not counted yet"
        return one_line(f"<Dataset {self.name}: {rows}>")

    def _repr_html_(self) -> str:
        """For a notebook. Reads only the first rows."""
        from tuneport.dataset.cards import dataset_card

        return dataset_card(repr(self).strip("<>"), self.format, islice(self, 3))

    @property
    def name(self) -> str:
        """The name in findings: the path as it was given, or the type of what was given."""
        return self._rows.origin.source.name

    @property
    def format(self) -> str:
        """The kind of file, such as `jsonl` or `csv`; `jsonl` for rows from Python."""
        return self._rows.origin.source.format

    @property
    def shape(self) -> str | None:
        """The name of the recognized shape of the rows, such as `messages` or `text/label`; None for an unknown one."""
        recipe = self._rows.origin.recipe
        return recipe.shape if recipe else None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it is read from; none for rows from Python or standard input."""
        return self._rows.files

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the SHA-256 of each example's canonical text, in order."""
        return self._rows.fingerprint

    def check(
        self,
        rules: DataRules | None = None,
        *,
        method: str = "sft",
        against: Dataset | Sequence[Dataset] | None = None,
        too_long: TooLong = "stop",
        workers: int | None = None,
    ) -> CheckResult:
        """Check every row, and all rows together; with `rules`, also against what that backend accepts.

        `against` is held-out data, one or several datasets, that must not share rows with this one. A row longer than
        the rules' `max_tokens` is an error, unless `too_long` is `drop` (it is left out) or `truncate` (the backend
        cuts it): then it is a warning. `workers` is how many processes may read; by default one for each processor.
        """
        rows = self._rows
        rows.origin.workers = workers
        rules = rules.for_rows(self) if rules else None
        limits = Limits(rules, method, too_long) if rules else None
        held_out = (against,) if isinstance(against, Dataset) else against or ()
        found, findings, stats = check_rows(rows, method, limits, [one._rows for one in held_out])  # noqa: SLF001 - same class
        used = rows.select(found.kept)
        used.fingerprint = found.fingerprint  # saves another pass
        return CheckResult(
            file=self.name,
            format=self.format,
            read=found.read,
            used=found.used,
            rejected=found.rejected,
            fingerprint=found.fingerprint,
            diagnostics=tuple(findings.diagnostics(self.name)),
            counts=dict(sorted(findings.counts.items())),
            severities=dict(findings.severities),
            stats=stats,
            dataset=self if used is rows else Dataset(used),
        )

    def split(self, holdout: float = 0.0, validation: float = 0.0, seed: int = 0) -> tuple[Dataset, ...]:
        """Two or three parts: training first, then validation and holdout, each if its fraction is not 0.

        A row's part depends only on its turns, without the system prompt, and on the seed: duplicates and
        near-duplicates stay together, and rows keep their part when others are added. So sizes are near the fractions,
        not equal to them; no part is empty. Raises UsageError when there are too few different rows.

        >>> data = Dataset.load([{"question": f"{n} + {n}?", "answer": str(2 * n)} for n in range(50)])
        >>> train, holdout = data.split(holdout=0.1)
        >>> len(train) + len(holdout)
        50
        """
        from tuneport.dataset.split import assign_parts

        if not holdout and not validation:
            raise UsageError("The split has no fraction.", remedy="Pass one, for example split(holdout=0.1).")
        parts = assign_parts(self.text_keys(), [part for part in (validation, holdout) if part], seed)
        return tuple(self._select(bytes(here == part for here in parts)) for part in range(max(parts) + 1))

    def sample(self, rows: int, seed: int = 0) -> Dataset:
        """That many rows, or all if there are fewer, chosen by content and seed; they keep their order."""
        from tuneport.dataset.split import choose_rows

        if rows < 1:
            raise UsageError(f"A sample of {rows} rows is empty.", remedy="Ask for at least 1.")
        keep = bytearray(len(self))
        for place in choose_rows(self.text_keys(), rows, seed):
            keep[place] = 1
        return self._select(keep)

    def _select(self, keep: bytes | bytearray) -> Dataset:
        selected = self._rows.select(keep)
        return self if selected is self._rows else Dataset(selected)

    def stats(self, rules: DataRules | None = None) -> Stats:
        """The rows in numbers: shapes, roles, turns, characters, labels; tokens where the rules can count them."""
        if rules is not None and rules.count_tokens is not None:
            return collect_stats(self, rules.for_rows(self))
        return self._rows.scan().tally.stats()

    def preview(self, rules: DataRules, rows: int = 3) -> list[list[Piece]]:
        """What is trained on in the first `rows` examples. Raises UnavailableError without a tokenizer."""
        from tuneport.dataset.preview import preview_examples

        return preview_examples(self, rules.for_rows(self), rows)

    def readings(self, rules: DataRules | None = None, rows: int = 3) -> tuple[str, ...]:
        """How the first `rows` examples are understood, in sentences: which columns are used in addition to the answer,
        and whether prompts and completions are plain text or turns.
        """
        shapes = {shape_of(example) for example in islice(self, rows)}
        return tuple(message for _, message in one_file.describe_reading(self._rows.origin.recipe, shapes, rules))

    def write(self, path: str | os.PathLike[str], format: str = "auto") -> Path:  # noqa: A002 - the word that users say
        """Write the examples to a new JSONL file (`.gz`: compressed), in the form that other trainers read; see
        docs/checks.md. Returns its path. Raises UsageError when the file exists.
        """
        return write_examples(self, local_path(path), format, len(self.stats().shapes))

    def fix(
        self,
        path: str | os.PathLike[str],
        *,
        remedies: Iterable[str] | None = None,
        against: Dataset | None = None,
        changes_to: str | os.PathLike[str] | None = None,
        drop_most: bool = False,
    ) -> FixResult:
        """Write a new JSONL file with remedies applied, and report each change.

        `remedies` are codes of findings; by default `safe`, those that lose nothing. `against` is held-out data, for
        `leaked-row`. `changes_to` is a file for all changes, one JSON object a line. Raises UsageError when a file
        exists, DataError when no row is left, or when errors would drop most rows and `drop_most` is not set.
        """
        from tuneport.dataset.fix.fix import fix

        origin = self._rows.origin
        if self._rows.keep is not None:
            raise UsageError(
                "Only a complete file can be fixed, not a part of it.", remedy="Load the file, and fix it."
            )
        if origin.recipe is None:
            raise self._unknown_shape_error()
        require_jsonl_name(Path(path))
        for target in (path, changes_to):
            if target is not None:
                require_new(Path(target))
        return fix(
            read_rows(origin.source),
            origin.recipe,
            local_path(path),
            remedies=remedies,
            held_out=against,
            changes_to=local_path(changes_to) if changes_to is not None else None,
            drop_most=drop_most,
        )

    def _unknown_shape_error(self) -> DataError:
        """The first error of a row, or else of the file."""
        errors = [one for one in self.check().diagnostics if one.severity == "error"]
        first = max(errors, key=lambda one: one.line is not None, default=None)
        why, remedy = (first.message, first.remedy) if first else ("It has no rows.", None)
        return DataError(f"{self.name} cannot be fixed: {why}", remedy=remedy)

    def text_keys(self) -> array[int]:
        """A 64-bit number for each row, in order; equal for rows whose texts differ only in case, spaces, quotes or
        system prompt.
        """
        return self._rows.text_keys()


@public()
@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of a check; `read` is always `used` + `rejected`.

    `diagnostics` has the first findings of each code, by line; `counts` the number of findings of each. `dataset` has
    the rows that are used.
    """

    file: str
    format: str
    read: int
    used: int
    rejected: int
    fingerprint: str
    diagnostics: tuple[Diagnostic, ...]
    counts: Mapping[str, int]
    stats: Stats
    dataset: Dataset = field(repr=False)
    severities: Mapping[Severity, int] = field(repr=False)

    @property
    def errors(self) -> int:
        """The number of errors."""
        return self.severities.get("error", 0)

    @property
    def warnings(self) -> int:
        """The number of warnings."""
        return self.severities.get("warning", 0)

    @property
    def notes(self) -> int:
        """The number of notes."""
        return self.severities.get("note", 0)

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    def __repr__(self) -> str:
        counts = f"{many(self.errors, 'error')}, {many(self.warnings, 'warning')}, {many(self.notes, 'note')}"
        return one_line(f"<CheckResult {self.file}: {self.used:,} of {many(self.read, 'row')} used; {counts}>")

    def _repr_html_(self) -> str:
        """For a notebook."""
        from tuneport.dataset.cards import check_card

        rows = {"read": self.read, "used": self.used, "rejected": self.rejected}
        return check_card(repr(self).strip("<>"), rows, self.diagnostics, self.counts)

    def to_dict(self) -> dict[str, Any]:
        """The object of `tuneport check --json`; `stats.findings` counts the findings by code."""
        return {
            "file": self.file,
            "format": self.format,
            "read": self.read,
            "used": self.used,
            "rejected": self.rejected,
            "fingerprint": self.fingerprint,
            "diagnostics": [one.to_dict() for one in self.diagnostics],
            "stats": {**self.stats.to_dict(), "findings": dict(self.counts)},
        }
