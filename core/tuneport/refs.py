"""References, `backend:name`, which name base models, tuned models and jobs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tuneport.doors import public
from tuneport.errors import RefError

_BACKEND = re.compile(r"[a-z][a-z0-9_-]{0,63}\Z")
_SURROGATE = re.compile("[\ud800-\udfff]")  # no database and no request accepts it


def is_backend_name(text: object) -> bool:
    """Whether a backend can have this name: a small letter, then small letters, digits, `-` and `_`."""
    return isinstance(text, str) and _BACKEND.match(text) is not None


@public()
@dataclass(frozen=True, slots=True)
class Ref:
    """The name of a backend, and a name within it.

    Text is split at the first colon, so names may contain colons. A name that starts with `.`, `~` or `/` is a path.

    >>> Ref.parse("torch:smollm2-135m")
    Ref(backend='torch', name='smollm2-135m')
    >>> str(Ref("openai", "ft:gpt-4.1-mini:acme::abc"))
    'openai:ft:gpt-4.1-mini:acme::abc'
    """

    backend: str
    name: str

    @classmethod
    def parse(cls, text: str | Ref) -> Ref:
        """Parse a reference. Raises RefError if the text is not one."""
        if isinstance(text, Ref):
            return text
        backend, colon, name = text.strip().partition(":")
        if not colon or not name or not _BACKEND.match(backend):
            raise RefError(
                f"{text!r} is not a reference of the form backend:name.",
                remedy="Write, for example, torch:smollm2-135m, or torch:./my-model for a folder. "
                "`tuneport plugins` lists the backends, `tuneport jobs` and `tuneport models` list the names.",
            )
        if _SURROGATE.search(name) and not name.startswith((".", "~", "/")):
            raise RefError(f"{text!a} contains a lone surrogate.", remedy="Remove it from the name.")
        return cls(backend, name)

    def __str__(self) -> str:
        return f"{self.backend}:{self.name}"
