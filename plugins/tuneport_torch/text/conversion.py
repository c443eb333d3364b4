"""A tokenizer.json for a base that has none: a `.gguf` file, or a tokenizer of another kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import UnavailableError
from tuneport.plugin import home
from tuneport_torch import bases
from tuneport_torch.bases.files import model_files
from tuneport_torch.bases.headers import BadHeader, read_gguf
from tuneport_torch.text.child_process import environment
from tuneport_torch.text.pretokenizer import with_pretokenizer

if TYPE_CHECKING:
    from tuneport_torch.bases import Base

_SCRIPT = Path(__file__).with_name("sandbox") / "convert_tokenizer.py"
_PASSED = ("HOME", "HF_HOME", "HF_MODULES_CACHE", "XDG_CACHE_HOME")  # where a trusted model's code is stored
_MOST_BYTES = 16 * 2**20  # of tokenizer files raise the limits: the largest real ones take 13 MB in a GGUF file
_VERSION = 2  # raise it when conversion changes, so that older results in the cache are not read


def conversion_folder(base: Base) -> Path:
    """The folder for the files of a `Codec`, for a base without a tokenizer.json. It may not exist yet."""
    return home("cache", "tokenizers") / f"{base.fingerprint}.{_VERSION}"


def find_converted(base: Base) -> Path:
    """The folder with the files of a `Codec`, converted unless they are in home's cache. Raises UnavailableError."""
    folder = conversion_folder(base)
    if not (folder / "tokenizer.json").is_file():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = convert(base, Path(scratch) / "made")
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was first, with the same files
                    raise
    return folder


def convert(base: Base, folder: Path) -> Path:
    """Write the files of a `Codec` into a new folder for a base that has no tokenizer.json. Raises UnavailableError."""
    if base.kind == "gguf":
        try:
            header = read_gguf(base.require_path())
        except BadHeader as error:
            raise UnavailableError(str(error), remedy="Download or copy the file again.") from error
        _run(
            base,
            base.require_path().parent,
            base.require_path().name,
            folder,
            header.length,
            _pretokenizer_facts(header.metadata),
        )
    else:
        base = bases.fetch(base, weights=False)
        source = bases.text_folder(base)
        if source is None:
            raise UnavailableError(f"The tokenizer of {base.name} is not here.", remedy="Download the model again.")
        size = sum(file.stat().st_size for file in model_files(source) if file.suffix != ".safetensors")
        _run(base, source, None, folder, size, {})
    if not (folder / "tokenizer.json").is_file():
        raise UnavailableError(
            f"The tokenizer of {base.name} has no fast form, a tokenizer.json.",
            remedy="Choose another base.",
        )
    return folder


def _pretokenizer_facts(header: Mapping[str, Any]) -> dict[str, Any]:
    """What a GGUF header says about its tokenizer and transformers ignores: the pre-tokenizer, as the tokenizer.json of
    an empty tokenizer, and whether a token goes in front.
    """
    pre, add_bos = header.get("tokenizer.ggml.pre"), header.get("tokenizer.ggml.add_bos_token")
    has_pretokenizer = pre is not None and header.get("tokenizer.ggml.model") == "gpt2"
    empty = {"model": {"type": "BPE", "vocab": {}, "merges": []}}
    return {
        "like": with_pretokenizer(empty, str(pre)) if has_pretokenizer else None,
        "add_bos": None if add_bos is None else bool(add_bos),
    }


def _run(base: Base, folder: Path, gguf: str | None, out: Path, size: int, facts: Mapping[str, Any]) -> None:
    request = {
        "folder": str(folder),
        "gguf": gguf,
        "out": str(out),
        "size": min(size, _MOST_BYTES),
        **facts,
        "trust_remote_code": base.trust_remote_code,
    }
    ran = subprocess.run(
        [sys.executable, "-P", str(_SCRIPT)],
        input=json.dumps(request).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={
            **environment(),
            **{name: os.environ[name] for name in _PASSED if name in os.environ},
            "HF_HUB_OFFLINE": "1",
        },
        check=False,
    )
    why = ran.stdout.decode("utf-8", "replace")
    if ran.returncode < 0:
        why = "the conversion took too much processor time or memory"
    if why or ran.returncode:
        raise UnavailableError(
            f"The tokenizer of {base.name} could not be loaded: {why or 'the conversion failed'}",
            remedy="Check that tokenizer.json is in the folder of the weights.",
        )
