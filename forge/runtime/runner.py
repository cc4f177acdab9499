"""The Runner, a model on a device: it is launched on a batch, and gives something pending."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from forge.runtime.pages import PageCopy
from forge.runtime.slots import SlotCopy

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from forge.runtime.batch import Batch
    from forge.runtime.transfer import Download


class Pending:
    """A step that was launched: logits f32[R,V] and ids[R], each row's likeliest token, or -1 where it is bad.

    Both lie on the runner's device until its next launch: what is to read them is queued before that. So is the copy
    of the ids to the host, by `fetch`. `collect` may come later, and waits for it.
    """

    def __init__(self, logits: torch.Tensor, ids: torch.Tensor) -> None:
        self.logits, self.ids = logits, ids
        self._copy: Download | None = None

    def fetch(self) -> Pending:
        """Queue the copy of the ids to the host."""
        from forge.runtime.transfer import Download

        self._copy = self._copy or Download(self.ids)
        return self

    def collect(self) -> NDArray[np.int64]:
        """The ids, on the host."""
        self.fetch()
        assert self._copy is not None
        return self._copy.wait().astype("int64", copy=False)


class Runner(Protocol):
    """A model on a device. Raises ForgeErrors; MemoryPlanError when a step does not fit the memory.

    `max_tokens` and `max_seqs` bound T and S of a batch, `context_length` bounds every context_len. `copy_pages` copies
    the k and v of all layers; no page is both a source and a destination. A model whose sequences have state of their
    own has `num_slots` slots of it, else 0: `change_slots` copies slots, where every source is read before any is
    written, and then sets some to zero. `launch` writes k and v to the batch's slots, moves the sequences' own state
    on, and gives the logits of its rows. Launches, copies and changes are carried out in their order; a batch is not
    changed before its step was collected. Who launches holds `turn` until all that reads the results is queued, since
    others may launch the runner too.

    A runner that `goes_ahead` computes while the host does something else, so that it pays to launch a step before the
    ids of the last one are known: `keep` keeps them, on the device, and a token of -1 - r is the r-th of them.
    """

    @property
    def turn(self) -> AbstractContextManager[Any]: ...

    @property
    def vocab_size(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def max_seqs(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def num_pages(self) -> int: ...
    @property
    def num_slots(self) -> int: ...
    @property
    def context_length(self) -> int: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def goes_ahead(self) -> bool: ...

    def launch(self, batch: Batch) -> Pending: ...

    def keep(self, ids: torch.Tensor) -> None: ...

    def copy_pages(self, copies: Sequence[PageCopy]) -> None: ...

    def change_slots(self, copies: Sequence[SlotCopy], cleared: Sequence[int]) -> None: ...
