"""The dataset: an immutable, re-iterable stream of examples, wherever its rows come from."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.dataset import stats
from tuneport.dataset.check import all_rows as across
from tuneport.dataset.check.limits import TooLong, shape_of
from tuneport.dataset.example import Example
from tuneport.dataset.read import source
from tuneport.dataset.read.open_source import recipe_of, source_of
from tuneport.dataset.read.readers import read
from tuneport.dataset.read.sniff import Reading
from tuneport.dataset.read.source import Source
from tuneport.dataset.read.values import line_of
from tuneport.dataset.result import CheckResult, file_findings, readings
from tuneport.dataset.rules import DataRules, Piece
from tuneport.dataset.scan.scan import Limits, Scan, Selection, batches, scan
from tuneport.dataset.write import named_jsonl, new_file, write
from tuneport.doors import public
from tuneport.errors import DataError, UsageError
from tuneport.homefolder import local_path
from tuneport.printable import one_line
from tuneport.units import many

_SHOWN = 500  # characters of a row in a notebook

if TYPE_CHECKING:
    from tuneport.dataset.fix.fix import FixResult


class _Origin:
    """What a dataset and its views share: the source, how its rows are read, and the pass over it once one was made."""

    def __init__(self, source: Source, columns: Mapping[str, str], system: str | None) -> None:
        self.source = source
        self.recipe, self.loose_names = recipe_of(source, columns, system)
        self.workers: int | None = None

    @cached_property
    def scan(self) -> Scan:
        if self.source.splittable:
            from tuneport.dataset.scan.workers import scan_with

            return scan_with(self.source, self.recipe, self.workers)
        return scan(self.source, self.recipe)


@public()
class Dataset:
    """An immutable, re-iterable stream of examples: conversations, preferences or completions.

    Rows are read as they are asked for, so that its size does not matter. Iterating gives the rows without errors;
    `check` says what is wrong with the others.
    """

    def __init__(self, origin: _Origin, keep: bytes | None = None) -> None:
        self._origin = origin
        self._keep = keep

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
        an iterable of rows, or a data frame. Known shapes are recognized; see docs/checks.md.

        `columns` says which column plays which role, such as `{"text": "body", "label": "queue"}`. `system` is put in
        front of conversations that bring no system prompt. `encoding` is that of a text file, such as `latin-1`; UTF-8
        where none is named. `sheet` names the sheet of a workbook; the first one where none is named. Raises UsageError
        when there is nothing to open.

        >>> data = Dataset.load([{"question": "2 + 2?", "answer": "4"}])
        >>> len(data)
        1
        """
        how = Reading(format, encoding, sheet)
        return cls(_Origin(source_of(source, how), columns or {}, system))

    @classmethod
    def from_examples(cls, examples: Iterable[Example]) -> Dataset:
        """A dataset of examples made in Python; they are read once and kept."""
        return cls(_Origin(source.of_rows(examples, "examples", line_of, {}), {}, None))

    def __iter__(self) -> Iterator[Example]:
        selection = Selection(self._keep)
        for batch in batches(self._origin.source, self._origin.recipe):
            for outcome in selection.of(batch):
                if (example := outcome.accepted()) is not None:
                    yield example

    def lines(self) -> Iterator[bytes]:
        """Each example as its canonical JSON text, of which the fingerprint is made: what a job keeps of its rows. Much
        faster than the examples themselves.
        """
        place = 0
        for batch in batches(self._origin.source, self._origin.recipe):
            for line in batch.canonical():
                if self._keep is None or self._keep[place]:
                    yield line
                place += 1

    def __len__(self) -> int:
        return self._origin.scan.used if self._keep is None else self._keep.count(1)

    def __repr__(self) -> str:
        counted = self._keep is not None or "scan" in vars(self._origin)
        rows = many(len(self), "row") if counted else "rows not counted yet"
        return one_line(f"<Dataset {self.name}: {rows}>")

    def _repr_html_(self) -> str:
        """For a notebook: the name, and the first rows as they were understood. Reads no more than those."""
        from tuneport.dataset.preview import untokenised
        from tuneport.html import card, grid

        rows = [["".join(piece.text for piece in untokenised(one))[:_SHOWN]] for one in islice(self, 3)]
        return card(repr(self).strip("<>"), [("format", self.format)], grid(["first rows"], rows))

    @property
    def name(self) -> str:
        """What findings call the file: its path as it was given, or what was given instead of one."""
        return self._origin.source.name

    @property
    def format(self) -> str:
        """The file's format."""
        return self._origin.source.format

    @property
    def shape(self) -> str | None:
        """The name of the shape that the rows were recognised as, such as `messages` or `text/label`; None of none."""
        return self._origin.recipe.shape if self._origin.recipe else None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it was read from; none for rows that came from Python or standard input."""
        found = self._origin.source
        return (found.path,) if found.path is not None and found.spool is None else ()

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 over the SHA-256 of each example's canonical text, in order."""
        if self._keep is None:
            return self._origin.scan.fingerprint
        sha = hashlib.sha256()
        for kept, (_, digest) in zip(self._keep, self._origin.scan.index(), strict=True):
            if kept:
                sha.update(digest)
        return sha.hexdigest()

    def check(
        self,
        rules: DataRules | None = None,
        *,
        method: str = "sft",
        against: Dataset | Sequence[Dataset] | None = None,
        too_long: TooLong = "stop",
        workers: int | None = None,
    ) -> CheckResult:
        """Check every row, and all rows together; with a rules, also against what that backend takes.

        `against` is held-out data, or several, that must not share rows with this. A row that is longer than the
        rules's `max_tokens` is an error, unless `too_long` is `drop` (it is left out) or `truncate` (the backend cuts
        it): then it is a warning. `workers` is how many processes may read; by default as many as there are processors.
        """
        self._origin.workers = workers
        rules = rules.for_rows(self) if rules else None
        found = self._scan(Limits(rules, method, too_long) if rules else None)
        findings = found.findings.copy()
        file_findings(self._origin.recipe, found, rules, method, findings)
        if loose := self._origin.loose_names:
            findings.add("column-names", f"Columns are read by other spellings of their names: {', '.join(loose)}.")
        across.check_repeats(found.records, findings)
        for held_out in (against,) if isinstance(against, Dataset) else against or ():
            other = held_out._scan()  # noqa: SLF001 - one of its own kind
            across.check_leaks(found.records, other.records, findings, other=held_out.name)
        across.check_labels(found.tally.labels(), findings)
        across.check_size(found.used, rules, findings)
        used = self._view(found.kept)
        used.fingerprint = found.fingerprint  # known now, which spares another pass
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
            stats=found.tally.stats(),
            dataset=used,
        )

    def split(self, holdout: float = 0.0, validation: float = 0.0, seed: int = 0) -> tuple[Dataset, ...]:
        """Two or three parts: training first, then validation and holdout, those that were asked for as a fraction.

        Which part a row goes to depends on its turns, without the system prompt, and the seed alone: duplicates and
        near-duplicates go together, and rows stay where they are when others are added. The sizes are therefore near
        the fractions, not equal to them; no part is empty. Raises UsageError when there are too few different rows.

        >>> data = Dataset.load([{"question": f"{n} + {n}?", "answer": str(2 * n)} for n in range(50)])
        >>> train, holdout = data.split(holdout=0.1)
        >>> len(train) + len(holdout)
        50
        """
        from tuneport.dataset.split import assign

        if not holdout and not validation:
            raise UsageError("There is nothing to split off.", remedy="Say for example split(holdout=0.1).")
        chosen = assign(self.text_keys(), [part for part in (validation, holdout) if part], seed)
        return tuple(self._view(bytes(here == part for here in chosen)) for part in range(max(chosen) + 1))

    def sample(self, rows: int, seed: int = 0) -> Dataset:
        """That many rows, or all if there are fewer, chosen by content and seed; they keep their order."""
        from tuneport.dataset.split import choose

        if rows < 1:
            raise UsageError(f"A sample of {rows} rows is empty.", remedy="Ask for at least 1.")
        keep = bytearray(len(self))
        for place in choose(self.text_keys(), rows, seed):
            keep[place] = 1
        return self._view(keep)

    def stats(self, rules: DataRules | None = None) -> stats.Stats:
        """The rows in numbers: shapes, roles, turns, characters, labels; tokens where the rules counts them."""
        if rules is not None and rules.count_tokens is not None:
            return stats.collect(self, rules.for_rows(self))
        return self._scan().tally.stats()

    def preview(self, rules: DataRules, rows: int = 3) -> list[list[Piece]]:
        """What is trained on in the first `rows` examples; raises UnavailableError without a tokenizer."""
        from tuneport.dataset.preview import preview

        return preview(self, rules.for_rows(self), rows)

    def readings(self, rules: DataRules | None = None, rows: int = 3) -> tuple[str, ...]:
        """How the first `rows` examples are understood, in sentences: which columns beside the answer are used, and
        whether prompts and completions are plain text or turns.
        """
        shapes = {shape_of(example) for example in islice(self, rows)}
        return tuple(message for _, message in readings(self._origin.recipe, shapes, rules))

    def write(self, path: str | os.PathLike[str], format: str = "auto") -> Path:  # noqa: A002 - the word that users say
        """Write the examples to a new JSONL file (`.gz`: compressed), in the shapes that trainers take; see
        docs/checks.md. Returns its path; raises UsageError when it is there already.
        """
        return write(self, local_path(path), format, len(self.stats().shapes))

    def fix(
        self,
        path: str | os.PathLike[str],
        *,
        remedies: Iterable[str] | None = None,
        against: Dataset | None = None,
        changes_to: str | os.PathLike[str] | None = None,
        drop_most: bool = False,
    ) -> FixResult:
        """Write a new JSONL file with remedies applied, and say what changed, row by row.

        `remedies` are codes of findings; by default `safe`, those that lose nothing. `against` is held-out data, for
        `leaked-row`. `changes_to` is a file for all changes, one JSON object a line. Raises UsageError when a file is
        there already, DataError when no row is left, or when errors would drop most rows and `drop_most` is not set.
        """
        from tuneport.dataset.fix.fix import fix

        if self._keep is not None:
            raise UsageError("Only a whole file can be fixed, not a part of one.", remedy="Load the file and fix that.")
        if self._origin.recipe is None:
            errors = [one for one in self.check().diagnostics if one.severity == "error"]
            worst = max(errors, key=lambda one: one.line is not None, default=None)  # a row tells more
            why, cure = (worst.message, worst.remedy) if worst else ("It has no rows.", None)
            raise DataError(f"{self.name} cannot be fixed: {why}", remedy=cure)
        named_jsonl(Path(path))
        for target in (path, changes_to):
            if target is not None:
                new_file(Path(target))
        return fix(
            read(self._origin.source),
            self._origin.recipe,
            local_path(path),
            remedies=remedies,
            held_out=against,
            changes_to=local_path(changes_to) if changes_to is not None else None,
            drop_most=drop_most,
        )

    def text_keys(self) -> array[int]:
        """A number of 64 bits for each row, in order: equal where the texts are, whatever their case, spaces, quotes or
        system prompt.
        """
        keys = self._origin.scan.text_keys()
        return keys if self._keep is None else array("Q", compress(keys, self._keep))

    def _scan(self, limits: Limits | None = None) -> Scan:
        if limits is not None:
            return scan(self._origin.source, self._origin.recipe, limits, self._keep)
        return self._origin.scan if self._keep is None else self._own_scan

    @cached_property
    def _own_scan(self) -> Scan:
        return scan(self._origin.source, self._origin.recipe, None, self._keep)

    def _view(self, keep: bytes | bytearray) -> Dataset:
        """The rows of this dataset for which `keep`, a byte a row, is not 0."""
        if 0 not in keep:
            return self
        if self._keep is not None:
            inner = iter(keep)
            keep = bytes(kept and next(inner) for kept in self._keep)
        return Dataset(self._origin, bytes(keep))
