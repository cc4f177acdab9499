"""What linear is tried on: every weight type at few tokens and in tiles, ragged sizes, and numbers far from one."""

from __future__ import annotations

from forge.graph.op import Case
from forge.graph.types import dtype, tensor
from forge.kernels import fills
from forge.quant import block_types, format_of


def _case(name, t, n, k, x, w, out, *, bias=False, **options):
    types = (tensor(x, t, k), tensor(w, n, k), tensor("f32", n) if bias else None)
    return Case(name, types, {"out": out}, **options)


def cases():
    every = ("f32", "f16", "bf16", *block_types())
    for i, w in enumerate(block_types()):
        yield _case(f"a8 x {w}", (1, 3, 8)[i % 3], 67, 512, "a8", w, "f32", bias=i % 2 == 1)
    for w, t in {"q4_K": 8, "q6_K": 3, "q8_0": 1, "q5_1": 8, "q5_K": 8}.items():
        yield _case(f"a16 x {w}", t, 67, 512, "a16", w, "f32", bias=t == 3)
    for i, w in enumerate(every):
        yield _case(f"f16 x {w}", (1, 3, 4)[i % 3], 67, 512, "f16", w, "f32", bias=i % 2 == 0)
        yield _case(f"f16 x {w} tile", (33, 17, 9)[i % 3], 67, 256, "f16", w, "f16", bias=i % 2 == 1)
    for w in ("q4_K", "q8_0"):
        yield _case(f"a8 x {w} tile", 33, 67, 256, "a8", w, "f16", bias=True)
        yield _case(f"a16 x {w} tile", 33, 67, 256, "a16", w, "f16", bias=True)
    for i, w in enumerate(w for w in block_types() if format_of(dtype(w)).decoded is None):
        yield _case(f"f16 x {w} tall", (9, 33, 17)[i % 3], 67, (256, 2560)[i % 2], "f16", w, "f16", bias=i % 3 == 1)
    yield _case("f16 x q6_K tall to f32", 10, 67, 512, "f16", "q6_K", "f32", bias=True)
    yield _case("f16 x f16 tall to f32", 10, 67, 100, "f16", "f16", "f32")
    yield _case("f16 x f16 tall", 12, 70, 100, "f16", "f16", "f16", bias=True)
    yield _case("f16 x q4_K tall, in parts", 20, 35, 8192, "f16", "q4_K", "f16", bias=True, small=False)
    yield _case("a16 x q4_K, 16 tokens", 16, 67, 512, "a16", "q4_K", "f32", bias=True)
    yield _case("f16 x q4_K, 8 tokens", 8, 67, 512, "f16", "q4_K", "f32", bias=True)
    yield _case("f16 x f16, 8 tokens", 8, 67, 512, "f16", "f16", "f32", bias=True)
    yield _case("ragged tokens in a16", 70, 67, 256, "a16", "q6_K", "f16")
    yield _case("ragged tokens in a16, with a minimum", 66, 67, 256, "a16", "q4_K", "f16", bias=True)
    yield _case("a16 x q6_K tile to f32", 9, 70, 256, "a16", "q6_K", "f32")
    yield _case("a8 x q6_K tile to f32", 9, 70, 256, "a8", "q6_K", "f32")
    yield _case("f16 x q4_K tile to f32", 9, 70, 256, "f16", "q4_K", "f32")
    for w in ("f16", "q6_K", "q4_K"):
        yield _case(f"ragged tokens x {w}", 130, 67, 256, "f16", w, "f16", bias=True)
    yield _case("ragged tokens in a8", 70, 67, 256, "a8", "q4_0", "f16")
    yield _case("ragged tokens to f32", 65, 67, 256, "a8", "q5_0", "f32")
    yield _case("ragged tokens x bf16", 65, 67, 256, "f16", "bf16", "f16")
    yield _case("ragged K", 2, 67, 32 * 17, "a8", "q5_0", "f32")
    yield _case("ragged K in a16", 2, 67, 32 * 17, "a16", "q5_1", "f32")
    yield _case("ragged K tile", 18, 5, 32 * 5, "f16", "q8_0", "f16")
    yield _case("odd K", 2, 35, 131, "f16", "f16", "f32")
    yield _case("one", 1, 1, 32, "f16", "q4_1", "f32")
    yield _case("rows apart", 3, 67, 256, "f16", "q4_K", "f32", strided=True)
    yield _case("rows apart tile", 17, 67, 256, "f16", "q4_K", "f16", strided=True)
    yield _case("zero row", 3, 67, 256, "a8", "q4_K", "f32", fills={"x": fills.zero_row})
    yield _case("huge", 2, 67, 256, "f32", "q4_K", "f32", fills={"x": fills.scaled(1e20)})
    yield _case("huge tile", 17, 67, 64, "f32", "f32", "f32", fills={"x": fills.scaled(1e20)})
    yield _case("tiny", 2, 67, 256, "f32", "q4_K", "f32", fills={"x": fills.scaled(1e-20)})
    yield _case("f16 library", 512, 67, 256, "f16", "q4_K", "f16", small=False)
    yield _case("a8 library", 513, 67, 256, "a8", "q6_K", "f16", small=False)
    yield _case("a16 library", 513, 67, 256, "a16", "q6_K", "f16", small=False)
    for w in ("q4_K", "bf16", "f32"):
        yield _case(f"bf16 x {w}", 5, 67, 256, "bf16", w, "bf16", bias=True)
    yield _case("bf16 x q6_K to f32", 3, 67, 256, "bf16", "q6_K", "f32")
    yield _case("bf16 x q6_K to f16", 3, 67, 256, "bf16", "q6_K", "f16", bias=True)
    yield _case("f32 x f16 to f16", 3, 67, 256, "f32", "f16", "f16", bias=True)
