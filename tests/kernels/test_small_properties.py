"""What must hold of the small ops whatever their oracles say: symmetries, inverses, and others' implementations."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from forge.errors import GraphError, ShapeError
from forge.graph.types import Sym, tensor
from forge.kernels import load
from forge.language import interpreted
from forge.models.parts.rotary import Rope

OPS = load()
YARN = {"scaling": "yarn", "factor": 4.0, "original_context": 2048}

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def close(got, ref, tolerance=2e-6):
    """Equal within `tolerance` of the largest entry."""
    torch.testing.assert_close(got, ref, rtol=0, atol=tolerance * ref.abs().max().item())


def rotation(positions, factors=None, **scaling):
    """The rotations of a list of positions, by the formulas of a model's `Rope`."""
    by = Rope(**({"pairs": "norm", "dims": 64, "base": 500000.0} | scaling))
    turns = torch.tensor(by.turns, dtype=torch.float64)
    return OPS["rotation"](torch.tensor(positions, dtype=torch.int32), turns, factors, magnitude=by.magnitude)


def rope(x, positions, *, pairs="norm", **scaling):
    """x[T,H,E] turned by the ops, at a list of positions."""
    return OPS["rope"](x, rotation(positions, **scaling), pairs=pairs)


@pytest.mark.parametrize("n", [1, 7, 1000, 9001])
def test_softmax_sums_to_one_and_ignores_a_shift(n):
    x = normal(3, n)
    y = OPS["softmax"](x)
    close(y.sum(1), torch.ones(3))
    close(OPS["softmax"](x + 50), y, 1e-5)
    assert torch.equal(OPS["softmax"](-x).argmax(1), x.argmin(1))


@pytest.mark.parametrize("pairs", ["norm", "neox"])
def test_rope_keeps_lengths_and_turns_nothing_at_0(pairs):
    x = normal(4, 2, 64)
    y = rope(x, [0, 1, 4095, 131071], pairs=pairs)
    close(y.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(y[0], x[0])
    assert (y[1:] - x[1:]).abs().max() > 0.5


@pytest.mark.parametrize("scaling", [{}, {"scaling": "linear", "factor": 8.0}, YARN])
@pytest.mark.parametrize("pairs", ["norm", "neox"])
def test_scores_depend_on_the_distance_alone(pairs, scaling):
    q, k = normal(1, 1, 64), normal(1, 1, 64, seed=1)
    scores = [
        (rope(q, [7 + start], pairs=pairs, **scaling) * rope(k, [start], pairs=pairs, **scaling)).sum()
        for start in (0, 1, 1000, 131064)
    ]
    close(torch.stack(scores), scores[0].expand(4), 2e-5)


def test_rope_turns_one_pair_by_its_angle():
    for pairs, second in (("norm", 5), ("neox", 34)):
        x = torch.zeros(1, 1, 64)
        x[0, 0, 4 if pairs == "norm" else 2] = 1  # the first element of pair 2
        y = rope(x, [100], pairs=pairs)[0, 0]
        angle = 100 * 500000 ** (-4 / 64)
        assert y[second].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert y.norm().item() == pytest.approx(1, abs=1e-6)


def test_halves_are_neighbours_in_another_order():
    x = normal(3, 2, 64)
    order = torch.arange(64).view(2, 32).T.reshape(-1)  # 0, 32, 1, 33, ...
    close(rope(x, [3, 77, 5000], pairs="neox")[..., order], rope(x[..., order], [3, 77, 5000], pairs="norm"))


def test_linear_scaling_is_a_slower_position():
    x = normal(3, 2, 64)
    close(rope(x, [8, 80, 800], scaling="linear", factor=8.0), rope(x, [1, 10, 100]))
    close(rope(x, [8, 80, 800], scaling="none", factor=8.0), rope(x, [8, 80, 800]))


def test_yarn_keeps_fast_pairs_and_stretches_slow_ones():
    x = normal(1, 1, 64)
    magnitude = 1 + 0.1 * math.log(4)
    y, plain = rope(x, [1000], **YARN)[0, 0] / magnitude, rope(x, [1000])[0, 0]
    linear = rope(x, [1000], scaling="linear", factor=4.0)[0, 0]
    # base 500000 and 64 dims: pair i makes 2048 / (2 pi) * 500000^(-i/32) turns; 32 at 5.6, 1 at 14.1
    close(y[:12], plain[:12])  # pairs 0 to 5
    close(y[30:], linear[30:])  # pairs 15 to 31
    # the ramp goes from pair 5 to pair 15, so pair 10 turns half way between its two speeds
    angle = 1000 * 500000 ** (-10 / 32) * (1 + 1 / 4) / 2
    turned = complex(math.cos(angle), math.sin(angle)) * complex(x[0, 0, 20], x[0, 0, 21])
    assert complex(y[20], y[21]) == pytest.approx(turned, abs=1e-5)


def test_frequency_factors_divide_the_frequency_of_their_pair():
    x = normal(1, 2, 64)
    factors = torch.ones(32)
    factors[3] = 10
    y = OPS["rope"](x, rotation([500], factors), pairs="norm")
    close(y[..., 6:8], rope(x, [50])[..., 6:8])
    rest = [i for i in range(64) if i not in (6, 7)]
    close(y[..., rest], rope(x, [500])[..., rest])


def test_rms_norm_ignores_scale_and_layer_norm_a_shift_too():
    x, w, b = normal(5, 320), normal(320, seed=1), normal(320, seed=2)
    y = OPS["rms_norm"](x, w, eps=1e-9, out="f32")
    close(OPS["rms_norm"](1000 * x, w, eps=1e-9, out="f32"), y)
    close(y, torch.nn.functional.rms_norm(x, (320,), w, 1e-9))
    centred = OPS["layer_norm"](x, w, b, eps=1e-9, out="f32")
    close(OPS["layer_norm"](8 * x + 3, w, b, eps=1e-9, out="f32"), centred, 1e-5)
    close(centred, torch.nn.functional.layer_norm(x, (320,), w, b, 1e-9))


def test_rms_norm_of_heads_is_that_of_their_rows():
    x, w = normal(3, 5, 64), normal(64, seed=1)
    rows = OPS["rms_norm"](x.reshape(15, 64), w, eps=1e-6, out="f32")
    assert torch.equal(OPS["rms_norm"](x, w, eps=1e-6, out="f32").view(15, 64), rows)


def test_add_rms_norm_is_add_then_rms_norm():
    a, b, w = normal(5, 320), normal(5, 320, seed=1).bfloat16(), normal(320, seed=2)
    total, y = OPS["add_rms_norm"](a, b, w, eps=1e-6, out="bf16")
    assert torch.equal(total, OPS["add"](a, b))
    assert torch.equal(y, OPS["rms_norm"](total, w, eps=1e-6, out="bf16"))


def test_argmax_is_the_first_of_equals_and_minus_one_where_none_can_be_chosen():
    x = torch.full((5, 9000), -1.0)
    x[0, [17, 4099, 8999]] = 2
    x[1, 8999] = float("nan")
    x[2] = float("-inf")
    x[3, :-1] = float("-inf")
    assert OPS["argmax"](x).tolist() == [17, -1, -1, 8999, 0]


def test_take_copies_rows():
    x = normal(6, 40)
    rows = torch.tensor([5, 0, 5], dtype=torch.int32)
    y = OPS["take"](x, rows)
    assert torch.equal(y, x[[5, 0, 5]])
    assert y.data_ptr() != x.data_ptr()


def test_heads_split_and_merge_as_views():
    x = normal(3, 96)
    heads = OPS["split_heads"](OPS["columns"](x, start=32, stop=96), heads=4)
    assert heads.shape == (3, 4, 16)
    assert torch.equal(heads[:, 2], x[:, 64:80])
    merged = OPS["merge_heads"](heads)
    assert merged.untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    assert torch.equal(merged, x[:, 32:])


def test_a_step_reads_positions_when_it_runs():
    """A step is built once and replayed with other contents."""
    from forge.lower.select import call_of
    from forge.lower.values import type_of
    from forge.target import TARGETS
    from forge.verify import build

    x = normal(2, 2, 64)
    for pairs, size in itertools.product(("norm", "neox"), (1, 2)):
        values = [x[:size], rotation([0] * size)]
        call = call_of(OPS["rope"], tuple(type_of(v) for v in values), {"pairs": pairs}, TARGETS["cpu"])
        (y,), steps, _ = build(OPS["rope"].kernels["rope_torch"], call, values, "cpu")
        for place in (5, 900):
            values[1].copy_(rotation([place] * size))
            for step in steps:
                step()
            assert torch.equal(y, rope(x[:size], [place] * size, pairs=pairs))


N = Sym("N", 64)
KV, TABLE, LENS = tensor("f16", 2, 3, 2, 16, 8), tensor("i32", 1, 2), tensor("i32", 1)
BAD = [
    ("rms_norm", (tensor("f32", 3, 8), tensor("f32", 9)), {"eps": 1e-6}, "as long as a row"),
    ("rms_norm", (tensor("f32", 3, 8), tensor("f32", 8)), {"eps": 0.0}, "above 0"),
    ("rms_norm", (tensor("f32", 3, 8), tensor("f32", 8)), {"eps": 1e-6, "out": "i32"}, "none of f32, f16 and bf16"),
    ("layer_norm", (tensor("f32", 3, 8), tensor("f32", 8), tensor("f32", 7)), {"eps": 1e-6}, "b must be f32"),
    ("add", (tensor("f32", 3, 8), tensor("f32", 3, 9)), {}, "one shape"),
    ("take", (tensor("q8_0", 3, 32), tensor("i32", 2)), {}, "unquantized"),
    ("argmax", (tensor("f16", 3, 8),), {}, "f32[R,V]"),
    ("argmax", (tensor("f32", 3, 0),), {}, "none is the largest"),
    (
        "paged_attention",
        (tensor("f16", 3, 2, 8), KV, tensor("i32", 0, 2), *(tensor("i32", 0),) * 3),
        {"scale": 1.0},
        "[S,M] of at",
    ),
    ("columns", (tensor("f16", 3, 8),), {"start": 4, "stop": 9}, "not within the 8"),
    ("split_heads", (tensor("f16", 3, 8),), {"heads": 3}, "3 heads of one width"),
    ("rope", (tensor("f16", 3, 2, 8), tensor("f32", 3, 4, 2)), {"pairs": "gptj"}, "'gptj'"),
    ("rope", (tensor("f16", 3, 2, 8), tensor("f32", 3, 5, 2)), {"pairs": "norm"}, "5 pairs do not fit"),
    ("rope", (tensor("f16", 3, 2, 8), tensor("f32", 4, 4, 2)), {"pairs": "norm"}, "the T tokens of x"),
    ("rotation", (tensor("i64", 3), tensor("f64", 4)), {}, "i32[T]"),
    ("rotation", (tensor("i32", 3), tensor("f64", 4), tensor("f32", 3)), {}, "f32[4]: one a pair"),
    ("columns", (tensor("f16", 3, N),), {"start": 0, "stop": 8}, "the width N of x must be known"),
    ("split_heads", (tensor("f16", 3, N),), {"heads": 2}, "the width N of x must be known"),
    ("merge_heads", (tensor("f16", 3, N, 8),), {}, "the heads N of 8 of x must be known"),
    ("rope", (tensor("f16", 3, 2, N), tensor("f32", 3, 4, 2)), {"pairs": "norm"}, "must be known"),
    ("rope", (tensor("f16", 3, 2, 8), tensor("f32", 3, N, 2)), {"pairs": "norm"}, "must be known"),
    ("flash_attention", (tensor("f16", 1, 3, N, 8), *(tensor("f16", 1, 3, 2, 8),) * 2), {"scale": 1.0}, "be known"),
    ("paged_attention", (tensor("f16", 3, N, 8), KV, TABLE, LENS, LENS, LENS), {"scale": 1.0}, "must be known"),
]


@pytest.mark.parametrize(("name", "types", "attrs", "says"), BAD)
def test_wrong_operands_are_named(name, types, attrs, says):
    op = OPS[name]
    operands, attrs = op.bind(types, attrs)
    with pytest.raises(ShapeError) as error:
        op.infer(operands, attrs)
    assert says in error.value.what and name in error.value.what


WIDE = [
    ("add", (tensor("f64", 3, 8), tensor("f32", 3, 8)), {}),
    ("add", (tensor("f32", 3, 8), tensor("f64", 3, 8)), {}),
    ("scale", (tensor("f64", 3, 8),), {"factor": 2.0}),
    ("softmax", (tensor("f64", 3, 8),), {}),
    *((name, (tensor("f64", 3, 8),) * 2, {}) for name in ("swiglu", "geglu")),
    ("rms_norm", (tensor("f64", 3, 8), tensor("f32", 8)), {"eps": 1e-6}),
    ("rms_norm", (tensor("f32", 3, 8), tensor("f32", 8)), {"eps": 1e-6, "out": "f64"}),
    ("layer_norm", (tensor("f64", 3, 8), tensor("f32", 8)), {"eps": 1e-6}),
    ("add_rms_norm", (tensor("f64", 3, 8), tensor("f32", 3, 8), tensor("f32", 8)), {"eps": 1e-6}),
    ("rope", (tensor("f64", 3, 2, 8), tensor("f32", 3, 4, 2)), {"pairs": "norm"}),
    ("quantize_q8", (tensor("f64", 3, 32),), {}),
    ("flash_attention", (tensor("f64", 1, 3, 2, 8),) * 3, {"scale": 1.0}),
    ("embed", (tensor("i32", 3), tensor("f32", 3, 8)), {"out": "f64"}),
]


@pytest.mark.parametrize(("name", "types", "attrs"), WIDE)
def test_f64_which_no_kernel_computes_in_is_refused(name, types, attrs):
    operands, attrs = OPS[name].bind(types, attrs)
    with pytest.raises(ShapeError, match=r"f32, f16 (or|and) bf16"):
        OPS[name].infer(operands, attrs)


@pytest.mark.parametrize(
    "wrong", [{"scaling": "ntk"}, {"dims": 7}, {"dims": 0}, {"base": 1.0}, {"factor": 0.0}, {"scaling": "yarn"}]
)
def test_a_rope_that_means_nothing_is_refused(wrong):
    with pytest.raises(GraphError, match=r"RoPE|YaRN"):
        Rope(**({"pairs": "norm", "dims": 64, "base": 1e4} | wrong))
