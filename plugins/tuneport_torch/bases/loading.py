"""A base's weights as a transformers model; one load at a time in a process."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import TuneportError, UnavailableError
from tuneport_torch.bases.dense import DenseCopy
from tuneport_torch.bases.facts import weight_headers
from tuneport_torch.bases.files import DamagedModel
from tuneport_torch.bases.headers import read_gguf
from tuneport_torch.bases.hub import fetch
from tuneport_torch.bases.plausible import check_built, check_memory

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from tuneport_torch.bases.base import Base

LOADING = threading.RLock()
"""Held by the thread that imports transformers or that loads, writes or frees a model.

The first import of transformers replaces the module that a second thread already waits for. A load changes process-wide
state (`PreTrainedModel.tie_weights`, torch's default dtype, stderr), and two overlapping loads would restore each
other's. No thread holds this lock while a model answers or while files are downloaded or uploaded.
"""


def import_libraries() -> None:
    """Import torch and what all of transformers' models share, before the first load or in parallel to other work.

    Python's garbage collector is off meanwhile: it would scan a million permanent objects again and again, which takes
    a quarter of the time. Afterwards they count as old, as they would after a scan.
    """
    with LOADING:
        if "transformers.masking_utils" in sys.modules:
            return
        paused = gc.isenabled() and not gc.get_freeze_count()
        if paused:
            gc.disable()
        try:
            import torch  # noqa: F401 - see above
            import transformers.masking_utils
            import transformers.modeling_layers  # noqa: F401
            from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401
        finally:
            if paused:
                gc.freeze()
                gc.unfreeze()
                gc.enable()


def load_model(
    base: Base,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    attention: str | None = None,
    config: PreTrainedConfig | None = None,
) -> PreTrainedModel:
    """The model with its weights, dense and in `dtype` (float32, bfloat16 or float16), in evaluation mode.

    An adapter folder is loaded over its base, added in float32 and then rounded. `attention` names an implementation
    that transformers knows. `config` replaces the one in the files. Raises UnavailableError if weights are missing or
    damaged. Thread-safe: loads run one after another.
    """
    base = _fetch_all(base)
    with LOADING:
        import_libraries()
        return _load(base, dtype, device, attention, config)


def _fetch_all(base: Base) -> Base:
    """Download the base and all models under it."""
    base = fetch(base)
    return base if base.parent is None else replace(base, parent=_fetch_all(base.parent))


def _load(
    base: Base, dtype: str, device: str, attention: str | None, config: PreTrainedConfig | None
) -> PreTrainedModel:
    if base.parent is not None:
        from tuneport_torch.bases.lora import load_peft, merge

        # Each sum is computed in float32 and rounded once. Weights stored in `dtype` can be loaded in it.
        wide = dtype if base.facts.dtype == dtype and base.parent.parent is None else "float32"
        model = _load(base.parent, wide, device, attention, None)
        load_peft(model, base.require_path())
        merge(model)
        round_weights(model, dtype)
        return model.requires_grad_(requires_grad=True).eval()

    path = base.require_path()
    held = sum(header.parameters for header in weight_headers(path))
    check_memory(base.name, held, dtype)
    with _library_errors(
        f"{base.name} could not be loaded", "Check that the files are complete and a causal language model."
    ):
        if base.kind != "gguf":
            model, info = _read(base, path, held, dtype, attention, config)
        elif config is not None:
            model, info = _unpack(base, held, dtype, attention, config)
        else:
            _refuse_scaled_positions(base)
            model, info = _load_copy(base, held, dtype, attention)
    missing = sorted({*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])})
    if missing:
        raise DamagedModel(
            f"{base.name} has {len(missing)} weights missing, {missing[0]} first; they would be random numbers.",
            remedy="Download or convert the model again.",
        )
    return model.to(device).eval()


_LoadingInfo = Mapping[str, Any]
"""What transformers reports about a load, such as the missing keys."""


def _load_copy(base: Base, held: int, dtype: str, attention: str | None) -> tuple[PreTrainedModel, _LoadingInfo]:
    """A `.gguf` model from its dense copy, which is made if there is none."""
    path = base.require_path()
    copy = DenseCopy(path, dtype)
    if copy.is_intact():
        try:
            model, info = _read(base, copy.folder, held, dtype, attention, None)
        except OSError:  # another process has just removed it
            pass
        else:
            model.name_or_path = model.config.name_or_path = str(path.parent)
            return model, info
    model, info = _unpack(base, held, dtype, attention, None)
    if not info["missing_keys"] and not info["mismatched_keys"]:
        with quiet():
            copy.keep(model, model.save_pretrained)
    return model, info


def _unpack(
    base: Base, held: int, dtype: str, attention: str | None, config: PreTrainedConfig | None
) -> tuple[PreTrainedModel, _LoadingInfo]:
    """A `.gguf` model, read by transformers. It is dequantized, or it could be neither trained nor saved."""
    from transformers import AutoConfig, GgufConfig

    path = base.require_path()
    if config is None:
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    options = {"gguf_file": path.name, "quantization_config": GgufConfig(dequantize=True)}
    return _read(base, path.parent, held, dtype, attention, config, options)


def _read(
    base: Base,
    folder: Path,
    held: int,
    dtype: str,
    attention: str | None,
    config: PreTrainedConfig | None,
    options: Mapping[str, Any] | None = None,
) -> tuple[PreTrainedModel, _LoadingInfo]:
    """The model in a folder, and transformers' report. Raises DamagedModel for far more weights than `held`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if config is None:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=base.trust_remote_code)
    if options is None:
        options = {"use_safetensors": True, "trust_remote_code": base.trust_remote_code}
    chosen = {} if attention is None else {"attn_implementation": attention}
    with quiet():
        check_built(base.name, config, held, trust_remote_code=base.trust_remote_code)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            output_loading_info=True,
            **options,
            **chosen,
        )
    return model, info


def _refuse_scaled_positions(base: Base) -> None:
    header = read_gguf(base.require_path())
    kind = header.metadata.get("general.architecture")
    if "rope_freqs.weight" in header.shapes or header.metadata.get(f"{kind}.rope.scaling.type", "none") != "none":
        raise UnavailableError(
            f"{base.name} scales its positions for long texts, which transformers does not read from a GGUF file.",
            remedy="Use the folder or hub model that the file was made from.",
        )


def round_weights(model: PreTrainedModel, dtype: str) -> None:
    """Store the weights in `dtype`. Buffers stay: `model.to` would round the rotary frequencies too, and so every
    position, while loading in that type does not.
    """
    import torch

    for weight in model.parameters():
        weight.data = weight.data.to(getattr(torch, dtype))


@contextmanager
def _library_errors(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises for a damaged model into DamagedModel. Rust's panics are no Exception."""
    try:
        yield
    except (TuneportError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        reason = str(error) or type(error).__name__
        raise DamagedModel(f"{what}: {reason:.1000}", remedy=remedy) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hide transformers' progress bars, one of which cannot be switched off: progress is reported in events. Stderr
    belongs to the process, so the block holds LOADING.
    """
    with LOADING, without_bars():
        written = StringIO()
        try:
            with redirect_stderr(written):
                yield
        finally:
            sys.stderr.writelines(f"{line}\n" for line in written.getvalue().split("\n") if line and "\r" not in line)


class _Bars:
    """The process-wide switch of progress bars, of transformers and of the hub's client."""

    def __init__(self) -> None:
        self._without = 0  # blocks that are active
        self._shown = True

    @contextmanager
    def without(self) -> Iterator[None]:
        """No bars in this block. They return when the last of several blocks ends. Holds LOADING only to switch."""
        with LOADING:
            from transformers.utils import logging

            if not self._without:
                self._shown = logging.is_progress_bar_enabled()
                logging.disable_progress_bar()
            self._without += 1
        try:
            yield
        finally:
            with LOADING:
                self._without -= 1
                if not self._without and self._shown:
                    logging.enable_progress_bar()


without_bars = _Bars().without
