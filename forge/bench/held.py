"""Sequences whose first tokens stay in the KV cache, so that requests begin at a depth that is computed once."""

from __future__ import annotations

from dataclasses import dataclass

from forge.runtime.engine import Engine
from forge.runtime.output import RequestOutput
from forge.runtime.params import RequestOutputKind, SamplingParams


def token_ids(sequence: int, count: int, vocab: int) -> list[int]:
    """The first tokens of a sequence: no two sequences begin alike."""
    return [(7 + 31 * i + 101 * sequence) % vocab for i in range(count)]


@dataclass
class _Prefix:
    """`pages` that hold the first `depth` tokens of a sequence."""

    pages: list[int]
    depth: int


class Held:
    """Begins requests on an engine that does nothing else. Each sequence has pages of its own.

    Pages are given back by `release`. Between requests they hold a sequence's tokens up to its depth; a request that
    begins there writes behind them.
    """

    def __init__(self, engine: Engine, vocab: int) -> None:
        self._engine, self._vocab = engine, vocab
        self._prefixes: list[_Prefix] = []

    def begin(self, depth: int, seqs: int, tokens: int, outputs: int) -> None:
        """Start `seqs` requests at `depth`, with `tokens` more of a prompt each, for `outputs` tokens.

        What lies before `depth` is computed first, if it is not held; of a model whose sequences have no other state.
        """
        self._reach(depth, seqs)
        self._start(range(seqs), depth + tokens, outputs)

    def borrow(self, sequence: int, tokens: int) -> list[int]:
        """The pages of a sequence that is held, and of the pool as many more as `tokens` need."""
        prefix, pool = self._prefixes[sequence], self._engine.pool
        return [*prefix.pages, *pool.allocate(pool.pages_for(tokens) - len(prefix.pages))]

    def give_back(self, sequence: int, pages: list[int]) -> None:
        """What `borrow` gave."""
        self._engine.pool.release(pages[len(self._prefixes[sequence].pages) :])

    def release(self) -> None:
        """Give all pages back."""
        self._keep(0)

    def _reach(self, depth: int, seqs: int) -> None:
        pool = self._engine.pool
        self._keep(seqs)
        while len(self._prefixes) < seqs:
            self._prefixes.append(_Prefix([], 0))
        for sequence, prefix in enumerate(self._prefixes):
            if prefix.depth > depth:
                count = pool.pages_for(depth)
                pool.release(prefix.pages[count:])
                self._prefixes[sequence] = _Prefix(prefix.pages[:count], depth)
            elif prefix.depth < depth:
                self._compute(sequence, depth)

    def _compute(self, sequence: int, depth: int) -> None:
        """Run the sequence from where it is held, until its first `depth` tokens are computed, and hold their pages."""
        engine, pool = self._engine, self._engine.pool
        (name,) = self._start([sequence], depth, 2)  # it goes on after the first output, so that its pages are there
        (request,) = engine.scheduler.running or engine.scheduler.waiting
        while not request.num_output:
            raise_errors(engine.step())
        pages = request.pages[: pool.pages_for(depth)]
        pool.share(pages)
        pool.release(self._prefixes[sequence].pages)
        self._prefixes[sequence] = _Prefix(pages, depth)
        engine.cancel(name)
        while engine.has_work:
            engine.step()

    def _start(self, sequences: range | list[int], length: int, outputs: int) -> list[str]:
        """Requests of the first `length` tokens of sequences, each from where it is held."""
        engine = self._engine
        params = SamplingParams(
            temperature=0, max_tokens=outputs, ignore_eos=True, output_kind=RequestOutputKind.FINAL_ONLY
        )
        prompts = [token_ids(sequence, length, self._vocab) for sequence in sequences]
        names = engine.inbox.submit([engine.inbox.prepare(prompt, params) for prompt in prompts])
        engine.take_inbox()
        for sequence, request in zip(sequences, list(engine.scheduler.waiting), strict=True):
            prefix = self._prefixes[sequence]
            if prefix.depth:
                engine.scheduler.seat(request, prefix.pages, prefix.depth)
        return names

    def _keep(self, seqs: int) -> None:
        for prefix in self._prefixes[seqs:]:
            self._engine.pool.release(prefix.pages)
        del self._prefixes[seqs:]


def raise_errors(outputs: list[RequestOutput]) -> list[RequestOutput]:
    """The outputs of a step, unless a request has failed."""
    for output in outputs:
        for completion in output.outputs:
            if completion.error is not None:
                raise completion.error
    return outputs
