"""A base or tuned model that answers on this machine; loaded, torch included, when it is first asked."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tuneport.errors import TuneportError
from tuneport.plugin import Lineage, Message, Model, Publication, PushRequest, Ref, Reply, Score
from tuneport_torch import bases
from tuneport_torch.bases import precision
from tuneport_torch.bases.loading import LOADING, import_libraries, load_model
from tuneport_torch.devices import ENVIRONMENT, device_kind

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tuneport.plugin import Dataset, GenerateOptions
    from tuneport_torch.answer.live_batch import TorchLiveBatch
    from tuneport_torch.answer.row import AnswerRow
    from tuneport_torch.autos import Auto, Kind
    from tuneport_torch.bases import Base
    from tuneport_torch.text.render import Renderer, Style


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: PreTrainedModel
    renderer: Renderer


class TorchModel(Model):
    """A model in this process. Thread-safe: one call at a time computes. An adapter is added to the weights for speed.

    `dtype` is float32, bfloat16, float16, or auto: the fastest that suits the device. `device` is cpu, cuda,
    mps, or auto. Loading raises UnavailableError when files are missing or are not those of the training.
    """

    can_score = True
    can_stream = True
    can_continue = True
    can_mix = True
    can_join = True
    takes = frozenset(
        {"schema", "tool_choice", "parallel_tool_calls", "logprobs", "frequency_penalty", "presence_penalty"}
    )
    export_kinds = ("adapter", "merged", "gguf", "ollama")
    push_kinds = ("adapter", "merged", "gguf")

    def __init__(self, ref: Ref, base: Base | Path, *, dtype: str = "auto", device: Kind | Auto = "auto") -> None:
        """`base` may be the folder of a model that was tuned here: its record can be read when its base is gone."""
        self.ref = ref
        self._folder = base if isinstance(base, Path) else base.path
        self._resolved = None if isinstance(base, Path) else base
        self._record = bases.read_record(self._folder)
        self.lineage = Lineage.from_dict(self._record["lineage"]) if self._record else None
        self._dtype, self._device = dtype, device
        self._lock = threading.RLock()
        self._loaded: _Loaded | None = None

    @classmethod
    def base(cls, name: str) -> Self:
        """A base model by any name that `bases.resolve` knows."""
        return cls(Ref("torch", name), bases.resolve(name))

    @property
    def _base(self) -> Base:
        if self._resolved is None:
            self._resolved = bases.resolve(str(self._folder))
        return self._resolved

    @property
    def style(self) -> Style:
        """How prompts are written: with its chat template or, if it was trained on completions, as plain text."""
        return "plain" if self._record and self._record["style"] == "plain" else "chat"

    @property
    def memory(self) -> int | None:
        """Bytes of the weights: in memory, or as their files predict."""
        loaded = self._loaded
        if loaded is not None:
            weights = (*loaded.model.parameters(), *loaded.model.buffers())
            return sum(int(one.nbytes) for one in weights)
        parameters = self._base.facts.parameters
        return None if parameters is None else parameters * (4 if self._kind() == "float32" else 2)

    def check_schema(self, schema: Mapping[str, Any]) -> None:
        """Check the schema alone, without the tokenizer, in the process that compiles it within limits."""
        from tuneport_torch.text import constraints

        constraints.check_schema(schema)

    def generate(self, prompts: Sequence[Sequence[Message]], options: GenerateOptions) -> list[Reply]:
        """One reply for each conversation, in order, in as few batches as memory allows. A seed is that of the first
        conversation; each of the others gets the next one.
        """
        with self._lock:
            loaded = self._ready()
            from tuneport_torch.answer.generate import answer

            options = self._set_style(options)
            ids = loaded.renderer.prompts(prompts, options.tools, "plain" if options.raw else self.style)
            return answer(loaded.model, loaded.renderer.codec, ids, _seed_each(options, len(ids)))

    def generate_stream(self, prompt: Sequence[Message], options: GenerateOptions) -> Generator[str, None, Reply]:
        """The pieces of one reply's text as they are generated, then the complete reply. Other calls wait until the
        generator is exhausted or closed.
        """
        for _, piece in self.generate_streams([prompt], options):
            if isinstance(piece, Reply):
                return piece
            yield piece
        raise AssertionError("a stream ends with its reply")

    def generate_streams(
        self, prompts: Sequence[Sequence[Message]], options: GenerateOptions
    ) -> Iterator[tuple[int, str | Reply]]:
        """The pieces of several replies as they are generated, in batches as memory allows. Other calls wait."""
        asked = list(zip(prompts, _seed_each(options, len(prompts)), strict=True))
        for number, piece in self.generate_each(asked):
            if isinstance(piece, TuneportError):
                raise piece
            yield number, piece

    def generate_each(
        self, asked: Sequence[tuple[Sequence[Message], GenerateOptions]]
    ) -> Iterator[tuple[int, str | Reply | TuneportError]]:
        """The same for prompts with different options, in the same batches."""
        with self._lock:
            loaded = self._ready()
            from tuneport_torch.answer.generate import stream

            ready: dict[int, list[int]] = {}
            asked = [(prompt, self._set_style(options)) for prompt, options in asked]
            for number, (prompt, options) in enumerate(asked):
                try:
                    ready[number] = self._prompt(loaded.renderer, prompt, options)
                except TuneportError as error:
                    yield number, error
            numbers = list(ready)
            options_of = [asked[number][1] for number in numbers]
            for place, piece in stream(loaded.model, loaded.renderer.codec, list(ready.values()), options_of):
                yield numbers[place], piece

    def open_batch(self) -> TorchLiveBatch:
        """A batch that conversations can join. It is answered step by step; other calls may compute in between."""
        with self._lock:
            loaded = self._ready()
            from tuneport_torch.answer.generate import make_row
            from tuneport_torch.answer.live_batch import TorchLiveBatch

            def prepare(prompt: Sequence[Message], options: GenerateOptions, renderer: Renderer) -> AnswerRow:
                options = self._set_style(options)
                return make_row(loaded.model, loaded.renderer.codec, self._prompt(renderer, prompt, options), options)

            return TorchLiveBatch(loaded.model, loaded.renderer, prepare, self._lock)

    def _prompt(self, renderer: Renderer, prompt: Sequence[Message], options: GenerateOptions) -> list[int]:
        return renderer.prompts([prompt], options.tools, "plain" if options.raw else self.style)[0]

    def _set_style(self, options: GenerateOptions) -> GenerateOptions:
        """A model of plain text continues its prompt: nothing in its answer is a thinking block."""
        return replace(options, raw=True) if self.style == "plain" else options

    def compute_score(self, dataset: Dataset) -> Score:
        """Loss and next-token accuracy at the tokens that training would learn, each weighted."""
        with self._lock:
            loaded = self._ready()
            from tuneport_torch.answer.scoring import score

            return score(loaded.model, loaded.renderer, dataset)

    def write_export(self, path: Path, kind: str, dtype: str | None) -> Path:
        """Write an export: `adapter` in PEFT's format; `merged`, a complete model; `gguf`, one file for llama.cpp;
        `ollama`, that file and a Modelfile. All include tokenizer and template.
        """
        from tuneport_torch import export

        return export.write(self._base, path, kind, dtype)

    def write_push(self, repository: str, kind: str, request: PushRequest) -> Publication:
        """Upload an export to the Hugging Face hub, as the account of the token from `hf auth login` or HF_TOKEN."""
        from tuneport_torch.export.push import push

        return push(self._base, repository, kind, request)

    def ensure_ready(self) -> None:
        """Load the model unless it is loaded; the only cost is memory."""
        with self._lock:
            self._ready()

    def close(self) -> None:
        """Free the memory; the next question loads the model again."""
        with self._lock:
            if self._loaded is None:
                return
            self._loaded.renderer.codec.close()
            self._loaded = None
            with LOADING:
                _free()

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            for name, value in ENVIRONMENT.items():  # no effect once torch is imported
                os.environ.setdefault(name, value)
            from tuneport_torch.text.load import load_codec
            from tuneport_torch.text.render import Renderer
            from tuneport_torch.text.thinking import Mode, has_defaults

            base = self._resolved = bases.fetch(self._base)
            with ThreadPoolExecutor(1, "text") as aside:  # its tokenizer starts in a separate process meanwhile
                loading = aside.submit(load_codec, base)
                import_libraries()
                text = loading.result()
            known = self._record or (text.template is not None and has_defaults(text.template.source))
            mode = Mode.SAVED if known else Mode.ROWS
            with LOADING:
                # What answering imports is imported here, where no other thread imports.
                import tuneport_torch.answer.generate
                import tuneport_torch.answer.live_batch
                import tuneport_torch.answer.scoring  # noqa: F401 - see above

                device, dtype = device_kind(self._device), self._kind()
                self._loaded = _Loaded(load_model(base, dtype=dtype, device=device), Renderer(text, mode))
        return self._loaded

    def _kind(self) -> str:
        """The number type of the weights."""
        return precision.fastest(device_kind(self._device)) if self._dtype == "auto" else self._dtype


def _free() -> None:
    """Return the memory of models that are no longer referenced."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc keeps freed memory unless it is asked to return it
        trim(0)


def _seed_each(options: GenerateOptions, count: int) -> list[GenerateOptions]:
    """The options for each of `count` prompts: the seed, and the seeds that follow it."""
    if options.seed is None:
        return [options] * count
    return [replace(options, seed=options.seed + number) for number in range(count)]
