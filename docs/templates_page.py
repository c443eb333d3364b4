"""Writes docs/templates.md by rendering rows with the chat templates of the package trl: make docs."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))

import published_templates as published  # noqa: E402 - needs the tests' folder on the path

INTRO = """<!-- Written by docs/templates_page.py from what the code does: run `make docs`. -->

# Chat templates

The Python package `trl` contains the chat templates of many models, as their makers publish them, and variants for
training (`…_training`). This table shows what tuneport does with one row of each kind, for `{version}` of the package.
`tests/torch/test_published_templates.py` checks the exact trained texts of every cell.

| cell | what happens |
|---|---|
| trained | Every answer is trained with its end of turn, and nothing else is. |
| last turn | The last turn is trained. The template rewrites earlier turns once others follow, so they are context, \
and a warning counts them. To train one of them, write it as the last turn of a separate row. |
| final answer | The answer after the tool's result is trained. The call is context, for the same reason. |
| no tools | Refused: the template leaves out tools, calls or results. Choose a base model whose template supports \
tools, or write the calls as text. |
| no system | Refused: the template accepts no system turn. Put the system text at the start of the first user turn. |
| no later system | Refused: the template accepts no system turn in the middle, or leaves it out. Put its text into \
the user turn that follows it. |

The kinds: one question and answer; with a system turn; three questions and answers; both; a system turn in the middle;
an answer with a `<think>` block; two of these; a tool call with its result and an answer; the same with ids of one
digit. The block becomes what the template writes for thinking, such as a separate channel. If a template does not
support thinking, the block is trained as text.

"""

CODES = {"tools-ignored": "no tools", "template-refuses": "no system"}


def page() -> str:
    """The page's text."""
    outcomes = published.outcomes()
    kinds = list(published.rows())
    lines = [f"| template | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for name, found in outcomes.items():
        lines.append(f"| `{name}` | {' | '.join(_cell(kind, found[kind]) for kind in kinds)} |")
    return INTRO.replace("{version}", f"Version {published.version()}") + "\n".join(lines) + "\n"


def _cell(kind: str, found: object) -> str:
    if not isinstance(found, tuple):
        if kind == "later system":
            return "no later system"
        return CODES[getattr(found, "code", "")]
    if not found[1]:
        return "trained"
    return "final answer" if kind.startswith("tools") else "last turn"


if __name__ == "__main__":
    if published.folder() is None:
        print("docs/templates.md is unchanged, because the package trl is not installed (pip install --no-deps trl)")
    else:
        (HERE / "templates.md").write_text(page())
