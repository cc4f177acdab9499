"""What the generated cases of `linear` do not reach: the chunked library product, the CPU's head, refusals."""

from __future__ import annotations

import importlib
import threading
import time

import pytest
import torch
from kernels.harness import INTERPRETER

from forge.errors import ShapeError
from forge.graph.op import Case
from forge.graph.types import tensor
from forge.kernels.linear import cpu as linear_cpu
from forge.kernels.linear import linear
from forge.language import interpreted
from forge.lower.select import Selection, call_of
from forge.lower.values import empty
from forge.quant import pack, random_blocks
from forge.target import TARGETS
from forge.tune.store import Choice
from forge.verify import check


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("x", ["f16", "a8", "a16"])
def test_the_library_product_in_chunks_of_the_weight(x, monkeypatch):
    """67 rows in chunks of 16: five chunks, the last of 3 rows."""
    module = importlib.import_module("forge.kernels.linear.library")
    monkeypatch.setattr(module, "WORKSPACE", 16 * 256 * 2)
    types = (tensor(x, 20, 256), tensor("q4_K", 67, 256), None)
    check(linear, Case(f"chunks {x}", types, {"out": "f16"}), linear.kernels["linear_library"], INTERPRETER, "cpu")


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("tokens", [9, 20])
@pytest.mark.parametrize("w", ["q4_K", "q6_K", "q2_K", "q8_0", "q5_1"])
def test_tiles_of_whole_warp_groups_take_columns_in_pairs(w, tokens, monkeypatch):
    """As Hopper has them; of more than 16 tokens x is put in that order first."""
    k = 544 if w == "q5_1" else 512  # 544: the last block is not whole
    case = Case(f"pairs {w}", (tensor("f16", tokens, k), tensor(w, 67, k), None), {"out": "f16"})
    dozens = importlib.import_module("forge.kernels.linear.dozens")
    assert dozens._in_pairs(TARGETS["sm_90"], {"BLOCK_N": 64, "num_warps": 4})
    monkeypatch.setattr(dozens, "_in_pairs", lambda target, config: True)
    check(linear, case, linear.kernels["linear_tall"], INTERPRETER, "cpu")


@pytest.mark.interpret
@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
@pytest.mark.parametrize("config", [
    {"ROWS": 1, "BLOCK_K": 2048, "STAGES": 1, "num_warps": 1},
    {"ROWS": 2, "BLOCK_K": 64, "STAGES": 2, "num_warps": 2},
])  # fmt: skip
def test_other_configurations_give_the_same_numbers(config):
    from forge.verify import build, compare, operands, oracle

    case = Case("configuration", (tensor("a16", 2, 544), tensor("q5_1", 9, 544), None), {"out": "f32"})
    values = operands(linear, case)
    call = call_of(linear, case.types, case.attrs, INTERPRETER)
    outputs, steps, _ = build(linear.kernels["linear_gemv"], call, values, "cpu", config)
    for step in steps:
        step()
    compare(outputs[0], oracle(linear, values, case.attrs)[0], str(config))


def head(tokens: int, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, exact logits) of the CPU's head with the weight stored as a plan stores it."""
    n, k = weight.shape
    generator = torch.Generator().manual_seed(tokens)
    x = torch.randn(tokens, k, generator=generator).bfloat16()
    call = call_of(linear, (tensor("bf16", tokens, k), tensor("f32", n, k), None), {"out": "f32"}, TARGETS["cpu"])
    kernel = linear.kernels["linear_head"]
    assert kernel.serves(call) and kernel.layouts(call) == {"w": ("dense:f16",)}
    selection = Selection(call, kernel, Choice({}, "default"))
    y = empty(call.results[0], "cpu")
    work = tuple(empty(t, "cpu") for t in selection.workspace)
    for step in selection.build((y,), (x, weight.half(), None), work):
        step()
    return y, x.double() @ weight.double().T


@pytest.mark.cpu
@pytest.mark.parametrize("tokens", [1, 4, 5, 40])
def test_the_head_tells_logits_apart_that_differ_by_a_twentieth(tokens, monkeypatch):
    """Logits of up to about 30, of which bfloat16 would keep steps of an eighth."""
    monkeypatch.setattr(linear_cpu, "HEAD_CHUNK", 300 * 256)
    weight = torch.randn(1000, 256, generator=torch.Generator().manual_seed(7)) / 16 * 8
    got, exact = head(tokens, weight)
    assert exact.abs().max() > 25
    assert (got - exact).abs().max() < 0.02
    top = exact.topk(2).values
    clear = top[:, 0] - top[:, 1] > 0.05
    assert clear.any() and torch.equal(got.argmax(-1)[clear], exact.argmax(-1)[clear])


@pytest.mark.cpu
def test_the_head_does_not_hide_an_overflow_of_fp16():
    x_too_large = torch.full((1, 32), 1e6).bfloat16()
    y = linear(x_too_large, torch.ones(3, 32, dtype=torch.float16), out="f32")
    assert not y.isfinite().any()


@pytest.mark.cpu
def test_an_eager_call_takes_planes_as_they_are():
    kind = tensor("q6_K", 19, 512)
    weight = pack(kind, random_blocks(kind, torch.Generator().manual_seed(1)))
    x = torch.randn(3, 512, generator=torch.Generator().manual_seed(2))
    from forge.quant import dense

    assert torch.allclose(linear(x, weight, out="f32"), x @ dense(weight).T, rtol=1e-5, atol=1e-5)


@pytest.mark.cpu
@pytest.mark.parametrize("first_out", [0, 1])
def test_products_of_two_threads_leave_onednn_as_they_found_it(first_out, monkeypatch):
    """Both are in the middle of a product at once, and leave it in either order."""
    enabled = torch._C._get_mkldnn_enabled
    within, leave, seen = threading.Barrier(3, timeout=20), [threading.Event(), threading.Event()], []
    turns = iter(leave)

    def waiting(x, columns, out):
        turn = next(turns)
        seen.append(enabled())
        within.wait()
        turn.wait(20)

    monkeypatch.setattr(torch, "mm", waiting)
    assert enabled()
    threads = [threading.Thread(target=linear, args=(torch.ones(1, 8).bfloat16(), torch.ones(3, 8).bfloat16()),
                                kwargs={"out": "bf16"}) for _ in leave]  # fmt: skip
    for thread in threads:
        thread.start()
    within.wait()
    leave[first_out].set()
    time.sleep(0.05)
    assert not enabled(), "one is still within"
    leave[1 - first_out].set()
    for thread in threads:
        thread.join()
    assert seen == [False, False] and enabled()


@pytest.mark.null
@pytest.mark.parametrize(("types", "message"), [
    ((tensor("f16", 2, 64), tensor("q8_0", 5, 32), None), "differ in K"),
    ((tensor("a8", 2, 64), tensor("f16", 5, 64), None), "a8 needs a weight of a block type"),
    ((tensor("a16", 2, 64), tensor("f16", 5, 64), None), "a16 needs a weight of a block type"),
    ((tensor("f16", 2, 64), tensor("a16", 5, 64), None), "w must hold weights"),
    ((tensor("f16", 2, 64), tensor("f16", 5, 64), tensor("f16", 5)), "bias must be f32"),
    ((tensor("f16", 2, 64), tensor("f16", 5, 64), tensor("f32", 4)), "bias must be f32"),
    ((tensor("i32", 2, 64), tensor("f16", 5, 64), None), "x must be floating point"),
    ((tensor("f16", 2, 64), tensor("i32", 5, 64), None), "w must hold weights"),
    ((tensor("f16", 2, 64), tensor("a8", 5, 64), None), "w must hold weights"),
])  # fmt: skip
def test_refusals_name_the_operands(types, message):
    with pytest.raises(ShapeError, match=message) as caught:
        linear.infer(types, {"out": "f16"})
    assert "linear(x: " in caught.value.what


@pytest.mark.cpu
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
@pytest.mark.parametrize("tokens", [1, 3])
def test_a_bias_is_rounded_once_to_a_result_finer_than_the_activations(tokens):
    x, w, bias = torch.zeros(tokens, 32).bfloat16(), torch.zeros(3, 32).bfloat16(), torch.tensor([1.001, 2.003, 3.007])
    for out in ("f16", "f32"):
        y = linear(x, w, bias, out=out)
        assert torch.equal(y, bias.to(y.dtype).expand(tokens, 3)), out
