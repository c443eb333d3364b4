"""Exports a GGUF file with the Modelfile from which Ollama builds a model.

Ollama does not run the chat template in a GGUF file: it uses a similar one of its own, or none, and then sends plain
text. So the Modelfile contains the template in Ollama's language, Go's text/template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneport.errors import UnsupportedError
from tuneport_torch import bases
from tuneport_torch.export.atomic import atomic_output
from tuneport_torch.export.card import CardFacts, card
from tuneport_torch.export.gguf_file import check_gguf, export_gguf
from tuneport_torch.text.load import load_codec

if TYPE_CHECKING:
    from tuneport_torch.bases import Base
    from tuneport_torch.text.codec import Codec

Turns = Sequence[tuple[str, str]]
"""(role, content) of each message."""

_S, _U, _A, _V = "=S=", "=U=", "=A=", "=V="  # placeholders for contents, which no template writes
_PROBES: tuple[Turns, ...] = (
    (("user", "Hi"),),
    (("system", "Be brief."), ("user", "Où ?\n\nIt's 5 o'clock.")),
    (("user", "a"), ("assistant", "b"), ("user", "c {x} \"y\" 'z'")),
    (("system", "s"), ("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4\n5"), ("user", "6")),
)


def export_ollama(base: Base, folder: Path, facts: CardFacts | None = None, *, dtype: str | None = None) -> Path:
    """Write a folder with the GGUF file, its Modelfile and a model card; see `export_gguf` for the file and its errors.

    Raises UnsupportedError for a chat template that cannot be expressed in Ollama's language.
    """
    base, known = bases.fetch(base), facts or CardFacts()
    check_gguf(base, dtype)
    codec = load_codec(base)
    try:
        written = make_modelfile(base, codec, known.file)
    finally:
        codec.close()
    with atomic_output(folder) as draft:
        export_gguf(base, draft / known.file, dtype=dtype)
        (draft / "Modelfile").write_text(written, encoding="utf-8")
        (draft / "README.md").write_text(card(base, "ollama", known), encoding="utf-8")
    return folder


def make_modelfile(base: Base, codec: Codec, file: str) -> str:
    """The Modelfile for a GGUF file in the same folder: template, training's system prompt, and stop texts."""
    record = bases.read_record(base.path) or {}
    plain = record.get("style") == "plain" or codec.template is None
    system = record.get("lineage", {}).get("system")
    stops = [codec.decode([stop], keep_control=True) for stop in codec.stop_ids]
    parts = [
        f"FROM ./{file}",
        f'TEMPLATE """{"{{ .Prompt }}" if plain else _Pieces.of(codec).go()}"""',
        *([f"SYSTEM {_quote(system)}"] if system and not plain else []),
        *(f'PARAMETER stop "{stop}"' for stop in stops if '"' not in stop),
    ]
    return "\n".join(parts) + "\n"


@dataclass(frozen=True, slots=True)
class _Pieces:
    """A template that only puts fixed texts around contents: around a system prompt or in place of one, around a user
    turn (including the assistant's opening), and after an answer.
    """

    before_system: str
    after_system: str
    without_system: str
    before_user: str
    after_user: str
    after_answer: str
    at_end: str
    """The end of the prompt after the assistant's opening, such as an empty thinking block."""

    @classmethod
    def of(cls, codec: Codec) -> _Pieces:
        """Find the pieces by rendering placeholders, then check them on other contents. Raises UnsupportedError."""
        full, single = _render(
            codec, [(("system", _S), ("user", _U), ("assistant", _A), ("user", _V)), (("user", _U),)]
        )
        bos = codec.decode(codec.prefix_ids, keep_control=True)  # the tokenizer adds it, not the template
        full, single = full.removeprefix(bos), single.removeprefix(bos)
        try:
            start, rest = full.split(_S)
            between, rest = rest.split(_U)
            opening, rest = rest.split(_A)
            closing, end = rest.split(_V)
            alone, _ = single.split(_U)
        except ValueError:
            raise _not_expressible() from None
        before_user = _common_end([between, closing, alone])
        for stop in filter(None, (codec.decode([one], keep_control=True) for one in codec.stop_ids)):
            before_user = before_user.rpartition(stop)[2]  # it ends the turn before, with the space after it
        before_user = before_user.lstrip()
        cut = -len(before_user) or None
        found = cls(start, between[:cut], alone[:cut], before_user, opening, closing[:cut], end.removeprefix(opening))
        if not end.startswith(opening) or any(mark in found.go() for mark in ('"""', _S, _U, _A, _V)):
            raise _not_expressible()
        for probe, wanted in zip(_PROBES, _render(codec, _PROBES), strict=True):
            if bos + found.render(probe) != bos + wanted.removeprefix(bos):
                raise _not_expressible()
        return found

    def render(self, turns: Turns) -> str:
        """What Ollama renders for a conversation with `go`, up to the model's answer."""
        system = [content for role, content in turns if role == "system"]
        texts = [f"{self.before_system}{system[0]}{self.after_system}" if system else self.without_system]
        for role, content in turns:
            if role == "user":
                texts.append(f"{self.before_user}{content}{self.after_user}")
            elif role == "assistant":
                texts.append(f"{content}{self.after_answer}")
        return "".join([*texts, self.at_end])

    def go(self) -> str:
        """The same in Go's text/template, with Ollama's variables."""
        system = f"{_escape(self.before_system)}{{{{ .System }}}}{_escape(self.after_system)}"
        user = f"{_escape(self.before_user)}{{{{ .Content }}}}{_escape(self.after_user)}"
        answer = f"{{{{ .Content }}}}{_escape(self.after_answer)}"
        return (
            f"{{{{ if .System }}}}{system}{{{{ else }}}}{_escape(self.without_system)}{{{{ end }}}}"
            f'{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{user}'
            f'{{{{ else if eq .Role "assistant" }}}}{answer}{{{{ end }}}}{{{{ end }}}}'
            f"{_escape(self.at_end)}"
        )


def _render(codec: Codec, conversations: Sequence[Turns]) -> list[str]:
    assert codec.template is not None
    rows = [
        {"messages": [{"role": role, "content": content} for role, content in turns], "tools": [], "prompt": True}
        for turns in conversations
    ]
    answers = codec.template.rows(rows)
    if any("error" in answer for answer in answers):
        raise _not_expressible()
    return [answer["text"] for answer in answers]


def _common_end(texts: Sequence[str]) -> str:
    """The longest common end of the texts."""
    first = texts[0]
    return next(first[at:] for at in range(len(first) + 1) if all(text.endswith(first[at:]) for text in texts))


def _escape(text: str) -> str:
    return text.replace("{{", '{{ "{{" }}')


def _quote(text: str) -> str:
    if '"""' in text:
        raise UnsupportedError(
            'The system prompt of training contains """, which is not possible in a Modelfile.',
            remedy="Export it as: gguf",
        )
    return f'"""{text}"""'


def _not_expressible() -> UnsupportedError:
    return UnsupportedError(
        "The model's chat template does more than put fixed texts around turns, so it cannot be expressed in Ollama's "
        "language.",
        remedy="Export it as: gguf. llama.cpp uses the template in the file: llama-cli --jinja",
    )
