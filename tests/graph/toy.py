"""Small ops on Python numbers and lists, so that graph tests need neither torch nor a kernel."""

from __future__ import annotations

from forge.graph.op import Case, Cost, expect, op
from forge.graph.types import StateType, tensor

F = tensor("f32", 4)
KV = StateType((8,), F.dtype)


def _same(a, b=None, **attrs):
    expect(b is None or a == b, "a and b must have one type")
    return a


def _cost(a, *others, **attrs):
    return Cost(a.nbytes, a.numel)


@op(types=_same, reference=lambda a, b: [x + y for x, y in zip(a, b, strict=True)], cost=_cost)
def plus(a, b):
    """y = a + b"""


@op(types=_same, reference=lambda a, *, by: [x * by for x in a], cost=_cost)
def scale(a, *, by):
    """y = a * by"""


@op(types=_same, reference=lambda a, b=None: a, cost=_cost)
def maybe(a, b=None):
    """y = a, with an optional b"""


@op(types=lambda kv, x: kv, reference=lambda kv, x: kv[4:] + x, cost=_cost, writes="kv")
def append(kv, x):
    """kv' = kv with x at its end"""


@op(types=lambda kv: F, reference=lambda kv: kv[4:], cost=_cost)
def recall(kv):
    """x = the end of kv"""


def namesake():
    """Another op that is called plus."""

    @op(types=_same, reference=lambda a, b: [x - y for x, y in zip(a, b, strict=True)], cost=_cost)
    def plus(a, b):
        """y = a - b"""

    return plus


def _plus_scale(a, b, *, by):
    total = plus(a, b)
    return total, scale(total, by=by)


@op(equals=_plus_scale, cases=lambda: (Case("one", (F, F), {"by": 2}),))
def plus_scale(a, b, *, by):
    """(a + b, (a + b) * by)"""


OPS = {o.name: o for o in (plus, scale, maybe, append, recall, plus_scale)}
