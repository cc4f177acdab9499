"""Batch: one step as flat int32 arrays, tokens of all sequences end to end; and who makes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forge.runtime.contract import INPUTS, Limits
from forge.runtime.pages import PageCopy
from forge.runtime.request import Request
from forge.runtime.scheduler import Slice

Ints = NDArray[np.int32]

NONE_KEPT: Mapping[Request, int] = {}
IN_FLIGHT = 2  # batches that are valid at a time: that of the step at work, and the next one


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of `forge.runtime.contract`: views of the builder's arrays, valid while one more batch is built.

    A token of -1 - r is the r-th id that the runner was last told to keep: its number is not known on the host yet.

    `page_copies` are (source, destination) pages, which the engine hands to `copy_pages` before the launch.
    """

    tokens: Ints
    positions: Ints
    slots: Ints
    query_start: Ints
    query_len: Ints
    context_len: Ints
    page_table: Ints
    state_slots: Ints
    logit_rows: Ints
    page_copies: list[PageCopy]

    @property
    def inputs(self) -> dict[str, Ints]:
        """The arrays by their names."""
        return {name: getattr(self, name) for name in INPUTS}


class BatchBuilder:
    """Turns slices into batches, in one of IN_FLIGHT sets of arrays after the other.

    So a batch is valid until its step was collected, if a step is collected before the next but one is launched.
    """

    def __init__(self, *, max_tokens: int, max_seqs: int, page_size: int, context_length: int) -> None:
        limits = Limits(max_tokens, max_seqs, max_tokens, 1, page_size, -(-context_length // page_size))
        self._stagings = [_Staging(limits, context_length) for _ in range(IN_FLIGHT)]
        self._turn = 0

    def build(
        self,
        slices: Sequence[Slice],
        page_copies: list[PageCopy],
        *,
        every_row: bool = False,
        kept: Mapping[Request, int] = NONE_KEPT,
    ) -> Batch:
        """The batch of `slices`, which are within the builder's limits.

        Logits are wanted after the last token of each request, or with `every_row` after each token of the step.
        `kept` says which of the ids that the runner keeps is the next token of a request, where it is not known yet.
        """
        self._turn = (self._turn + 1) % IN_FLIGHT
        return self._stagings[self._turn].fill(slices, page_copies, every_row, kept)


class _Staging:
    """The arrays of one batch. Rows of the page table are only added to while a row keeps its sequence, so that a step
    of steady decode writes a few numbers a sequence."""

    def __init__(self, limits: Limits, context_length: int) -> None:
        arrays = {n: np.zeros(given.type(limits).upper().concrete(), np.int32) for n, given in INPUTS.items()}
        self._whole = Batch(**arrays, page_copies=[])
        self._named = [(name, array, INPUTS[name].axes[0]) for name, array in arrays.items()]
        self._page_size = limits.page_size
        self._at = np.arange(context_length, dtype=np.int32)
        self._page_of, self._offset_of = np.divmod(self._at, np.int32(limits.page_size))
        # What row s of the page table holds: this list (tables are lists that only grow), up to this length.
        self._row_table: list[list[int] | None] = [None] * limits.max_seqs
        self._row_len = [0] * limits.max_seqs

    def fill(
        self, slices: Sequence[Slice], page_copies: list[PageCopy], every_row: bool, kept: Mapping[Request, int]
    ) -> Batch:
        whole, size = self._whole, self._page_size
        tokens, positions, slots = whole.tokens, whole.positions, whole.slots
        query_start, query_len, context_len = whole.query_start, whole.query_len, whole.context_len
        t = r = 0
        for s, (request, start, count) in enumerate(slices):
            pages, end = request.pages, start + count
            if self._row_table[s] is not pages or self._row_len[s] != len(pages):
                self._write_row(s, pages)
            if count == 1:
                page, offset = divmod(start, size)
                tokens[t] = request.tokens[start] if start < len(request.tokens) else -1 - kept[request]
                positions[t] = start
                slots[t] = pages[page] * size + offset
            else:
                tokens[t : t + count] = request.tokens[start:end]
                positions[t : t + count] = self._at[start:end]
                first = whole.page_table[s][self._page_of[start:end]] * size
                np.add(first, self._offset_of[start:end], out=slots[t : t + count])
            query_start[s] = t
            query_len[s] = count
            context_len[s] = end
            if request.slot >= 0:
                whole.state_slots[s] = request.slot
            t += count
            if every_row:
                whole.logit_rows[r : r + count] = range(t - count, t)
                r += count
            elif end >= len(request.tokens):
                whole.logit_rows[r] = t - 1
                r += 1
        sizes = {"T": t, "S": len(slices), "R": r}
        cut = {name: array[: sizes[axis]] for name, array, axis in self._named}
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
