"""Convert a model's tokenizer into a tokenizer.json, in a process with limits on time and memory.

Runs as a script, started by conversion.py. The request comes as JSON on standard input; the reason for a failure, if
any, goes to standard output.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from tuneport_torch.text.sandbox.run_tokenizer import resource_limits

_BYTES = 256 * 2**20, 64  # of memory, and per byte of the tokenizer's files
_SECONDS = 6.0, 10e-6  # of processor time, and per byte
_FILE_BYTES = 2**28


def convert(
    folder: str,
    gguf: str | None,
    out: str,
    *,
    trust_remote_code: bool,
    like: dict[str, Any] | None = None,
    add_bos: bool | None = None,
) -> None:
    """Write the tokenizer's files into the folder `out`; `like` is a tokenizer.json with the wanted pre-tokenizer."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    more: dict[str, Any] = {"gguf_file": gguf} if gguf else {"trust_remote_code": trust_remote_code}
    made = AutoTokenizer.from_pretrained(folder, local_files_only=True, **more)
    if like is not None:
        pattern, backend = Tokenizer.from_str(json.dumps(like)), made.backend_tokenizer
        backend.pre_tokenizer = pattern.pre_tokenizer
        backend.model.ignore_merges = pattern.model.ignore_merges
    made.save_pretrained(out)
    if add_bos is not None:
        config = Path(out, "tokenizer_config.json")
        config.write_text(json.dumps({**json.loads(config.read_text()), "add_bos_token": add_bos}))


def main() -> None:
    """Answer the one request."""
    request = json.loads(sys.stdin.buffer.read())
    size = request.pop("size")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    import torch  # noqa: F401 - imported before the limits apply
    import transformers.modeling_gguf_pytorch_utils  # noqa: F401 - likewise
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # noqa: F401 - likewise

    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with resource_limits(_BYTES, _SECONDS, size):
            convert(**request)
    except BaseException as error:  # noqa: BLE001 - the library's panics are no Exception; all of them are answers
        answers.write(f"{type(error).__name__}: {error!s:.1000}")
    answers.close()


if __name__ == "__main__":
    main()
