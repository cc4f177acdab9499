"""Batch: one step as flat int32 arrays, tokens of all sequences end to end; and the Runner that computes it.

Axis letters: T tokens, S sequences, R logit rows, PM pages of the longest context, B page size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from forge.runtime.pages import PageCopy
from forge.runtime.scheduler import Slice

if TYPE_CHECKING:
    import torch

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Views of the builder's arrays: valid until the next `build`.

    tokens[T]          token ids
    positions[T]       place of the token in its sequence, from 0
    slots[T]           page * B + offset: where the token's k and v go
    query_start[S]     first token of the sequence in `tokens`
    query_len[S]       its tokens in this step, at least 1
    context_len[S]     keys visible to its last token, that token included
    page_table[S, PM]  its pages in order; unused entries are 0
    logit_rows[R]      indices into `tokens` of the rows whose logits are wanted, rising
    page_copies        (source, destination) pages, which the engine hands to `copy_pages` before `run`
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
        def ints(*shape: int) -> Ints:
            return np.zeros(shape, np.int32)

        self._page_size = page_size
        self._tokens, self._positions, self._slots = ints(max_tokens), ints(max_tokens), ints(max_tokens)
        self._query_start, self._query_len, self._context_len = ints(max_seqs), ints(max_seqs), ints(max_seqs)
        self._logit_rows = ints(max_seqs)
        self._page_table = ints(max_seqs, -(-context_length // page_size))
        self._at = np.arange(context_length, dtype=np.int32)
        self._page_of, self._offset_of = np.divmod(self._at, np.int32(page_size))
        # What row s of the page table holds: this list (tables are lists that only grow), up to this length.
        self._row_table: list[list[int] | None] = [None] * max_seqs
        self._row_len = [0] * max_seqs

    def build(self, slices: Sequence[Slice], page_copies: list[PageCopy]) -> Batch:
        """The batch of `slices`, which are within the builder's limits."""
        size = self._page_size
        t = r = 0
        for s, (request, start, count) in enumerate(slices):
            pages, end = request.pages, start + count
            if self._row_table[s] is not pages or self._row_len[s] != len(pages):
                self._write_row(s, pages)
            if count == 1:
                page, offset = divmod(start, size)
                self._tokens[t] = request.tokens[start]
                self._positions[t] = start
                self._slots[t] = pages[page] * size + offset
            else:
                self._tokens[t : t + count] = request.tokens[start:end]
                self._positions[t : t + count] = self._at[start:end]
                first = self._page_table[s][self._page_of[start:end]] * size
                np.add(first, self._offset_of[start:end], out=self._slots[t : t + count])
            self._query_start[s] = t
            self._query_len[s] = count
            self._context_len[s] = end
            t += count
            if end == len(request.tokens):
                self._logit_rows[r] = t - 1
                r += 1
        n = len(slices)
        return Batch(
            tokens=self._tokens[:t],
            positions=self._positions[:t],
            slots=self._slots[:t],
            query_start=self._query_start[:n],
            query_len=self._query_len[:n],
            context_len=self._context_len[:n],
            page_table=self._page_table[:n],
            logit_rows=self._logit_rows[:r],
            page_copies=page_copies,
        )

    def _write_row(self, s: int, pages: list[int]) -> None:
        row, old = self._page_table[s], self._row_len[s]
        if self._row_table[s] is pages:
            row[old : len(pages)] = pages[old:]
        else:
            row[: len(pages)] = pages
            row[len(pages) : max(old, len(pages))] = 0
            self._row_table[s] = pages
        self._row_len[s] = len(pages)
