"""The greedy choice: where each row of logits is largest."""

from __future__ import annotations

from forge.graph.op import Case, Cost, Space, expect, op
from forge.graph.types import TensorType, dtype, tensor
from forge.kernels import fills
from forge.kernels.device.dependent import wait_for_earlier
from forge.language import cdiv, jit, next_power_of_2, tl


def _types(x):
    expect(x.rank == 2 and x.dtype.name == "f32", "x must be f32[R,V]")
    expect(x.shape[1] != 0, "of no entries none is the largest")
    return TensorType(x.shape[:1], dtype("i32"))


def _reference(x):
    import torch

    columns = torch.arange(x.shape[1])
    first = torch.where(x == x.amax(1, keepdim=True), columns, x.shape[1]).amin(1)
    choosable = ~x.isnan().any(1) & (x > float("-inf")).any(1)
    return torch.where(choosable, first, -1).int()


def _cost(x):
    return Cost(bytes=x.nbytes + 4 * x.shape[0], flops=x.numel)


def _cases():
    def case(name, r, v, **more):
        return Case(name, (tensor("f32", r, v),), **more)

    for r, v in ((3, 32000), (1, 1), (5, 31), (2, 4097), (33, 1031)):
        yield case(f"{r}x{v}", r, v)
    yield case("vocabulary of qwen2", 2, 151936, small=False)
    yield case("many rows", 256, 50257, small=False)
    yield case("rows apart", 5, 640, strided=True)
    yield case("ties", 9, 9000, fills={"x": fills.integers(-3, 4)})
    yield case("all equal", 2, 8200, fills={"x": fills.integers(7, 8)})
    yield case("zeros and tiny", 4, 5000, fills={"x": fills.scaled(1e-40)})
    yield case("rows of -inf, inf and NaN", 7, 12289, fills={"x": _edges})


def _edges(generator, type):
    """All -inf; -inf but for the end; one NaN; NaN beside inf; inf twice; the least number; NaN of the other sign."""
    inf, nan = float("inf"), float("nan")
    x = fills.normal(generator, type)
    x[0], x[1, :-1], x[2, 8191], x[6, -1] = -inf, -inf, nan, -nan
    x[3, 3], x[3, 9000], x[4, 12000], x[4, 5000], x[5] = nan, inf, inf, inf, -3.4028234663852886e38
    return x


@op(types=_types, reference=_reference, cost=_cost, cases=lambda: tuple(_cases()), axes={"x": "RV"})
def argmax(x):
    """y[R] = the lowest v at which x[r,v] is largest; -1 for a row that holds a NaN or nothing above -inf.

    x is f32[R,V], y i32[R]; rows may lie apart, elements of a row may not.
    """


@jit
def _choice(x, index):
    """(the maximum, its lowest index, -1 where all is -inf or -2 where a NaN is) of a block; a number beside NaN."""
    nan = x != x
    x = tl.where(nan, float("-inf"), x)
    top = tl.max(x, 0)
    first = tl.min(tl.where(x == top, index, 2147483647), 0)
    first = tl.where(top == float("-inf"), -1, first)
    return top, tl.where(tl.max(nan.to(tl.int32), 0) > 0, -2, first)


@jit
def _argmax_blocks(top_ptr, index_ptr, x_ptr, x_stride, V, BLOCKS, BLOCK: tl.constexpr, DEPENDENT: tl.constexpr):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * x_stride + column, column < V, other=float("-inf"))
    top, index = _choice(x, column)
    tl.store(top_ptr + row * BLOCKS + tl.program_id(1), top)
    tl.store(index_ptr + row * BLOCKS + tl.program_id(1), index)


@jit
def _argmax_combine(y_ptr, top_ptr, index_ptr, BLOCKS, SLOTS: tl.constexpr, DEPENDENT: tl.constexpr):
    wait_for_earlier(DEPENDENT)
    row = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, SLOTS)
    top = tl.load(top_ptr + row * BLOCKS + block, block < BLOCKS, other=float("-inf"))
    index = tl.load(index_ptr + row * BLOCKS + block, block < BLOCKS, other=-1)
    nan = tl.max((index == -2).to(tl.int32), 0) > 0
    _, chosen = _choice(top, index)
    tl.store(y_ptr + row, tl.where(nan, -1, chosen))


def _partial(call, config):
    """The maximum of each block of a row, and where it is."""
    rows, width = call.types[0].shape
    blocks = cdiv(width, config["BLOCK"])
    return tensor("f32", rows, blocks), tensor("i32", rows, blocks)


@argmax.kernel(space=Space(BLOCK=(4096, 2048, 8192), num_warps=(8, 4, 16)), workspace=_partial)
def argmax_blocks(site, y, x):
    """A program a block of a row, then one a row to choose between its blocks: one row alone fills a GPU."""
    (rows, width), (top, index) = x.shape, site.work
    blocks = top.shape[1]
    scan = site.launch(_argmax_blocks, (rows, blocks), top, index, x, x.stride(0), width, blocks)
    choose = site.launch(_argmax_combine, (rows,), y, top, index, blocks, SLOTS=next_power_of_2(blocks))
    return [scan, choose]


def _looked_at(call, config):
    """The index torch gives, the value there, and whether that can be chosen."""
    rows = call.types[0].shape[0]
    return tensor("i64", rows, 1), tensor("f32", rows, 1), tensor("bool", rows, 1)


@argmax.kernel(on="cpu", workspace=_looked_at)
def argmax_torch(site, y, x):
    """torch's argmax gives the first of equals and takes a NaN for the largest of all."""
    import torch

    index, value, refused = site.work
    flat, refused_flat, low = index.squeeze(1), refused.squeeze(1), float("-inf")

    def step():
        torch.argmax(x, 1, out=flat)
        torch.gather(x, 1, index, out=value)
        torch.gt(value, low, out=refused).logical_not_()  # refuses NaN as well
        y.copy_(flat)
        y.masked_fill_(refused_flat, -1)

    return step
