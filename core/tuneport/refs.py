"""`backend:name`, the one way to name a base model, a tuned model or a job."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tuneport.doors import public
from tuneport.errors import RefError

_BACKEND = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_HALF = re.compile("[\ud800-\udfff]")  # no database and no request takes it


@public()
@dataclass(frozen=True, slots=True)
class Ref:
    """A backend's name and a name within it.

    The text is split at the first colon, so names may hold colons. A name that starts with `.`, `~` or `/` is a path.

    >>> Ref.parse("torch:smollm2-135m")
    Ref(backend='torch', name='smollm2-135m')
    >>> str(Ref("openai", "ft:gpt-4.1-mini:acme::abc"))
    'openai:ft:gpt-4.1-mini:acme::abc'
    """

    backend: str
    name: str

    @classmethod
    def parse(cls, text: str | Ref) -> Ref:
        """Read a ref; raises RefError when the text is not one."""
        if isinstance(text, Ref):
            return text
        backend, colon, name = text.strip().partition(":")
        if not colon or not name or not _BACKEND.match(backend):
            raise RefError(
                f"{text!r} is not a reference of the form backend:name.",
                remedy="Write for example torch:smollm2-135m, or torch:./my-model for a folder. "
                "`tuneport plugins` lists the backends, `tuneport jobs` and `tuneport models` the names.",
            )
        if _HALF.search(name) and not name.startswith((".", "~", "/")):
            raise RefError(f"{text!a} holds half a character.", remedy="Remove it from the name.")
        return cls(backend, name)

    def __str__(self) -> str:
        return f"{self.backend}:{self.name}"
