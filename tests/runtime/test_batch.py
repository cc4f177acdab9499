"""BatchBuilder against the plain statement of each array, over random steps; and its cost."""

from __future__ import annotations

import numpy as np
import pytest

from forge.runtime.batch import Batch, BatchBuilder
from forge.runtime.pages import PagePool
from forge.runtime.params import SamplingParams
from forge.runtime.request import Request
from forge.runtime.scheduler import Scheduler, Slice

pytestmark = pytest.mark.null


def _builder(scheduler: Scheduler) -> BatchBuilder:
    return BatchBuilder(
        max_tokens=scheduler.max_tokens,
        max_seqs=scheduler.max_seqs,
        page_size=scheduler.pool.page_size,
        context_length=scheduler.context_length,
    )


def _check(builder: BatchBuilder, slices: list[Slice], size: int) -> None:
    batch = builder.build(slices, [])
    flat = [(r, i) for r, start, length in slices for i in range(start, start + length)]
    assert batch.tokens.tolist() == [r.tokens[i] for r, i in flat]
    assert batch.positions.tolist() == [i for _, i in flat]
    assert batch.slots.tolist() == [r.pages[i // size] * size + i % size for r, i in flat]
    assert batch.query_len.tolist() == [s.length for s in slices]
    assert batch.query_start.tolist() == np.cumsum([0, *batch.query_len])[:-1].tolist()
    assert batch.context_len.tolist() == [s.start + s.length for s in slices]
    ends = np.cumsum(batch.query_len) - 1
    assert batch.logit_rows.tolist() == [int(e) for s, e in zip(slices, ends, strict=True) if s.samples]
    for s, row in zip(slices, batch.page_table, strict=True):
        assert row.tolist() == s.request.pages + [0] * (len(row) - len(s.request.pages))
    for name in batch.__slots__:
        if name != "page_copies":
            assert getattr(batch, name).dtype == np.int32 and getattr(batch, name).flags.c_contiguous


def test_arrays_over_random_steps() -> None:
    rng = np.random.default_rng(1)
    scheduler = Scheduler(PagePool(20, 4), max_tokens=24, max_seqs=6, context_length=50)
    builder = _builder(scheduler)
    for step in range(400):
        if rng.random() < 0.4:
            prompt = rng.integers(0, 1000, rng.integers(1, 30)).tolist()
            params = SamplingParams(max_tokens=int(rng.integers(1, 20)), seed=0)
            scheduler.add(Request(str(step), prompt, params))
        slices = scheduler.schedule()
        _check(builder, slices, 4)
        sampling = [s.request for s in slices if s.samples]
        scheduler.commit(slices)
        for request in sampling:
            request.tokens.append(int(rng.integers(1000)))
            if request.num_output == request.max_tokens or rng.random() < 0.05:
                scheduler.finish(request, "stop")
    assert scheduler.preemptions > 10


def test_a_batch_is_valid_while_the_next_one_is_built() -> None:
    """Each array of a batch is as it was built, until the next but one is."""
    rng = np.random.default_rng(2)
    requests = [Request(str(i), rng.integers(0, 99, 30).tolist(), SamplingParams()) for i in range(5)]
    for i, request in enumerate(requests):
        request.pages = list(range(8 * i, 8 * i + 8))
    builder = BatchBuilder(max_tokens=40, max_seqs=5, page_size=4, context_length=32)
    before: tuple[Batch, dict[str, list[int]]] | None = None
    for _ in range(50):
        chosen = [requests[i] for i in rng.permutation(5)[: rng.integers(1, 6)]]
        slices = [Slice(r, int(rng.integers(0, 20)), int(rng.integers(1, 9))) for r in chosen]
        batch = builder.build(slices, [])
        if before is not None:
            assert {name: array.tolist() for name, array in before[0].inputs.items()} == before[1]
        before = batch, {name: array.tolist() for name, array in batch.inputs.items()}
