"""A language model and a tokenizer made of hashes, and what an engine must answer with them.

`FakeRunner` keeps (position, token) in the slots it is told to write and reads each context back through the page
table, so any error in slots, page tables, lengths, copies, forks or preemption changes its logits or fails at once.
With `num_slots` it also keeps a state a sequence, which each token moves on, and answers by that. With `goes_ahead` it
is launched on tokens that only it knows.
`expected` is the same model as a loop over one sequence, with sampling written out in numpy.
"""

from __future__ import annotations

import codecs
import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from forge.runtime.batch import Batch
from forge.runtime.params import SamplingParams
from forge.runtime.runner import Pending
from forge.runtime.sampling import greedy_ids
from forge.runtime.uniform import Uniforms

VOCAB = 48
EOS = 0
_TABLE = np.random.default_rng(7).normal(0, 2, (512, VOCAB)).astype(np.float32)
_PIECES = [b"", *(bytes([b]) for b in b"abcdefgh \n"), *(b"th", b"the", b" a", b"ing", b"xyz")]
_PIECES += [bytes([b]) for b in "é€😀".encode()]
_PIECES += [f"<{i}>".encode() for i in range(VOCAB - len(_PIECES))]


def logits_of(context: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float32]:
    """The model: logits[V] after `context`."""
    return _TABLE[zlib.crc32(np.asarray(context, np.int64).tobytes()) % len(_TABLE)]


class FakeRunner:
    """A Runner. `before_run` may raise; `spoil` maps a context to True where its logits are NaN."""

    ahead = False  # what runners do that are not told

    def __init__(
        self,
        *,
        num_pages: int = 64,
        page_size: int = 4,
        max_tokens: int = 32,
        max_seqs: int = 8,
        context_length: int = 128,
        num_slots: int = 0,
        goes_ahead: bool | None = None,
    ) -> None:
        self.vocab_size, self.num_pages, self.page_size = VOCAB, num_pages, page_size
        self.max_tokens, self.max_seqs, self.context_length = max_tokens, max_seqs, context_length
        self.device, self.turn = torch.device("cpu"), threading.Lock()
        self.num_slots = num_slots
        self.goes_ahead = self.ahead if goes_ahead is None else goes_ahead
        self.kept = torch.zeros(0, dtype=torch.int64)
        self.unknown = 0  # tokens that were not known on the host
        self.states = np.full(num_slots, 12345, np.int64)  # of each sequence: the hash of its tokens
        self.slots = np.full((num_pages * page_size, 2), -1, np.int64)
        self.before_run = lambda batch: None
        self.spoil = lambda context: False
        self.copied = 0
        self.largest = 0

    def copy_pages(self, copies: Sequence[tuple[int, int]]) -> None:
        pages = self.slots.reshape(self.num_pages, self.page_size, 2)
        assert not {source for source, _ in copies} & {destination for _, destination in copies}
        assert len({destination for _, destination in copies}) == len(copies)
        for source, destination in copies:
            pages[destination] = pages[source]
        self.copied += len(copies)

    def change_slots(self, copies: Sequence[tuple[int, int]], cleared: Sequence[int]) -> None:
        assert len({to for _, to in copies} | set(cleared)) == len(copies) + len(cleared)
        before = self.states.copy()
        for source, to in copies:
            self.states[to] = before[source]
        self.states[list(cleared)] = 0

    def keep(self, ids: torch.Tensor) -> None:
        self.kept = ids.clone()

    def launch(self, batch: Batch) -> Pending:
        self.before_run(batch)
        unknown = batch.tokens < 0
        self.unknown += int(unknown.sum())
        tokens = batch.tokens.copy()
        tokens[unknown] = self.kept.numpy()[-1 - tokens[unknown]]
        total, seqs = len(batch.tokens), len(batch.query_start)
        self.largest = max(self.largest, seqs)
        assert 1 <= total <= self.max_tokens and 1 <= seqs <= self.max_seqs
        assert len(set(batch.slots.tolist())) == total, "two tokens in one slot"
        assert not self.num_slots or len(set(batch.state_slots.tolist())) == seqs, "two sequences in one slot"
        self.slots[batch.slots, 0] = batch.positions
        self.slots[batch.slots, 1] = tokens
        rows = []
        last = batch.query_start + batch.query_len - 1
        for s in range(seqs):
            length = int(batch.context_len[s])
            pages = batch.page_table[s, : -(-length // self.page_size)].astype(np.int64)
            where = (pages[:, None] * self.page_size + np.arange(self.page_size)).reshape(-1)[:length]
            assert (self.slots[where, 0] == np.arange(length)).all(), "a context with holes or another's tokens"
            context, row = self.slots[where, 1], logits_of(self.slots[where, 1])
            if self.num_slots:
                slot, start = batch.state_slots[s], batch.query_start[s]
                new = tokens[start : start + batch.query_len[s]].astype(np.int64)
                self.states[slot] = zlib.crc32(new.tobytes(), int(self.states[slot]))
                row = _TABLE[self.states[slot] % len(_TABLE)]
            if last[s] in batch.logit_rows:
                rows.append(row * (np.nan if self.spoil(context) else 1))
        assert len(rows) == len(batch.logit_rows)
        logits = torch.from_numpy(np.array(rows, np.float32).reshape(len(rows), VOCAB))
        return Pending(logits, greedy_ids(logits))


class _Stream:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        return self._decoder.decode(_PIECES[token])

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class FakeTokenizer:
    """Pieces of one to four bytes, some of them parts of a character; id 0 ends the text."""

    vocab_size = VOCAB
    eos_id = EOS
    stop_ids = frozenset({EOS})

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        return [1 + ord(c) % 10 for c in text]

    def encode_prompt(self, prompt: str) -> list[int]:
        return self.encode(prompt)

    def fewest_tokens(self, text: str) -> int:
        return len(text) // 2

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        return b"".join(_PIECES[i] for i in ids).decode("utf-8", "replace")

    def stream(self, *, skip_special: bool = True) -> _Stream:
        return _Stream()


@dataclass
class Expected:
    ids: list[int]
    text: str
    reason: str
    stop: int | str | None


def expected(prompt: Sequence[int], params: SamplingParams, index: int = 0) -> Expected:
    """What sample `index` of a request alone must give; needs a seed and max_tokens."""
    uniforms = Uniforms(params.seed or 0, index)
    tokenizer, output = FakeTokenizer(), list[int]()
    ends = set(params.stop_token_ids or ()) | (set() if params.ignore_eos else {EOS})
    while True:
        logits = logits_of([*prompt, *output]).astype(np.float64)
        logits = penalized(logits, prompt, output, params)
        if len(output) < params.min_tokens:
            logits[list(ends)] = -np.inf
        token = sample(logits, uniforms.at(len(output)), params)
        output.append(token)
        if token in ends:
            text = output if params.include_stop_str_in_output else output[:-1]
            stop = token if token in (params.stop_token_ids or ()) else None
            return Expected(output, tokenizer.decode(text), "stop", stop)
        text = codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(_PIECES[i] for i in output))
        # Pieces are pushed one by one, so the first stop string that is complete now is the one.
        if len(output) > params.min_tokens:
            free = len(tokenizer.decode(output[: params.min_tokens])) if params.min_tokens else 0
            for end in range(free + 1, len(text) + 1):
                hits = [s for s in params.stop or () if text[free:end].endswith(s)]
                if hits:
                    stop = max(hits, key=len)
                    cut = end if params.include_stop_str_in_output else end - len(stop)
                    return Expected(output, text[:cut], "stop", stop)
        if len(output) == params.max_tokens:
            return Expected(output, tokenizer.decode(output), "length", None)


def penalized(
    logits: NDArray[np.float64], prompt: Sequence[int], output: Sequence[int], params: SamplingParams
) -> NDArray[np.float64]:
    logits = logits.copy()
    for token in set(prompt) | set(output):
        scale = params.repetition_penalty
        logits[token] = logits[token] / scale if logits[token] > 0 else logits[token] * scale
    for token in set(output):
        logits[token] -= params.frequency_penalty * list(output).count(token) + params.presence_penalty
    return logits


def filtered(logits: NDArray[np.float64], params: SamplingParams) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Ids that stay, likeliest first, and their probabilities: temperature, min_p, top_k, top_p."""
    order = np.lexsort((np.arange(len(logits)), -logits))
    p = np.exp((logits[order] - logits.max()) / params.temperature)
    keep = p >= params.min_p * p[0]
    if params.top_k > 0:
        keep[params.top_k :] = False
    order, p = order[keep], p[keep] / p[keep].sum()
    size = 1 + int(np.sum(np.cumsum(p)[:-1] < params.top_p))
    return order[:size], p[:size] / p[:size].sum()


def sample(logits: NDArray[np.float64], uniform: float, params: SamplingParams) -> int:
    if params.temperature == 0:
        return int(logits.argmax())
    ids, p = filtered(logits, params)
    if params.top_k <= 0 and params.top_p == 1:  # the order of the ids is the one that is inverted
        back = np.argsort(ids)
        ids, p = ids[back], p[back]
    return int(ids[np.searchsorted(np.cumsum(p), uniform * p.sum(), side="right")])
