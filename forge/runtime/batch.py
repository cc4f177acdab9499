"""Batch: one step as flat int32 arrays, tokens of all sequences end to end; and the Runner that computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from forge.runtime.contract import INPUTS, Limits
from forge.runtime.pages import PageCopy
from forge.runtime.scheduler import Slice

if TYPE_CHECKING:
    import torch

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of `forge.runtime.contract`: views of the builder's arrays, valid until the next `build`.

    `page_copies` are (source, destination) pages, which the engine hands to `copy_pages` before `run`.
    """

    tokens: Ints
    positions: Ints
    slots: Ints
    query_start: Ints
    query_len: Ints
    context_len: Ints
    page_table: Ints
    logit_rows: Ints
    page_copies: list[PageCopy]

    @property
    def inputs(self) -> dict[str, Ints]:
        """The arrays by their names."""
        return {name: getattr(self, name) for name in INPUTS}


class Runner(Protocol):
    """A model on a device. Raises ForgeErrors; MemoryPlanError when a step does not fit the memory.

    `max_tokens` and `max_seqs` bound T and S of a batch, `context_length` bounds every context_len. `copy_pages` copies
    the k and v of all layers; no page is both a source and a destination. `run` writes k and v to the slots and gives
    logits float32 [R, V] on `device`, valid until the next run.
    """

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
    def context_length(self) -> int: ...
    @property
    def device(self) -> torch.device: ...

    def run(self, batch: Batch) -> torch.Tensor: ...

    def copy_pages(self, copies: Sequence[PageCopy]) -> None: ...


class BatchBuilder:
    """Turns slices into a Batch in arrays it owns. Rows of the page table are only added to while a row keeps its
    sequence, so that a step of steady decode writes a few numbers a sequence."""

    def __init__(self, *, max_tokens: int, max_seqs: int, page_size: int, context_length: int) -> None:
        limits = Limits(max_tokens, max_seqs, max_tokens, 1, page_size, -(-context_length // page_size))
        arrays = {n: np.zeros(given.type(limits).upper().concrete(), np.int32) for n, given in INPUTS.items()}
        self._whole = Batch(**arrays, page_copies=[])
        self._page_size = page_size
        self._at = np.arange(context_length, dtype=np.int32)
        self._page_of, self._offset_of = np.divmod(self._at, np.int32(page_size))
        # What row s of the page table holds: this list (tables are lists that only grow), up to this length.
        self._row_table: list[list[int] | None] = [None] * max_seqs
        self._row_len = [0] * max_seqs

    def build(self, slices: Sequence[Slice], page_copies: list[PageCopy], *, every_row: bool = False) -> Batch:
        """The batch of `slices`, which are within the builder's limits.

        Logits are wanted after the last token of each request, or with `every_row` after each token of the step.
        """
        whole, size = self._whole, self._page_size
        t = r = 0
        for s, (request, start, count) in enumerate(slices):
            pages, end = request.pages, start + count
            if self._row_table[s] is not pages or self._row_len[s] != len(pages):
                self._write_row(s, pages)
            if count == 1:
                page, offset = divmod(start, size)
                whole.tokens[t] = request.tokens[start]
                whole.positions[t] = start
                whole.slots[t] = pages[page] * size + offset
            else:
                whole.tokens[t : t + count] = request.tokens[start:end]
                whole.positions[t : t + count] = self._at[start:end]
                first = whole.page_table[s][self._page_of[start:end]] * size
                np.add(first, self._offset_of[start:end], out=whole.slots[t : t + count])
            whole.query_start[s] = t
            whole.query_len[s] = count
            whole.context_len[s] = end
            t += count
            rows = count if every_row else int(end == len(request.tokens))
            whole.logit_rows[r : r + rows] = range(t - rows, t)
            r += rows
        sizes = {"T": t, "S": len(slices), "R": r}
        cut = {name: array[: sizes[INPUTS[name].axes[0]]] for name, array in whole.inputs.items()}
        return Batch(**cut, page_copies=page_copies)

    def _write_row(self, s: int, pages: list[int]) -> None:
        row, old = self._whole.page_table[s], self._row_len[s]
        if self._row_table[s] is pages:
            row[old : len(pages)] = pages[old:]
        else:
            row[: len(pages)] = pages
            row[len(pages) : max(old, len(pages))] = 0
            self._row_table[s] = pages
        self._row_len[s] = len(pages)
