"""How a byte-level tokenizer cuts text before it merges: a program in tokenizer.json, one word in a GGUF file.

Llama.cpp knows some such programs by name (`tokenizer.ggml.pre`, src/llama-vocab.cpp). A wrong name is no error there:
it costs quality only. So a name is told by what the tokenizer does, never by what the model is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tuneport.errors import UnavailableError, UnsupportedError

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"

Steps = tuple[tuple[Any, ...], ...]

# By llama.cpp's name: the steps, and whether a piece that is a token needs no merges. GPT-2's own cut is ByteLevel's.
_KNOWN: dict[str, tuple[Steps, bool]] = {
    "gpt-2": ((("ByteLevel", True),), False),
    "smollm": ((("Digits", True), ("ByteLevel", True)), False),
    "llama-bpe": ((("Split", _LLAMA3), ("ByteLevel", False)), True),
    "smaug-bpe": ((("Split", _LLAMA3), ("ByteLevel", False)), False),
    "qwen2": ((("Split", _QWEN2), ("ByteLevel", False)), False),
}
_ALIASES = {
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "deepseek-r1-qwen": "qwen2",
    "starcoder": "smollm",
    "refact": "smollm",
    "codeshell": "smollm",
}


def name_of(tokenizer: Mapping[str, Any]) -> str:
    """Llama.cpp's name for what a tokenizer.json does before merging; raises UnsupportedError when it has none.

    Unicode normalisation to NFC passes: llama.cpp leaves it out for every model, and most text is in that form.
    """
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE" or model.get("byte_fallback") or model.get("continuing_subword_prefix"):
        raise _unknown("is not a byte-level BPE")
    normalizer = tokenizer.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise _unknown(f"changes its text first ({normalizer.get('type')})")
    found = _steps(tokenizer.get("pre_tokenizer")), bool(model.get("ignore_merges"))
    for name, known in _KNOWN.items():
        if found == known:
            return name
    raise _unknown("cuts text in a way that is not among " + ", ".join(_KNOWN))


def with_pretokenizer(tokenizer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The tokenizer.json that cuts text as a GGUF file's `tokenizer.ggml.pre` says, which transformers does not read.

    Raises UnavailableError for a name that is not known here.
    """
    known = _KNOWN.get(_ALIASES.get(name, name))
    if known is None:
        raise UnavailableError(
            f"The file's tokenizer cuts text as {name[:80]!r} does, which cannot be read from a GGUF file here.",
            remedy="Name the folder or hub model that the file was made from.",
        )
    steps, ignore_merges = known
    made = [_written(step) for step in steps]
    cut = made[0] if len(made) == 1 else {"type": "Sequence", "pretokenizers": made}
    return {**tokenizer, "pre_tokenizer": cut, "model": {**tokenizer["model"], "ignore_merges": ignore_merges}}


def _steps(told: Mapping[str, Any] | None) -> Steps:
    """The pre-tokenizer's steps as `_KNOWN` writes them; what is unlike any of them stays as it is."""
    if told is None:
        return ()
    parts: Sequence[Mapping[str, Any]] = told["pretokenizers"] if told["type"] == "Sequence" else [told]
    return tuple(_step(part) for part in parts)


def _step(part: Mapping[str, Any]) -> tuple[Any, ...]:
    match part:
        case {"type": "Digits", "individual_digits": each}:
            return "Digits", each
        case {"type": "ByteLevel", "add_prefix_space": False, **rest}:
            return "ByteLevel", rest.get("use_regex", True)
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
            return "Split", regex
    return part["type"], repr(part)


def _written(step: tuple[Any, ...]) -> dict[str, Any]:
    kind, value = step
    if kind == "Digits":
        return {"type": kind, "individual_digits": value}
    if kind == "Split":
        return {"type": kind, "pattern": {"Regex": value}, "behavior": "Isolated", "invert": False}
    return {"type": kind, "add_prefix_space": False, "trim_offsets": True, "use_regex": value}


def _unknown(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"The model's tokenizer {why}: llama.cpp would read text otherwise than the model learnt to.",
        remedy="Export it as: merged",
    )
