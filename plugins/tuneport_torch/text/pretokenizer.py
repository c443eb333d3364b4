"""Pre-tokenizers, which split text before a byte-level BPE merges it: steps in tokenizer.json, a name in a GGUF file.

llama.cpp knows some of them by name (`tokenizer.ggml.pre`, src/llama-vocab.cpp). A wrong name is not an error there,
but lowers the quality of answers. So the name is derived from the steps, never from the model's name.
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

# By llama.cpp's name: the steps, and whether a piece that is a token skips merges. GPT-2's own split is ByteLevel's.
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
    """llama.cpp's name for the pre-tokenizer of a tokenizer.json. Raises UnsupportedError if it has none.

    Unicode normalization to NFC is accepted: llama.cpp skips it for every model, and most text is in that form.
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
    raise _unknown("splits text in a way that is not one of " + ", ".join(_KNOWN))


def with_pretokenizer(tokenizer: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The tokenizer.json with the pre-tokenizer that a GGUF file's `tokenizer.ggml.pre` names. transformers ignores it.

    Raises UnavailableError for an unknown name.
    """
    known = _KNOWN.get(_ALIASES.get(name, name))
    if known is None:
        raise UnavailableError(
            f"The file's pre-tokenizer, {name[:80]!r}, is not supported for GGUF files.",
            remedy="Use the folder or hub model that the file was made from.",
        )
    steps, ignore_merges = known
    made = [_to_json(step) for step in steps]
    pre_tokenizer = made[0] if len(made) == 1 else {"type": "Sequence", "pretokenizers": made}
    return {
        **tokenizer,
        "pre_tokenizer": pre_tokenizer,
        "model": {**tokenizer["model"], "ignore_merges": ignore_merges},
    }


def _steps(part: Mapping[str, Any] | None) -> Steps:
    """The pre-tokenizer's steps as in `_KNOWN`; unknown steps stay as they are."""
    if part is None:
        return ()
    parts: Sequence[Mapping[str, Any]] = part["pretokenizers"] if part["type"] == "Sequence" else [part]
    return tuple(_step(one) for one in parts)


def _step(part: Mapping[str, Any]) -> tuple[Any, ...]:
    match part:
        case {"type": "Digits", "individual_digits": each}:
            return "Digits", each
        case {"type": "ByteLevel", "add_prefix_space": False, **rest}:
            return "ByteLevel", rest.get("use_regex", True)
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
            return "Split", regex
    return part["type"], repr(part)


def _to_json(step: tuple[Any, ...]) -> dict[str, Any]:
    kind, value = step
    if kind == "Digits":
        return {"type": kind, "individual_digits": value}
    if kind == "Split":
        return {"type": kind, "pattern": {"Regex": value}, "behavior": "Isolated", "invert": False}
    return {"type": kind, "add_prefix_space": False, "trim_offsets": True, "use_regex": value}


def _unknown(why: str) -> UnsupportedError:
    return UnsupportedError(
        f"The model's tokenizer {why}: llama.cpp would tokenize text differently from training.",
        remedy="Export it as: merged",
    )
