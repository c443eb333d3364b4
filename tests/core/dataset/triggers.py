"""For every code: the smallest data with the finding, and similar data without it."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuneport import Dataset
from tuneport.dataset import Example
from tuneport.plugin import DataRules


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """`bad` and `good` are complete files; docs/checks.md shows `shown` instead of `bad` if it is set."""

    bad: str | bytes
    good: str | bytes
    shown: str | None = None
    suffix: str = ".jsonl"
    held_out: str | None = None
    rules: DataRules | None = None
    options: dict[str, Any] = field(default_factory=dict)
    load: dict[str, Any] = field(default_factory=dict)

    @property
    def example(self) -> str:
        """The example in the documentation."""
        if self.shown is None:
            assert isinstance(self.bad, str)
            return self.bad.rstrip("\n")
        return self.shown

    def codes(self, folder: Path, data: str | bytes) -> set[str]:
        """The codes that a check of the data finds."""
        path, other = folder / f"rows{self.suffix}", folder / "held_out.jsonl"
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
        against = None
        if self.held_out is not None:
            other.write_text(self.held_out, encoding="utf-8")
            against = Dataset.load(other)
        return set(Dataset.load(path, **self.load).check(self.rules, against=against, **self.options).counts)


def row(*turns: str | dict[str, Any], **more: Any) -> str:
    """A chat row: texts are alternately the user's and the assistant's, dictionaries are turns."""
    roles = ("user", "assistant") * len(turns)
    messages = [
        turn if isinstance(turn, dict) else {"role": role, "content": turn}
        for role, turn in zip(roles, turns, strict=False)
    ]
    return json.dumps({"messages": messages, **more}, ensure_ascii=False) + "\n"


def turn(role: str, content: Any = "Hello", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def labels(**counts: int) -> str:
    rows = [row(f"{label} {index}", label) for label, times in counts.items() for index in range(times)]
    return "".join(rows)


def _tokens(batch: Sequence[Example]) -> list[int]:
    return [9 if "long" in repr(example) else 3 for example in batch]


GOOD = row("Hello", "Hi")
CALL = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "rain", "parameters": {"type": "object"}}}
ASKED = turn("assistant", None, tool_calls=[CALL])
ANSWER = turn("tool", "no", tool_call_id="1")
CALLED = row("Rain?", ASKED, ANSWER, turn("assistant", "It is dry."), tools=[TOOL])
PAIR = '{"prompt": "Hello", "chosen": "Hi", "rejected": "Go away"}\n'
DEEP = "[" * 101 + "]" * 101


def _call(**function: Any) -> str:
    call = {"id": "1", "type": "function", "function": {"name": "rain", "arguments": "{}"} | function}
    return row("Rain?", turn("assistant", None, tool_calls=[call]), tools=[TOOL])


def _swallow(rows: int) -> str:
    """A table with a quote that the last row closes."""
    inside = "".join(f"Message {number},greeting\n" for number in range(rows))
    return f'text,label\n"24 inches,screen\n{inside}and 27"",screen",screen\n'


def _workbook(*sheets: str) -> bytes:
    """An .xlsx file with these sheets, each with one row."""
    from openpyxl import Workbook

    book, file = Workbook(), io.BytesIO()
    book.remove(book.worksheets[0])
    for name in sheets:
        sheet = book.create_sheet(name)
        sheet.append(["text", "label"])
        sheet.append(["Hello", "greeting"])
    book.save(file)
    return file.getvalue()


FILES = {
    "no-rows": Trigger(bad="\n", good=GOOD, shown="(an empty file)"),
    "utf-16": Trigger(bad=GOOD.encode("utf-16"), good=GOOD, shown="(a file saved as UTF-16)"),
    "broken-gzip": Trigger(
        bad=gzip.compress(GOOD.encode() * 9)[:-9],
        good=gzip.compress(GOOD.encode()),
        suffix=".jsonl.gz",
        shown="(a .gz file without its end)",
    ),
    "expands-too-much": Trigger(
        bad=gzip.compress(GOOD.encode() + b" " * (80 << 20)),
        good=gzip.compress(GOOD.encode() * 99),
        suffix=".jsonl.gz",
        shown="(a .gz file of 80 kB that expands to 80 MB)",
    ),
    "other-encoding": Trigger(
        bad="text,label\nZu spät,delay\nGrüße,greeting\n".encode("latin-1"),
        good="text,label\nZu spät,delay\nGrüße,greeting\n",
        suffix=".csv",
        shown="(a CSV file saved as Latin-1)",
    ),
    "other-file": Trigger(bad=b"%PDF-1.7\n", good=GOOD, shown="(a PDF document named rows.jsonl)"),
    "not-json-lines": Trigger(
        bad=f"[{GOOD.rstrip()}]", good=GOOD, load={"format": "jsonl"}, shown=f"[{GOOD.rstrip()}] (with --format jsonl)"
    ),
    "read-as-json": Trigger(bad=f"[{GOOD.rstrip()}]", good=GOOD),
    "row-numbers": Trigger(
        bad=f"[{GOOD.rstrip()}, {GOOD.rstrip()}]",
        good=f"[{GOOD},\n{GOOD}]",
        suffix=".json",
        shown='[{"text": "Hello", "label": "greeting"}, {"text": "Bye", "label": "farewell"}]',
    ),
    "one-sheet": Trigger(
        bad=_workbook("Tickets", "Notes"),
        good=_workbook("Tickets"),
        suffix=".xlsx",
        shown="(a workbook with two sheets)",
    ),
    "byte-order-mark": Trigger(bad="\ufeff" + GOOD, good=GOOD, shown=f"<U+FEFF>{GOOD.rstrip()}"),
    "no-row": Trigger(
        bad="| text | label |\n|---|---|\n| Hello | greeting |\n",
        good="text,label\n---,greeting\n",
        suffix=".csv",
    ),
    "total-line": Trigger(
        bad="text,label\nHello,greeting\nTotal,1\n", good="text,label\nThe total?,bill\n", suffix=".csv"
    ),
    "names-as-row": Trigger(
        bad='{"text": "Hello", "label": "greeting"}\n{"text": "text", "label": "label"}\n',
        good='{"text": "Hello", "label": "greeting"}\n{"text": "text", "label": "type"}\n',
    ),
    "crlf": Trigger(bad=GOOD.replace("\n", "\r\n"), good=GOOD, shown=f"{GOOD.rstrip()}<CR><LF>"),
    "cr-line-ends": Trigger(
        bad="text,label\rHello,greeting\r",
        good="text,label\nHello,greeting\n",
        suffix=".csv",
        shown="text,label<CR>Hello,greeting<CR>",
    ),
    "separator-line": Trigger(
        bad="sep=;\ntext;label\nHello;greeting\n", good="text;label\nHello;greeting\n", suffix=".csv"
    ),
    "unnamed-column": Trigger(
        bad=",text,label\n0,Hello,greeting\n", good="text,label\nHello,greeting\n", suffix=".csv"
    ),
    "column-names": Trigger(bad="Text, Label\nHello, greeting\n", good="text,label\nHello,greeting\n", suffix=".csv"),
    "blank-line": Trigger(bad=f"{GOOD}\n{GOOD}", good=GOOD * 2),
    "unused-columns": Trigger(
        bad="text,label,id\nHello,greeting,7\n", good="text,label\nHello,greeting\n", suffix=".csv"
    ),
    "context-column-unused": Trigger(
        bad='{"text": "Is it red?", "label": "yes", "documents": ["It is red."]}\n',
        good='{"text": "Is it red?", "label": "yes", "document_id": 7}\n',
    ),
    "read-as-context": Trigger(
        bad='{"context": "It is red.", "question": "Which color?", "answer": "red"}\n',
        good='{"question": "Which color?", "answer": "red"}\n',
    ),
    "read-as-turns": Trigger(
        bad='{"system": "Be brief.", "prompt": "Hello", "completion": "Hi"}\n',
        good='{"prompt": "Hello", "completion": "Hi"}\n',
    ),
    "needs-other-method": Trigger(bad=PAIR, good=GOOD),
    "no-column-names": Trigger(
        bad="text,text,label\nHello,x,greeting\n", good="text,label\nHello,greeting\n", suffix=".csv"
    ),
}
TEXT = {
    "row-too-large": Trigger(bad=GOOD + row("x" * (33 << 20), "Hi"), good=GOOD, shown="(a row of more than 32 MiB)"),
    "not-utf8": Trigger(
        bad=row("Café", "Hi").encode() + row("Café", "Hi").encode("latin-1"),
        good=row("Café", "Hi"),
        shown="(Café in Latin-1, with the byte E9, in a file that is otherwise UTF-8)",
    ),
    "invalid-json": Trigger(bad=GOOD + GOOD.replace("]}", "],}"), good=GOOD),
    "not-an-object": Trigger(bad=f'{GOOD}["Hello", "Hi"]\n', good=GOOD),
    "duplicate-key": Trigger(
        bad='{"question": "1+1", "answer": "2", "answer": "3"}\n', good='{"question": "1+1", "answer": "2"}\n'
    ),
    "non-finite-number": Trigger(bad='{"text": "Hello", "label": Infinity}\n', good='{"text": "Hello", "label": 1}\n'),
    "number-too-large": Trigger(bad='{"text": "Hello", "label": 1e400}\n', good='{"text": "Hello", "label": 1}\n'),
    "lone-surrogate": Trigger(
        bad='{"text": "Hello \\ud83d", "label": "greeting"}\n',
        good='{"text": "Hello \\ud83d\\ude00", "label": "greeting"}\n',
    ),
    "too-deep": Trigger(
        bad=f'{{"text": "Hello", "label": "greeting", "more": {DEEP}}}\n',
        good='{"text": "Hello", "label": "greeting", "more": [[[]]]}\n',
        shown='{"text": "Hello", "label": "greeting", "more": [[[[ (and 97 more) ]]]]}',
    ),
    "ragged-row": Trigger(
        bad="text,label\nHello, you,greeting\n", good='text,label\n"Hello, you",greeting\n', suffix=".csv"
    ),
    "bad-quoting": Trigger(
        bad='text,label\n"Hello" you,greeting\n', good='text,label\n"Hello ""you""",greeting\n', suffix=".csv"
    ),
    "swallowed-rows": Trigger(
        bad=_swallow(12), good=_swallow(0), suffix=".csv", shown=_swallow(2) + "(and ten or more such lines)"
    ),
    "rows-in-a-cell": Trigger(bad=_swallow(4), good=_swallow(0), suffix=".csv"),
}
SHAPE = {
    "unknown-shape": Trigger(
        bad='{"left": "Hello", "right": "Hi"}\n', good='{"prompt": "Hello", "completion": "Hi"}\n'
    ),
    "mixed-shapes": Trigger(bad=f'{GOOD}{{"prompt": "Hello", "completion": "Hi"}}\n', good=GOOD * 2),
    "missing-value": Trigger(bad='{"text": "Hello", "label": null}\n', good='{"text": "Hello", "label": "greeting"}\n'),
    "not-text": Trigger(bad='{"text": "Hello", "label": ["greeting"]}\n', good='{"text": "Hello", "label": 7}\n'),
    "read-as-text": Trigger(
        bad='{"prompt": "2 + 2 =", "completion": 4}\n', good='{"prompt": "2 + 2 =", "completion": "4"}\n'
    ),
    "bad-history": Trigger(
        bad='{"instruction": "And now?", "output": "Yes.", "history": "We spoke before."}\n',
        good='{"instruction": "And now?", "output": "Yes.", "history": [["Is it?", "No."]]}\n',
    ),
    "kto-row": Trigger(
        bad='{"prompt": "Hello", "completion": "Go away", "label": false}\n',
        good='{"prompt": "Hello", "completion": "Hi", "label": "greeting"}\n',
    ),
    "no-messages": Trigger(bad='{"messages": []}\n', good=GOOD),
    "bad-message": Trigger(bad='{"messages": ["Hello", "Hi"]}\n', good=GOOD),
    "bad-content": Trigger(bad=row(turn("user", 7), "Hi"), good=row(turn("user", "7"), "Hi")),
    "bad-part": Trigger(
        bad=row(turn("user", [{"type": "text"}]), "Hi"),
        good=row(turn("user", [{"type": "text", "text": "Hello"}]), "Hi"),
    ),
    "unknown-key": Trigger(bad=row(turn("user", mood="glad"), "Hi"), good=row(turn("user", name="Ann"), "Hi")),
}
TURNS = {
    "read-as-turn": Trigger(bad=row(turn("User", "Rain?"), turn("model", "No.")), good=row("Rain?", "No.")),
    "missing-role": Trigger(bad=row({"content": "Hello"}, "Hi"), good=GOOD),
    "empty-role": Trigger(bad=row(turn(""), "Hi"), good=GOOD),
    "unknown-role": Trigger(bad=row(turn("customer"), "Hi"), good=row(turn("developer"), "Hello", "Hi")),
    "no-assistant": Trigger(bad=row("Hello"), good=GOOD),
    "nothing-to-train-on": Trigger(
        bad=row("Hello", turn("assistant", "Hi", weight=0)), good=row("Hello", turn("assistant", "Hi", weight=1))
    ),
    "empty-answer": Trigger(bad=row("Hello", " "), good=GOOD),
    "empty-prompt": Trigger(
        bad='{"prompt": "", "completion": "Once there was"}\n',
        good='{"prompt": "Once", "completion": " there was"}\n',
    ),
    "empty-content": Trigger(bad=row("", "Hi"), good=GOOD),
    "consecutive-roles": Trigger(
        bad=row(turn("user"), turn("user"), turn("assistant", "Hi")), good=row("Hello", "Hi", "Bye", "Bye")
    ),
    "last-not-assistant": Trigger(bad=row("Hello", "Hi", "Bye"), good=GOOD),
    "system-not-first": Trigger(
        bad=row(turn("user"), turn("system", "Be brief."), turn("assistant", "Hi")),
        good=row(turn("system", "Be brief."), turn("user"), turn("assistant", "Hi")),
    ),
    "bad-reasoning": Trigger(
        bad=row("2+2?", turn("assistant", "4", reasoning_content=["Easy."])),
        good=row("2+2?", turn("assistant", "4", reasoning_content="Easy.")),
    ),
    "bad-weight": Trigger(
        bad=row("Hello", turn("assistant", "Hi", weight=0.5)), good=row("Hello", turn("assistant", "Hi", weight=1.0))
    ),
    "weight-not-on-assistant": Trigger(
        bad=row(turn("user", weight=1), "Hi"), good=row("Hello", turn("assistant", "Hi", weight=1))
    ),
    "edge-whitespace": Trigger(bad=row("Hello", " Hi"), good=row("Hello", "Hi\n\nthere")),
    "no-value": Trigger(bad=row("Hello", "nan"), good=row("Hello", "nanny")),
    "python-text": Trigger(
        bad='{"question": "Who?", "answer": "[\'Ann\', \'Bob\']"}\n',
        good='{"question": "Who?", "answer": "[\\"Ann\\"]"}\n',
    ),
    "turns-as-text": Trigger(
        bad=json.dumps({"question": '[{"role": "user", "content": "Hello"}]', "answer": "Hi"}) + "\n",
        good=json.dumps({"question": '[{"name": "Ann"}]', "answer": "Hi"}) + "\n",
    ),
    "html-entities": Trigger(bad=row("It&#39;s late", "Yes"), good=row("A & B; it's late", "Yes")),
    "invisible-character": Trigger(
        bad=row("Hello", "greeting\u200b"),
        good=row("Hello", "greeting"),
        shown=row("Hello", "greeting<U+200B>").rstrip(),
    ),
    "mojibake": Trigger(bad=row("A cafÃ©", "Hi"), good=row("A café", "Hi")),
    "control-character": Trigger(
        bad=row("Hello\u0000", "Hi"),
        good=row("Hello\tyou", "Hi"),
        shown=json.dumps({"text": "Hello\u0000", "label": "greeting"}),
    ),
    "replacement-character": Trigger(bad=row("A caf\ufffd", "Hi"), good=row("A café", "Hi")),
    "line-separator": Trigger(
        bad=row("Hello\u2028you", "Hi"), good=row("Hello\nyou", "Hi"), shown=row("Hello<U+2028>you", "Hi").rstrip()
    ),
}
TOOLS = {
    "read-as-tool": Trigger(bad=row("Rain?", "No.", tools=[TOOL["function"]]), good=CALLED),
    "read-as-tool-call": Trigger(bad=_call(arguments={"city": "Oslo"}), good=_call(arguments='{"city": "Oslo"}')),
    "null-left-out": Trigger(
        bad=row("Rain?", "No.", tools=[{**TOOL, "strict": None}]), good=row("Rain?", "No.", tools=[TOOL], more=None)
    ),
    "bad-tool": Trigger(bad=row("Rain?", "No.", tools=["rain"]), good=CALLED),
    "tool-without-schema": Trigger(
        bad=row("Rain?", "No.", tools=[{"type": "function", "function": {"name": "rain"}}]), good=CALLED
    ),
    "bad-tool-call": Trigger(bad=row("Rain?", turn("assistant", None, tool_calls=[{"id": "1"}])), good=CALLED),
    "tool-arguments-not-json": Trigger(bad=_call(arguments="Oslo"), good=_call(arguments='{"city": "Oslo"}')),
    "tool-not-declared": Trigger(bad=_call(name="snow"), good=_call()),
    "tool-call-unanswered": Trigger(
        bad=row("Rain?", ASKED, turn("assistant", "It is dry."), tools=[TOOL]), good=CALLED
    ),
    "tool-answer-without-call": Trigger(
        bad=row("Rain?", turn("assistant", "One moment."), ANSWER, turn("assistant", "No.")), good=CALLED
    ),
}
PREFERENCE = {
    "identical-arms": Trigger(bad='{"prompt": "Hello", "chosen": "Hi", "rejected": "Hi"}\n', good=PAIR),
    "differing-prompts": Trigger(
        bad=json.dumps(
            {
                "chosen": [turn("user", "One"), turn("assistant", "1")],
                "rejected": [turn("user", "Two"), turn("assistant", "2")],
            }
        )
        + "\n",
        good=PAIR,
    ),
    "empty-arm": Trigger(bad='{"prompt": "Hello", "chosen": "Hi", "rejected": ""}\n', good=PAIR),
}
RULES = {
    "shape-not-taken": Trigger(bad=PAIR, good=GOOD, rules=DataRules()),
    "role-not-taken": Trigger(
        bad=row(turn("developer", "Be brief."), turn("user"), turn("assistant", "Hi")),
        good=GOOD,
        rules=DataRules(roles=frozenset({"system", "user", "assistant"})),
    ),
    "tools-not-taken": Trigger(bad=CALLED, good=GOOD, rules=DataRules(tools=False)),
    "images-not-taken": Trigger(
        bad=row(turn("user", [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]), "A cat."),
        good=GOOD,
        rules=DataRules(images=False),
    ),
    "too-long": Trigger(
        bad=row("A long question", "Hi"),
        good=GOOD,
        rules=DataRules(max_tokens=5, count_tokens=_tokens),
        shown="(a row of 9,000 tokens, for a model that accepts 8,192)",
    ),
    "too-few-rows": Trigger(
        bad=GOOD, good=GOOD * 10, rules=DataRules(min_rows=10), shown="(9 rows, for a backend that requires 10)"
    ),
    "file-too-large": Trigger(
        bad=GOOD * 9,
        good=GOOD,
        rules=DataRules(max_bytes=200),
        shown="(a file of 600 MB, for a service that accepts 512 MB)",
    ),
}
ROWS = {
    "duplicate": Trigger(bad=GOOD * 2, good=GOOD + row("Bye", "Bye")),
    "near-duplicate": Trigger(bad=GOOD + row("hello!", "Hi"), good=GOOD + row("Bye", "Bye")),
    "conflicting-answers": Trigger(bad=GOOD + row("Hello", "Go away"), good=GOOD + row("Bye", "Bye")),
    "leaked-row": Trigger(bad=GOOD, good=row("Bye", "Bye"), held_out=GOOD, shown=f"{GOOD.rstrip()} (in both files)"),
    "leaked-prompt": Trigger(
        bad=row("Hello", "Go away"),
        good=GOOD,
        held_out=GOOD,
        shown=f"{row('Hello', 'Go away').rstrip()}\n{GOOD.rstrip()} (in the held-out file)",
    ),
    "label-imbalance": Trigger(
        bad=labels(yes=50, no=5), good=labels(yes=40, no=5), shown="(50 rows with the answer yes, 5 with the answer no)"
    ),
    "label-spellings": Trigger(
        bad=labels(lost_card=9, **{"Lost card": 9}),
        good=labels(lost_card=9, found_card=9),
        shown="(9 rows with the label lost_card, 9 with Lost card)",
    ),
    "single-label": Trigger(bad=labels(yes=9), good=labels(yes=9, no=9), shown="(every row has the answer yes)"),
    "few-rows": Trigger(bad=GOOD, good="".join(row(f"{n} + 1?", f"{n + 1}") for n in range(50)), shown="(49 rows)"),
}
NOTES = {
    "plain-text": Trigger(
        bad='{"prompt": "Hello", "completion": "Hi"}\n',
        good=GOOD,
        rules=DataRules(has_template=lambda: True),
    ),
    "base-note": Trigger(
        bad=GOOD,
        good=GOOD,
        rules=DataRules(notes=("This base has no chat template.",)),
        shown="(any data; the model has no chat template)",
    ),
}
TRIGGERS = FILES | TEXT | SHAPE | TURNS | TOOLS | PREFERENCE | RULES | NOTES | ROWS
