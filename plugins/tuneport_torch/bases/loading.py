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
from tuneport_torch.bases import fetch
from tuneport_torch.bases.dense import DenseCopy
from tuneport_torch.bases.facts import weight_headers
from tuneport_torch.bases.files import DamagedModel
from tuneport_torch.bases.headers import read_gguf
from tuneport_torch.bases.plausible import check_built, check_memory

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from tuneport_torch.bases import Base

LOADING = threading.RLock()
"""Held by the thread that imports transformers or that loads, writes or frees a model.

A first import of transformers replaces the module that a second thread already waits for. A load changes process-wide
state (`PreTrainedModel.tie_weights`, torch's default dtype, stderr), and two that overlap restore each other's. Nobody
holds this lock while a model answers or while files are downloaded or uploaded.
"""


def import_libraries() -> None:
    """Import torch and what all of transformers' models share, for a first load or to do it while something else waits.

    Python's garbage collector rests meanwhile: it would look again and again at a million objects that stay, a quarter
    of the time. They then count as old, as they would after it had looked.
    """
    with LOADING:
        if "transformers.masking_utils" in sys.modules:
            return
        rests = gc.isenabled() and not gc.get_freeze_count()
        if rests:
            gc.disable()
        try:
            import torch  # noqa: F401 - see above
            import transformers.masking_utils
            import transformers.modeling_layers  # noqa: F401
            from transformers import AutoConfig, AutoModelForCausalLM  # noqa: F401
        finally:
            if rests:
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
    that transformers knows. `config` stands in for a file's own. Raises UnavailableError when weights are missing or
    damaged. Thread-safe: loads run one after another.
    """
    base = _fetched(base)
    with LOADING:
        import_libraries()
        return _load(base, dtype, device, attention, config)


def _fetched(base: Base) -> Base:
    """The base and all models under it, downloaded."""
    base = fetch(base)
    return base if base.parent is None else replace(base, parent=_fetched(base.parent))


def _load(
    base: Base, dtype: str, device: str, attention: str | None, config: PreTrainedConfig | None
) -> PreTrainedModel:
    if base.parent is not None:
        from tuneport_torch.bases.lora import load_peft, merge

        # Each sum is made in float32 and rounded once; weights that are stored in `dtype` need not be loaded as more.
        wide = dtype if base.facts.dtype == dtype and base.parent.parent is None else "float32"
        model = _load(base.parent, wide, device, attention, None)
        load_peft(model, base.here())
        merge(model)
        round_weights(model, dtype)
        return model.requires_grad_(requires_grad=True).eval()

    path = base.here()
    held = sum(header.parameters for header in weight_headers(path))
    check_memory(base, held, dtype)
    with _faults(f"{base.name} could not be loaded", "Is it whole, and a causal language model?"):
        if base.kind != "gguf":
            model, told = _read(base, path, held, dtype, attention, config)
        elif config is not None:
            model, told = _unpacked(base, held, dtype, attention, config)
        else:
            _refuse_scaled_positions(base)
            model, told = _kept(base, held, dtype, attention)
    missing = sorted({*told["missing_keys"], *(str(key) for key in told["mismatched_keys"])})
    if missing:
        raise DamagedModel(
            f"{base.name} lacks {len(missing)} of its weights, {missing[0]} first; they would be random numbers.",
            remedy="Download or convert the model again.",
        )
    return model.to(device).eval()


_Told = Mapping[str, Any]
"""What transformers says of a load: the keys that were missing, and so on."""


def _kept(base: Base, held: int, dtype: str, attention: str | None) -> tuple[PreTrainedModel, _Told]:
    """A `.gguf` model from its dense copy, which is made where there is none."""
    path = base.here()
    copy = DenseCopy(path, dtype)
    if copy.is_whole():
        try:
            model, told = _read(base, copy.folder, held, dtype, attention, None)
        except OSError:  # another process has just removed it
            pass
        else:
            model.name_or_path = model.config.name_or_path = str(path.parent)
            return model, told
    model, told = _unpacked(base, held, dtype, attention, None)
    if not told["missing_keys"] and not told["mismatched_keys"]:
        with quiet():
            copy.keep(model, model.save_pretrained)
    return model, told


def _unpacked(
    base: Base, held: int, dtype: str, attention: str | None, config: PreTrainedConfig | None
) -> tuple[PreTrainedModel, _Told]:
    """A `.gguf` model, read with transformers' own reader. Left quantized, it could be neither trained nor saved."""
    from transformers import AutoConfig, GgufConfig

    path = base.here()
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
) -> tuple[PreTrainedModel, _Told]:
    """The model in a folder, and what transformers says of it. It may have as many weights as `held` allows."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if config is None:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=base.trust_remote_code)
    if options is None:
        options = {"use_safetensors": True, "trust_remote_code": base.trust_remote_code}
    chosen = {} if attention is None else {"attn_implementation": attention}
    with quiet():
        check_built(base, config, held)
        model, told = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, dtype),
            local_files_only=True,
            output_loading_info=True,
            **options,
            **chosen,
        )
    return model, told


def _refuse_scaled_positions(base: Base) -> None:
    header = read_gguf(base.here())
    kind = header.metadata.get("general.architecture")
    if "rope_freqs.weight" in header.shapes or header.metadata.get(f"{kind}.rope.scaling.type", "none") != "none":
        raise UnavailableError(
            f"{base.name} scales its positions for long texts, which transformers does not read from a GGUF file.",
            remedy="Name the folder or hub model that the file was made from.",
        )


def round_weights(model: PreTrainedModel, dtype: str) -> None:
    """Store the weights in `dtype`. Buffers stay: `model.to` would round the rotary frequencies too, and so every
    position, which loading in that type does not.
    """
    import torch

    for weight in model.parameters():
        weight.data = weight.data.to(getattr(torch, dtype))


@contextmanager
def _faults(what: str, remedy: str) -> Iterator[None]:
    """Whatever a library raises for a damaged model, as DamagedModel. Rust's panics are no Exception."""
    try:
        yield
    except (TuneportError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        reason = str(error) or type(error).__name__
        raise DamagedModel(f"{what}: {reason:.1000}", remedy=remedy) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars, one of which cannot be switched off: progress is told in events. Stderr
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
    """The switch of progress bars, of transformers and of the hub's client, which belongs to the process."""

    def __init__(self) -> None:
        self._without = 0  # blocks under way
        self._shown = True

    @contextmanager
    def without(self) -> Iterator[None]:
        """None in this block; they are back once the last of several blocks has ended. Holds LOADING only to switch."""
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
