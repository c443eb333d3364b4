"""Exports a full model as one .gguf file, for llama.cpp and programs based on it. Format: ggml's docs/gguf.md."""

from __future__ import annotations

import math
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneport.errors import BackendError, UnavailableError, UnsupportedError, UsageError
from tuneport_torch import bases
from tuneport_torch.bases.loading import load_model
from tuneport_torch.export import verify
from tuneport_torch.export.atomic import atomic_output
from tuneport_torch.export.card import root_base
from tuneport_torch.export.folders import own_dtype
from tuneport_torch.export.vocabulary import Vocabulary, read_vocabulary
from tuneport_torch.text.codec import Codec
from tuneport_torch.text.conversion import convert
from tuneport_torch.text.golden import golden_ids
from tuneport_torch.text.load import load_codec

if TYPE_CHECKING:
    import torch
    from gguf import GGMLQuantizationType, GGUFWriter
    from transformers import PreTrainedConfig, PreTrainedModel

    from tuneport_torch.bases import Base

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""These have the same names in transformers and in GGUF files."""

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""The types in which weights can be stored, with the names in the `gguf` package."""

_OF_TORCH = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
_HEAD_SIZE = 128  # transformers assumes it for Qwen3, and ignores the GGUF header's value


def export_gguf(base: Base, file: Path, *, dtype: str | None = None) -> Path:
    """Write the model with adapters added, tokenizer, template and stop tokens. `dtype` is the base's own by default.

    Norms stay float32. Before the file is renamed to its final name, it is loaded again and must have the same
    tokenizer and the trained model's logits; otherwise BackendError is raised. Raises UnsupportedError for a model that
    readers of the format would read differently.
    """
    if file.suffix != ".gguf":
        raise UsageError(f"{file} should end in .gguf.", remedy=f"Name it {file.name or 'model'}.gguf")
    base = bases.fetch(base)
    check_gguf(base, dtype)
    dtype = dtype or _OF_TORCH[own_dtype(base)]
    codec = load_codec(base)
    ids = golden_ids(codec)
    model = load_model(base, dtype="float32")
    header = _Header(model.config, read_vocabulary(codec, model.config.vocab_size), dtype, _title(base))
    live_TV = verify.logits(model, ids)
    with atomic_output(file, folder=False) as draft:
        _write(draft, model, header)  # this also rounds the model
        rounded_TV, config = verify.logits(model, ids), model.config
        del model
        written = bases.resolve(str(draft))
        reloaded = load_model(written, config=config if _is_header_incomplete(config) else None)
        verify.check(live_TV, rounded_TV, verify.logits(reloaded, ids), dtype)
        _check_tokenizer(written, codec, ids)
    return file


def check_gguf(base: Base, dtype: str | None = None) -> None:
    """Raise UnsupportedError or UsageError for what cannot be written, as far as local files show."""
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"A GGUF file cannot be written as {dtype!r}.", remedy="Choose one of: " + ", ".join(DTYPES))
    if root_base(base).is_present:
        _refuse_architecture(base.facts.model_type)


def _refuse_architecture(kind: str) -> None:
    if kind not in ARCHITECTURES:
        raise UnsupportedError(
            f"The model has the architecture {kind}; GGUF files are only written for {', '.join(ARCHITECTURES)}, whose "
            "files can be checked here.",
            remedy="Export it as: merged. llama.cpp's convert_hf_to_gguf.py converts that folder for many more.",
        )


@dataclass(frozen=True, slots=True)
class _Header:
    """The file's header, before the weights. The writer prefixes keys that depend on the architecture with its name."""

    config: PreTrainedConfig
    vocabulary: Vocabulary
    dtype: str
    title: str

    def __post_init__(self) -> None:
        config = self.config
        _refuse_architecture(config.model_type)
        unsupported = [
            *(["a gated activation that is not SiLU"] if config.hidden_act != "silu" else []),
            *(["sliding windows"] if getattr(config, "use_sliding_window", False) else []),
            *(["biases in attention"] if getattr(config, "attention_bias", False) else []),
            *(["biases in its MLP"] if getattr(config, "mlp_bias", False) else []),
            *([f"{self.rope['rope_type']} positions"] if self.rope["rope_type"] not in _ROPES else []),
        ]
        if unsupported:
            raise UnsupportedError(
                f"The model has {' and '.join(unsupported)}, which the GGUF export does not support.",
                remedy="Export it as: merged",
            )

    @property
    def rope(self) -> dict[str, Any]:
        """The parameters of rotary positions."""
        return {"rope_type": "default", **self.config.rope_parameters}

    @property
    def head_size(self) -> int:
        """The width of one attention head."""
        size: int | None = getattr(self.config, "head_dim", None)
        return size or int(self.config.hidden_size) // int(self.config.num_attention_heads)

    def write(self, writer: GGUFWriter) -> None:
        """Add all keys to a file's header."""
        import gguf

        config, rope = self.config, self.rope
        writer.add_type("model")
        writer.add_name(self.title)
        writer.add_file_type(gguf.LlamaFileType[_FILE_TYPES[self.dtype]])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_key_length(self.head_size)
        writer.add_value_length(self.head_size)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_dimension_count(self.head_size)
        writer.add_rope_freq_base(rope["rope_theta"])
        if rope["rope_type"] == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(rope["factor"])
        self.vocabulary.write(writer)


_ROPES = ("default", "linear", "llama3")


def _write(path: Path, model: PreTrainedModel, header: _Header) -> None:
    """Write the file, and round each of the model's weights on the way."""
    import gguf
    import numpy as np

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[model.config.model_type.upper()], model.config.num_hidden_layers)
    weights: dict[str, torch.nn.Parameter] = {}
    for name, weight in model.named_parameters():
        stem, dot, kind = name.rpartition(".")
        weights[f"{names.get_name(stem)}{dot}{kind}"] = weight
    factors = _rope_factors(model, header)
    kinds = {name: _kind(weight, header.dtype) for name, weight in weights.items()}
    needed = sum(math.prod(_byte_shape(weight, kinds[name])) for name, weight in weights.items())
    _check_disk_space(path, needed)
    with _open(path, model.config.model_type) as writer:
        header.write(writer)
        if factors is not None:
            writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
        for name, weight in weights.items():
            size = math.prod(_byte_shape(weight, kinds[name]))
            writer.add_tensor_info(name, tuple(weight.shape), np.dtype(np.float32), size, raw_dtype=kinds[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for name, weight in weights.items():
            packed = _pack(weight, kinds[name])
            writer.write_tensor_data(_in_ggml_order(packed, name, model.config))


def _pack(weight: torch.nn.Parameter, kind: GGMLQuantizationType) -> Any:
    """The weight's bytes, row by row. The weight itself is replaced by the values of these bytes."""
    import numpy as np
    import torch
    from gguf import dequantize, quantize

    with np.errstate(over="ignore"):  # overflows become infinite, which the comparison of logits detects
        packed = quantize(weight.detach().numpy(), kind)
    weight.data = torch.from_numpy(dequantize(packed, kind).copy())
    return packed


def _in_ggml_order(packed: Any, name: str, config: PreTrainedConfig) -> Any:
    """Reorder a Llama's queries and keys for ggml's rotation: pairs are adjacent, not half a head apart."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if config.model_type != "llama" or heads is None:
        return packed
    rows = packed.reshape(heads, 2, packed.shape[0] // heads // 2, *packed.shape[1:])
    return rows.swapaxes(1, 2).reshape(packed.shape)


def _kind(weight: torch.Tensor, dtype: str) -> GGMLQuantizationType:
    """The type of a weight: only matrices are rounded, to float16 if their rows do not divide into blocks of 32."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    kind = GGMLQuantizationType[DTYPES[dtype]] if weight.dim() > 1 else GGMLQuantizationType.F32
    return kind if weight.shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else GGMLQuantizationType.F16


def _byte_shape(weight: torch.Tensor, kind: GGMLQuantizationType) -> tuple[int, ...]:
    """The shape in bytes."""
    from gguf import quant_shape_to_byte_shape

    shape: tuple[int, ...] = quant_shape_to_byte_shape(tuple(weight.shape), kind)
    return shape


def _rope_factors(model: PreTrainedModel, header: _Header) -> Any:
    """The divisor of each frequency, (head size / 2); None if there is none. Llama 3 has them for long texts."""
    import numpy as np

    if header.rope["rope_type"] != "llama3":
        return None
    exponents = np.arange(0, header.head_size, 2, dtype=np.float32) / header.head_size
    plain = header.rope["rope_theta"] ** -exponents
    return (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)


def _is_header_incomplete(config: PreTrainedConfig) -> bool:
    """Whether transformers, unlike llama.cpp, cannot read the model's config from a GGUF header."""
    scaled = config.rope_parameters.get("rope_type", "default") != "default"
    return scaled or bool(config.model_type == "qwen3" and config.head_dim != _HEAD_SIZE)


def _check_tokenizer(written: Base, codec: Codec, ids: list[int]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        read = Codec(convert(written, Path(scratch) / "text"), codec.stop_ids)
        try:
            same = golden_ids(read) == ids
        finally:
            read.close()
    if not same:
        raise BackendError(
            "The tokenizer in the GGUF file reads text differently from the model's own, so the file was deleted.",
            remedy="Export the model as merged, and report this with the name of the base model.",
        )


@contextmanager
def _open(path: Path, architecture: str) -> Iterator[GGUFWriter]:
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    try:
        yield writer
    except (struct.error, TypeError, OverflowError) as error:  # such as a context length beyond 32 bits
        raise UnsupportedError(
            f"The model's config.json has a value that is too large for GGUF files: {error}.",
            remedy="Correct the numbers in config.json, or export it as: merged",
        ) from error
    finally:
        writer.close()


def _check_disk_space(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UnavailableError(
            f"The GGUF file needs {needed / 1e6:,.0f} MB; {path.parent} has {free / 1e6:,.0f} MB free.",
            remedy="Free some disk space, choose another folder, or choose a smaller --dtype such as q8_0.",
        )


def _title(base: Base) -> str:
    record = bases.read_record(base.path)
    return str(record["lineage"]["job"]) if record else base.upstream
