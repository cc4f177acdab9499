"""The contract of a step: what a model's graph is fed, an input a line, and how much of it there may be.

Axes: T tokens, S sequences, R rows of logits, of which a step has any number up to the limits; PM pages of the longest
context. Builders of graphs declare their inputs from here, batches are made and padded by it.
"""

from __future__ import annotations

from dataclasses import dataclass

from forge.graph.types import Dim, Sym, TensorType, tensor


@dataclass(frozen=True)
class Limits:
    """What a compiled model can hold: tokens, sequences and rows of logits a step, pages, and tokens a page.

    State of which a sequence has one has `max_seqs` slots.
    """

    max_tokens: int
    max_seqs: int
    max_logits: int
    num_pages: int
    page_size: int
    pages_per_seq: int

    @property
    def axes(self) -> dict[str, Dim]:
        """The dimension of each axis of the contract."""
        counted = {"T": self.max_tokens, "S": self.max_seqs, "R": self.max_logits}
        return {**{name: Sym(name, most) for name, most in counted.items()}, "PM": self.pages_per_seq}


@dataclass(frozen=True)
class Input:
    """One input: a tensor of `dtype` along `axes`. Where a step is padded along its first axis it holds `pad`.

    `only_with` is the kind of state without which a graph is not fed it.
    """

    name: str
    axes: tuple[str, ...]
    meaning: str
    pad: int = 0
    dtype: str = "i32"
    only_with: str = ""

    def type(self, limits: Limits) -> TensorType:
        """Its type in a graph with these limits."""
        return tensor(self.dtype, *(limits.axes[axis] for axis in self.axes))


KEPT = "kept"  # the state i32[S] of the ids that were last given to `Runner.keep`

# A padded token writes no keys (slot -1) and belongs to no sequence; a padded sequence has no tokens and no state.
_ALL = (
    Input("tokens", ("T",), "token ids, those of a sequence one after the other; -1 - r is the r-th id that is kept"),
    Input("positions", ("T",), "the token's place in its sequence, from 0"),
    Input("slots", ("T",), "page * page size + offset: where the token's k and v go", pad=-1),
    Input("page_table", ("S", "PM"), "the sequence's pages in order; unused entries are 0"),
    Input("query_start", ("S",), "its first token in `tokens`"),
    Input("query_len", ("S",), "its tokens in this step, at least 1"),
    Input("context_len", ("S",), "the keys that its last token sees, its own among them"),
    Input("state_slots", ("S",), "where the sequence's own state is", pad=-1, only_with="sequence"),
    Input("logit_rows", ("R",), "places in `tokens` of the rows whose logits are wanted, rising"),
)
INPUTS = {given.name: given for given in _ALL}
PADDING = {given.name: given.pad for given in _ALL}
