"""A whole model in one .gguf file, for llama.cpp and what stands on it. Format: ggml's docs/gguf.md."""

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
from tuneport_torch.export import proof
from tuneport_torch.export.appearing import appearing
from tuneport_torch.export.card import root
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
"""Named alike by transformers and in GGUF files."""

DTYPES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""What the weights can be stored in, and what the `gguf` package calls it."""

_OF_TORCH = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}
_HEAD_SIZE = 128  # what transformers takes a Qwen3's to be, whose GGUF header it does not ask


def gguf(base: Base, file: Path, *, dtype: str | None = None) -> Path:
    """Write the model, adapters added, with tokenizer, template and stop tokens; `dtype` is the base's own by default.

    Norms stay float32. The file is loaded again before it takes its name: it must hold the same tokenizer and give the
    live model's logits, else BackendError. Raises UnsupportedError for a model that the format's readers would not
    read as it is.
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
    live_TV = proof.logits(model, ids)
    with appearing(file, folder=False) as made:
        _write(made, model, header)  # and rounds the model on the way
        rounded_TV, config = proof.logits(model, ids), model.config
        del model
        written = bases.resolve(str(made))
        reloaded = load_model(written, config=config if _beyond_the_header(config) else None)
        proof.check(live_TV, rounded_TV, proof.logits(reloaded, ids), dtype)
        _check_tokenizer(written, codec, ids)
    return file


def check_gguf(base: Base, dtype: str | None = None) -> None:
    """Raise UnsupportedError or UsageError for what cannot be written, as far as the files on this machine tell."""
    if dtype is not None and dtype not in DTYPES:
        raise UsageError(f"A GGUF file cannot be written as {dtype!r}.", remedy="Choose one of: " + ", ".join(DTYPES))
    if root(base).present:
        _refuse_architecture(base.facts.model_type)


def _refuse_architecture(kind: str) -> None:
    if kind not in ARCHITECTURES:
        raise UnsupportedError(
            f"The model is of the architecture {kind}; GGUF files are written for {', '.join(ARCHITECTURES)}, whose "
            "files can be checked here.",
            remedy="Export it as: merged. llama.cpp's convert_hf_to_gguf.py takes that folder for many more.",
        )


@dataclass(frozen=True, slots=True)
class _Header:
    """What stands before the weights. Keys that hang on the architecture get its name in front by the writer."""

    config: PreTrainedConfig
    vocabulary: Vocabulary
    dtype: str
    title: str

    def __post_init__(self) -> None:
        config = self.config
        _refuse_architecture(config.model_type)
        odd = [
            *(["a gated activation that is not SiLU"] if config.hidden_act != "silu" else []),
            *(["sliding windows"] if getattr(config, "use_sliding_window", False) else []),
            *(["biases in attention"] if getattr(config, "attention_bias", False) else []),
            *(["biases in its MLP"] if getattr(config, "mlp_bias", False) else []),
            *([f"{self.rope['rope_type']} positions"] if self.rope["rope_type"] not in _ROPES else []),
        ]
        if odd:
            raise UnsupportedError(
                f"The model has {' and '.join(odd)}, which are not written to GGUF files here.",
                remedy="Export it as: merged",
            )

    @property
    def rope(self) -> dict[str, Any]:
        """How positions are written into queries and keys."""
        return {"rope_type": "default", **self.config.rope_parameters}

    @property
    def head_size(self) -> int:
        """Numbers in one attention head's query."""
        told: int | None = getattr(self.config, "head_dim", None)
        return told or int(self.config.hidden_size) // int(self.config.num_attention_heads)

    def write(self, writer: GGUFWriter) -> None:
        """Add every key to a file's header."""
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
    """Write the file; each of the model's weights is rounded as it goes into it."""
    import gguf
    import numpy as np

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[model.config.model_type.upper()], model.config.num_hidden_layers)
    weights: dict[str, torch.nn.Parameter] = {}
    for name, weight in model.named_parameters():
        stem, dot, kind = name.rpartition(".")
        weights[f"{names.get_name(stem)}{dot}{kind}"] = weight
    factors = _rope_factors(model, header)
    kinds = {name: _kind(weight, header.dtype) for name, weight in weights.items()}
    needed = sum(math.prod(_stored(weight, kinds[name])) for name, weight in weights.items())
    _refuse_without_room(path, needed)
    with _open(path, model.config.model_type) as writer:
        header.write(writer)
        if factors is not None:
            writer.add_tensor_info("rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes)
        for name, weight in weights.items():
            size = math.prod(_stored(weight, kinds[name]))
            writer.add_tensor_info(name, tuple(weight.shape), np.dtype(np.float32), size, raw_dtype=kinds[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for name, weight in weights.items():
            packed = _packed(weight, kinds[name])
            writer.write_tensor_data(_in_ggml_order(packed, name, model.config))


def _packed(weight: torch.nn.Parameter, kind: GGMLQuantizationType) -> Any:
    """The weight's bytes, row by row; the weight itself becomes what these bytes stand for."""
    import numpy as np
    import torch
    from gguf import dequantize, quantize

    with np.errstate(over="ignore"):  # what is beyond float16 becomes infinite, which the comparison of logits sees
        packed = quantize(weight.detach().numpy(), kind)
    weight.data = torch.from_numpy(dequantize(packed, kind).copy())
    return packed


def _in_ggml_order(packed: Any, name: str, config: PreTrainedConfig) -> Any:
    """A Llama's queries and keys as ggml rotates them: pairs side by side, not a half head apart."""
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(name.split(".")[-2])
    if config.model_type != "llama" or heads is None:
        return packed
    rows = packed.reshape(heads, 2, packed.shape[0] // heads // 2, *packed.shape[1:])
    return rows.swapaxes(1, 2).reshape(packed.shape)


def _kind(weight: torch.Tensor, dtype: str) -> GGMLQuantizationType:
    """Matrices are rounded, vectors are not; a matrix whose rows do not divide into blocks of 32 becomes float16."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    kind = GGMLQuantizationType[DTYPES[dtype]] if weight.dim() > 1 else GGMLQuantizationType.F32
    return kind if weight.shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else GGMLQuantizationType.F16


def _stored(weight: torch.Tensor, kind: GGMLQuantizationType) -> tuple[int, ...]:
    """Its shape in bytes."""
    from gguf import quant_shape_to_byte_shape

    shape: tuple[int, ...] = quant_shape_to_byte_shape(tuple(weight.shape), kind)
    return shape


def _rope_factors(model: PreTrainedModel, header: _Header) -> Any:
    """By what each frequency is divided, (head size / 2); None where none is. Llama 3 divides them for long texts."""
    import numpy as np

    if header.rope["rope_type"] != "llama3":
        return None
    exponents = np.arange(0, header.head_size, 2, dtype=np.float32) / header.head_size
    plain = header.rope["rope_theta"] ** -exponents
    return (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32)


def _beyond_the_header(config: PreTrainedConfig) -> bool:
    """Whether transformers cannot learn from a GGUF header what the model is like, though llama.cpp can."""
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
            "The tokenizer in the GGUF file reads text otherwise than the model's own, so nothing is left of the file.",
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
            f"The model's config.json has a value that GGUF files have no room for: {error}.",
            remedy="Correct the numbers in config.json, or export it as: merged",
        ) from error
    finally:
        writer.close()


def _refuse_without_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise UnavailableError(
            f"The GGUF file needs {needed / 1e6:,.0f} MB; {path.parent} has {free / 1e6:,.0f} MB free.",
            remedy="Free some space, name another folder, or choose a narrower --dtype such as q8_0.",
        )


def _title(base: Base) -> str:
    record = bases.read_record(base.path)
    return str(record["lineage"]["job"]) if record else base.upstream
