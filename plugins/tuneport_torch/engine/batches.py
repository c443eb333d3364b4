"""Makes micro-batches on the device; on a GPU, the next one during the computation of the current one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuneport_torch.engine.forward import Forward
    from tuneport_torch.engine.objective import Objective


class Batches:
    """Makes micro-batches in the order in which they are requested.

    With `ahead` a thread packs the next one and starts to copy it to the device, on the same stream as everything else.
    A batch depends only on its examples, so it is the same in any thread, and one that is not used is dropped.
    """

    def __init__(self, forward: Forward, *, ahead: bool) -> None:
        self.forward = forward
        self._thread = ThreadPoolExecutor(1, "batches") if ahead else None
        self._next: tuple[Objective, list[int], Future[Any]] | None = None

    def of(
        self, data: Objective, examples: Sequence[int], tokens_per_batch: int, then: Sequence[int] = ()
    ) -> Iterator[Any]:
        """The micro-batches of these examples, made by `data.pack`; `then` are the examples of the next step."""
        groups = data.split(self.forward, examples, tokens_per_batch)
        if self._thread is None:
            yield from (data.pack(self.forward, group) for group in groups)
            return
        after = data.split(self.forward, then, tokens_per_batch)[:1] if then else []
        for group, following in zip_longest(groups, [*groups[1:], *after]):
            batch = self._take(data, group)
            if following is not None:
                made = self._thread.submit(data.pack, self.forward, following)
                self._next = data, following, made
            yield batch

    def close(self) -> None:
        """End the thread."""
        self._next = None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _take(self, data: Objective, group: list[int]) -> Any:
        following, self._next = self._next, None
        if following is not None and following[0] is data and following[1] == group:
            return following[2].result()
        return data.pack(self.forward, group)
