"""What a training would do and need, estimated without torch in well under a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, cast

from tuneport.errors import TuneportError
from tuneport.local import Device
from tuneport.plugin import Completion, Conversation, Plan, Preference, Quantity, scale_sample, size
from tuneport_torch import pace
from tuneport_torch.bases import text_folder
from tuneport_torch.bases.precision import expect_bfloat16
from tuneport_torch.config import TorchSettings, check_method
from tuneport_torch.devices import device_kind, list_devices, usual_threads
from tuneport_torch.engine import footprint
from tuneport_torch.resolved import Resolved, explain, resolve
from tuneport_torch.text.conversion import conversion_folder
from tuneport_torch.text.lengths import Lengths, loses_answer
from tuneport_torch.text.pairs import conversations

if TYPE_CHECKING:
    from tuneport.plugin import DataRules, Dataset, Example, Piece, TrainRequest
    from tuneport_torch.bases import Base
    from tuneport_torch.pace import Pace

_COUNTED_FULLY = 2_000  # more rows than these are sampled
_SAMPLE = 1_000
_CHARACTERS_PER_TOKEN = 4.0  # usual for English; used only where there is no tokenizer yet
_START_SECONDS = 12.0  # importing torch, loading a small model, writing the result
_COMPILING_SECONDS = 60.0  # for the layers; 25 to 120 were seen on a CPU
_LONGEST = 2.5  # length of a long row, relative to the mean
_BACKWARD = 3  # forward and backward pass cost three times the forward pass of an evaluation


def make_plan(request: TrainRequest, base: Base, rules: DataRules, find_unreadable: Callable[[], str | None]) -> Plan:
    """The plan of a request for a resolved base. Where the base's tokenizer is here, `rules` counts tokens and
    `find_unreadable` returns a token that the model's embedding lacks, if there is one.
    """
    settings = cast(TorchSettings, request.settings)
    check_method(settings, request.options.method)
    tokenizer_here = _tokenizer_here(base)
    kind = device_kind(settings.device)
    found = list_devices(kind)
    device = found[0] if found else Device(kind, f"no {kind} device", 0)
    rows, checked = len(request.train), len(request.validation) if request.validation is not None else 0
    read = rules.for_rows(chain(request.train, request.validation or ())) if tokenizer_here else None
    tokens, aside, lengths = _count(request, _Counting(settings, base, read, request.options.too_long))
    expected = pace.estimate(base, settings, device)
    resolved = _resolve(request, base, device, tokens, aside, expected)
    referred = (tokens.value or 0) + (aside.value or 0 if aside else 0) if request.options.method == "dpo" else 0
    used, why = explain(
        settings,
        resolved,
        epochs=request.options.epochs,
        method=request.options.method,
        device=device.name,
        model=device.model,
    )
    seconds = _seconds(expected, resolved, tokens, aside, referred)
    return Plan(
        base=str(request.base),
        rows=rows,
        validation_rows=checked,
        tokens=replace(tokens, value=(tokens.value or 0) * resolved.epochs),
        steps=replace(
            tokens, value=resolved.total_steps, unit="steps", source=f"{resolved.tokens_per_step} tokens a step"
        ),
        seconds=seconds,
        memory=_memory(settings, base, device, resolved, _longest(tokens, rows)),
        usd=_usd(settings, seconds),
        epochs=Quantity(
            value=resolved.epochs,
            unit="epochs",
            source="rule for auto" if request.options.epochs == "auto" else "as requested",
        ),
        resolved={**asdict(resolved), **used, "device_model": device.model},
        reasons=why,
        notes=(
            *([lengths.note] if lengths is not None and lengths.note else []),
            *_notes(
                request, base, device, find_unreadable if tokenizer_here else None, found, compiled=resolved.compile
            ),
        ),
    )


def _count(request: TrainRequest, counting: _Counting) -> tuple[Quantity, Quantity | None, Lengths | None]:
    """The tokens of an epoch, those of the validation rows, and how long the training rows are. Raises DataError for
    rows that are too long, if the policy is to stop.
    """
    tokens, lengths = counting.tokens(request.train, len(request.train))
    aside, aside_lengths = None, None
    if request.validation:
        aside, aside_lengths = counting.tokens(request.validation, len(request.validation))
    for part, found in (("train", lengths), ("validation", aside_lengths)):
        if found is not None and (refusal := found.refusal(part)):
            raise refusal
    return tokens, aside, lengths


def _resolve(
    request: TrainRequest, base: Base, device: Device, tokens: Quantity, aside: Quantity | None, expected: Pace | None
) -> Resolved:
    """What "auto" resolves to, as far as it is known before the training; `aside` are the validation rows' tokens."""
    settings, rows = cast(TorchSettings, request.settings), len(request.train)
    kind = device_kind(settings.device)
    longest = _longest(tokens, rows)
    return resolve(
        settings,
        epochs=request.options.epochs,
        rows=rows,
        tokens=int(tokens.value or 0),
        validation_tokens=int(aside.value or 0) if aside else 0,
        hidden_size=base.facts.hidden or 1024,
        device=kind,
        method=request.options.method,
        max_positions=base.facts.max_positions,
        has_bfloat16=expect_bfloat16(kind),
        threads=usual_threads(),
        fits=not footprint.needs_recompute(base.facts, settings, kind, device.memory, longest),
        tokens_per_second=expected.tokens_per_second if expected else None,
    )


def _tokenizer_here(base: Base) -> bool:
    """Whether rows can be counted without a download or a conversion."""
    folder = text_folder(base)
    if folder is not None and (folder / "tokenizer.json").is_file():
        return True
    return (conversion_folder(base) / "tokenizer.json").is_file()


@dataclass(frozen=True, slots=True)
class _Counting:
    """Counts the tokens of an epoch, and the rows that are too long."""

    settings: TorchSettings
    base: Base
    rules: DataRules | None
    policy: str

    def tokens(self, data: Dataset, rows: int) -> tuple[Quantity, Lengths | None]:
        """Tokens of one epoch: counted, or from a sample with twice its standard error, or from characters."""
        if not rows:
            return Quantity(value=0, unit="tokens", source="no rows"), None
        examples = list(data if rows <= _COUNTED_FULLY else data.sample(_SAMPLE))
        sample = [_texts(one) for one in examples]
        scale = rows / max(1, len(sample))
        if self.rules is None or self.rules.count_tokens is None:
            characters = sum(_characters(text) for texts in sample for text in texts) * scale
            guess = round(characters / _CHARACTERS_PER_TOKEN)
            source = "estimated from characters, no tokenizer yet"
            return Quantity(value=guess, unit="tokens", source=source, error="±40%"), None
        each = iter(self.rules.count_tokens([text for texts in sample for text in texts]))
        arms = [[next(each) for _ in texts] for texts in sample]
        counts, lengths = self._within(examples, arms, rows)
        return scale_sample(counts, rows), lengths

    def _within(self, examples: Sequence[Example], arms: list[list[int]], rows: int) -> tuple[list[int], Lengths]:
        """The tokens of each example that are trained on within the limit, and what the limit does to the rows."""
        asked = self.settings.max_tokens != "auto"
        limit = self.base.facts.max_positions if self.settings.max_tokens == "auto" else self.settings.max_tokens
        longer = [place for place, sizes in enumerate(arms) if limit is not None and max(sizes) > limit]
        lost = set(longer if self.policy == "drop" else self._without_answer(examples, longer, limit))
        counts = [
            0 if place in lost else sum(min(size, limit) if limit else size for size in sizes)
            for place, sizes in enumerate(arms)
        ]
        scale = rows / len(examples)
        lengths = Lengths(
            rows=rows,
            longer=round(len(longer) * scale),
            lost=round(len(lost) * scale),
            longest=max(map(max, arms)),
            limit=limit,
            policy=self.policy,
            from_setting=asked,
            estimated=scale != 1,
        )
        return counts, lengths

    def _without_answer(self, examples: Sequence[Example], longer: list[int], limit: int | None) -> list[int]:
        preview = self.rules.preview if self.rules else None
        if preview is None or limit is None or self.policy != "truncate":
            return []
        return [place for place in longer if self._loses(preview, examples[place], limit)]

    @staticmethod
    def _loses(preview: Callable[[Example], list[Piece]], example: Example, limit: int) -> bool:
        try:
            return loses_answer(example, preview(example), limit)
        except TuneportError:  # a row that cannot be rendered, which a check names
            return False


def _texts(example: Example) -> tuple[Example, ...]:
    """What an epoch reads of an example: of a preference, the prompt with each of its answers."""
    return conversations(example) if isinstance(example, Preference) else (example,)


def _characters(example: Example) -> int:
    if isinstance(example, Conversation):
        return sum(len(message.text) + 16 for message in example.messages)  # 16: about what a template adds to a turn
    return len(example.prompt) + len(example.completion) if isinstance(example, Completion) else 0


def _longest(tokens: Quantity, rows: int) -> int:
    """The tokens of a long row."""
    return round(_LONGEST * (tokens.value or 0) / max(rows, 1))


def _seconds(
    expected: Pace | None, resolved: Resolved, tokens: Quantity, aside: Quantity | None, referred: float
) -> Quantity:
    """How long it takes; `referred` are the tokens on which the reference is measured, once."""
    if expected is None:
        return Quantity(value=None, unit="s", source="the base's size is not known before it is downloaded")
    trained = (tokens.value or 0) * resolved.epochs
    evaluations = -(-resolved.total_steps // resolved.evaluate_every)
    evaluated = (aside.value or 0) * evaluations if aside else 0
    start = _START_SECONDS + (_COMPILING_SECONDS if resolved.compile else 0.0)
    seconds = start + (trained + (evaluated + referred) / _BACKWARD) / expected.tokens_per_second
    source = f"{expected.tokens_per_second:,.0f} tokens/s {expected.source}"
    return Quantity(value=round(seconds, 1), unit="s", source=source, error=expected.error)


def _memory(settings: TorchSettings, base: Base, device: Device, resolved: Resolved, longest: int) -> Quantity:
    kind = device.name.partition(":")[0]
    tokens = max(longest, min(resolved.tokens_per_batch, resolved.tokens_per_step))
    twice = settings.activation_checkpointing == "auto" and resolved.activation_checkpointing is True
    expected = footprint.estimate(
        base.facts, settings, kind, tokens_per_batch=tokens, longest=longest, recompute=twice or None
    )
    if expected is None:
        return Quantity(value=None, unit="bytes", source="the base's shape is not known before it is downloaded")
    source = ", ".join(f"{name} {size(part)}" for name, part in expected.parts.items())
    if twice:
        source += "; activations are computed twice, else it would not fit"
    if settings.mode == "full" and base.facts.parameters:  # engine.saving takes it only where it is free
        source += f"; {size(12.0 * base.facts.parameters)} more of main memory, if free, for writing checkpoints"
    if 0 < device.memory < expected.total:
        source += f"; more than the {size(device.memory)} available: micro-batches will be smaller"
    return Quantity(value=round(expected.total), unit="bytes", source=source, error=footprint.error(kind))


def _usd(settings: TorchSettings, seconds: Quantity) -> Quantity:
    if not settings.usd_per_hour:
        return Quantity(value=0.0, unit="USD", source="your own machine; backends.torch.usd_per_hour is not set")
    source = f"{settings.usd_per_hour:g} USD per hour, as set"
    value = None if seconds.value is None else round(seconds.value / 3600 * settings.usd_per_hour, 4)
    return Quantity(value=value, unit="USD", source=source, error=seconds.error)


def _notes(
    request: TrainRequest,
    base: Base,
    device: Device,
    find_unreadable: Callable[[], str | None] | None,
    found: Sequence[Device],
    *,
    compiled: bool,
) -> tuple[str, ...]:
    notes, settings = [], cast(TorchSettings, request.settings)
    if request.options.method == "dpo":
        notes.append(
            f"The reference is {request.base} as it is now: measured once on every pair, before the first step."
        )
    if not base.is_present:
        notes.append(f"{base.name} is not on this machine yet: the job downloads it first.")
    if find_unreadable is None:
        notes.append("Tokens are estimated: the base's tokenizer is not in the cache yet.")
    elif why := find_unreadable():
        notes.append(f"The tokenizer is longer than the model's embedding: {why}. A row that uses it is an error.")
    if not found:
        notes.append(f"There is no {device.name} device here: the job would fail.")
    if compiled:
        notes.append("The model's layers are compiled first, which takes half a minute or more.")
    if settings.mode == "full" and device.name == "cpu" and (base.facts.parameters or 0) > 500e6:
        notes.append("Full fine-tuning of a model of this size takes very long on a CPU; mode lora is usual.")
    return tuple(notes)
