"""The loss of a micro-batch: packed if that is proven to be exact for the model, otherwise padded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from tuneport.errors import UnsupportedError
from tuneport_torch.bases.lora_layer import join
from tuneport_torch.engine.attention import NAME, Documents, to_device
from tuneport_torch.engine.fused import fuse
from tuneport_torch.engine.logprobs import target_logprobs
from tuneport_torch.engine.loss import Head, head_logits, read_head, weighted_loss
from tuneport_torch.engine.pack import micro_batches, padded_batches

TensorRow = tuple[Tensor, Tensor]  # ids, and their weights in the loss


class Forward(Protocol):
    """A way to compute losses with a model."""

    device: torch.device

    def open(self) -> None:
        """Make the model compute in this way. Called when its weights are ready for training."""

    def close(self) -> None:
        """Restore the model's attention."""

    def split(self, rows: Sequence[int], lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
        """The micro-batches of a step's rows."""

    def room(self, lengths: Sequence[int]) -> int:
        """The tokens that rows of these lengths need in one micro-batch."""

    def pack(self, rows: Sequence[TensorRow]) -> Any:
        """Make a micro-batch of R rows and start to copy it to the device. Same rows, same batch, in any thread."""

    def loss(self, batch: Any) -> Tensor:
        """The sum of weight x negative log-likelihood over the rows' targets."""

    def logprobs(self, batch: Any) -> Tensor:
        """The sum of weight x log-probability of each row's targets, of shape (R,)."""


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Concatenated rows, T tokens in all, with N targets, `counts` of each row: the hidden state at `where_N` predicts
    `target_N`, with the weight `weight_N` in the loss.
    """

    ids_T: Tensor
    positions_T: Tensor
    documents: Documents
    where_N: Tensor
    target_N: Tensor
    weight_N: Tensor
    counts: list[int]


def pack(rows: Sequence[TensorRow], device: torch.device) -> PackedBatch:
    """Concatenate rows. The first token of a row is never a target, because nothing in its row predicts it."""
    lengths = [len(ids) for ids, _ in rows]
    ids_T = torch.cat([ids for ids, _ in rows]).long()
    weights_T = torch.cat([weights for _, weights in rows]).float()
    starts = torch.tensor(lengths).cumsum(0) - torch.tensor(lengths)
    targets = weights_T.index_fill(0, starts, 0.0).nonzero()[:, 0]
    positions_T = torch.cat([torch.arange(length) for length in lengths])
    return PackedBatch(
        to_device(ids_T, device),
        to_device(positions_T, device),
        Documents(lengths, device),
        to_device(targets - 1, device),
        to_device(ids_T[targets], device),
        to_device(weights_T[targets], device),
        _counts(rows),
    )


class Packed:
    """Documents concatenated into one row, with the attention of attention.py, and logits only at targets.

    `compiler`, if set before `open`, compiles the model's layers and returns a function that undoes it.
    """

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self.model = model
        self.dtype = dtype
        self.device: torch.device = model.device
        self.compiler: Callable[[Any], Callable[[], None]] | None = None
        self.undo: list[Callable[[], None]] = []
        self.implementation = model.config._attn_implementation  # noqa: SLF001 - transformers has no public name for it

    def open(self) -> None:
        self.model.set_attn_implementation(NAME)
        if self.compiler is None:
            self.undo = [fuse(self.model), join(self.model)]
        else:  # it fuses operations itself, and cannot trace the fused functions here
            self.undo = [self.compiler(self.model)]
        self.head: Head = read_head(self.model, self.dtype)

    def close(self) -> None:
        while self.undo:
            self.undo.pop()()
        self.model.set_attn_implementation(self.implementation)

    def split(self, rows: Sequence[int], lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
        return micro_batches(rows, lengths, tokens_per_batch)

    def room(self, lengths: Sequence[int]) -> int:
        return sum(lengths)

    def pack(self, rows: Sequence[TensorRow]) -> PackedBatch:
        return pack(rows, self.device)

    def loss(self, batch: PackedBatch) -> Tensor:
        hidden_ND = self.hidden(batch).index_select(0, batch.where_N)
        return weighted_loss(hidden_ND, self.head, batch.target_N, batch.weight_N)

    def logprobs(self, batch: PackedBatch) -> Tensor:
        hidden_ND = self.hidden(batch).index_select(0, batch.where_N)
        return _row_sums(target_logprobs(hidden_ND, self.head, batch.target_N) * batch.weight_N, batch.counts)

    def hidden(self, batch: PackedBatch) -> Tensor:
        """Hidden states before the output head, (T, D)."""
        out = self.model.get_decoder()(
            input_ids=batch.ids_T[None],
            position_ids=batch.positions_T[None],
            attention_mask=None,
            use_cache=False,  # with a cache, models would ignore where documents end
            documents=batch.documents,
        )
        hidden_TD: Tensor = out.last_hidden_state[0]
        return hidden_TD


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """B rows padded to T tokens, with N targets, `counts` of each row: the logits at `row_N`, `position_N` predict
    `target_N`, with the weight `weight_N` in the loss.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    row_N: Tensor
    position_N: Tensor
    target_N: Tensor
    weight_N: Tensor
    counts: list[int]


class Padded:
    """The model's own forward pass over rows padded at their end, for models that cannot be packed."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.device: torch.device = model.device

    def open(self) -> None:
        """Nothing to do: the model computes as usual."""

    def close(self) -> None:
        """Nothing to restore."""

    def split(self, rows: Sequence[int], lengths: Sequence[int], tokens_per_batch: int) -> list[list[int]]:
        return padded_batches(rows, lengths, tokens_per_batch)

    def room(self, lengths: Sequence[int]) -> int:
        return len(lengths) * max(lengths)

    def pack(self, rows: Sequence[TensorRow]) -> PaddedBatch:
        longest = max(len(ids) for ids, _ in rows)
        ids_BT = torch.stack([F.pad(ids.long(), (0, longest - len(ids))) for ids, _ in rows])
        weights_BT = torch.stack([F.pad(weights.float(), (0, longest - len(weights))) for _, weights in rows])
        mask_BT = torch.stack([(torch.arange(longest) < len(ids)).long() for ids, _ in rows])  # by length, never by id
        row_N, position_N = weights_BT[:, 1:].nonzero(as_tuple=True)
        return PaddedBatch(
            to_device(ids_BT, self.device),
            to_device(mask_BT, self.device),
            to_device(row_N, self.device),
            to_device(position_N, self.device),
            to_device(ids_BT[row_N, position_N + 1], self.device),
            to_device(weights_BT[row_N, position_N + 1], self.device),
            _counts(rows),
        )

    def loss(self, batch: PaddedBatch) -> Tensor:
        return self._weighted_nll(batch).sum()

    def logprobs(self, batch: PaddedBatch) -> Tensor:
        return _row_sums(-self._weighted_nll(batch), batch.counts)

    def _weighted_nll(self, batch: PaddedBatch) -> Tensor:
        """Weight x negative log-likelihood of every target, row by row, of shape (N,)."""
        logits_BTV = self.model(input_ids=batch.ids_BT, attention_mask=batch.mask_BT, use_cache=False).logits
        logits_NV = logits_BTV[batch.row_N, batch.position_N].float()
        return F.cross_entropy(logits_NV, batch.target_N, reduction="none") * batch.weight_N


def _counts(rows: Sequence[TensorRow]) -> list[int]:
    return [int((weights[1:] != 0).sum()) for _, weights in rows]


def _row_sums(target_N: Tensor, counts: list[int]) -> Tensor:
    """The sum over the targets of each row, of shape (R,)."""
    return torch.stack([part.sum() for part in torch.split(target_N, counts)])


def choose_forward(model: Any, packing: bool | str, dtype: torch.dtype, emit: Callable[..., None]) -> Forward:
    """Packed, if that is wanted and proven for this model; otherwise padded, with the reason in the log."""
    if packing is False:
        return Padded(model)
    reason = why_not_packed(model)
    if reason is None:
        return Packed(model, dtype)
    if packing is True:
        raise UnsupportedError(
            f"{type(model).__name__} cannot be trained packed: {reason}.",
            remedy="Remove the setting packing, or set it to false.",
        )
    emit("log", f"Rows are padded, not packed, which is slower: {reason}.", level="warning")
    return Padded(model)


def why_not_packed(model: Any) -> str | None:
    """Try packing on three small documents, in the model's own number types. None if the logits are those of each
    document alone and do not change when another document changes; otherwise what went wrong.
    """
    generator = torch.Generator().manual_seed(0)
    ids_3T = torch.randint(0, model.config.get_text_config().vocab_size, (3, 9), generator=generator)
    rows = [ids_3T[0], ids_3T[1, :8], ids_3T[2, :5]]
    was_training, packed = model.training, Packed(model, model.dtype)
    model.eval()
    try:
        with torch.no_grad():
            logits_3TV = model(ids_3T.to(model.device), use_cache=False).logits.float()
            # In a causal model, logits do not depend on later tokens.
            alone_NV = torch.cat([logits_TV[: len(ids)] for logits_TV, ids in zip(logits_3TV, rows, strict=True)])
            packed.open()
            ours_NV, other_NV = _all_logits(packed, rows), _all_logits(packed, [rows[0].flip(0), *rows[1:]])
    except Exception as error:  # noqa: BLE001 - whatever a model's code raises, its rows are padded then
        return f"{type(error).__name__}: {error}"
    finally:
        packed.close()
        model.train(was_training)
    size = float(alone_NV.abs().max())
    exact = model.dtype == torch.float32
    if float((ours_NV - alone_NV).abs().max()) > (1e-4 if exact else 5e-2) * size:
        return "packed rows have other logits than single rows"
    if float((ours_NV - other_NV)[len(rows[0]) :].abs().max()) > 1e-4 * size:
        return "packed rows influence each other"
    return None


def _all_logits(packed: Packed, rows: Sequence[Tensor]) -> Tensor:
    batch = pack([(ids, torch.ones(len(ids))) for ids in rows], packed.device)
    return head_logits(packed.hidden(batch), packed.head)
