"""Paged attention whose second kernel, which combines the parts of the keys, gives int8 codes for the next linear."""

from __future__ import annotations

from forge.graph.op import Case, op
from forge.kernels.device.tile import element, operand
from forge.kernels.paged_attention import SPLIT_SPACE, paged_attention, parts_of, split_and_combine
from forge.kernels.paged_attention.cases import batch
from forge.kernels.quantize_q8 import quantize_q8
from forge.kernels.views import merge_heads
from forge.torch_types import type_name


def _equals(
    q, kv, page_table, query_start, query_len, context_len, *, scale, window=0, softcap=0.0, residual=False
):  # fmt: skip
    sequences = (page_table, query_start, query_len, context_len)
    y = paged_attention(q, kv, *sequences, scale=scale, window=window, softcap=softcap)
    return quantize_q8(merge_heads(y), residual=residual)


def _cases():
    """Those of decoding; `paged_attention` has the others."""
    for name, lengths, more in (
        ("one sequence", [(1, 300)], {}),
        ("three sequences", [(1, 700), (2, 5), (1, 64)], {}),
        ("window", [(1, 900), (1, 3)], {"window": 128}),
        ("heads of 96, bf16", [(1, 130), (1, 1)], {"width": 96, "dt": "bf16"}),
        ("int8 keys", [(1, 300), (2, 5)], {"kv": "i8"}),
        ("fp8 keys", [(1, 300), (2, 5)], {"kv": "e4m3"}),
    ):
        case = batch(name, lengths, **{"heads": 8, "kv_heads": 2, "width": 64, **more})
        yield Case(name, case.types, {**case.attrs, "residual": name != "window"}, case.fills, make=case.make)


@op(
    equals=_equals,
    cases=lambda: tuple(_cases()),
    axes={"q": "THE", "kv": "2.KB.", "page_table": "SM", "query_start": "S", "query_len": "S", "context_len": "S"},
)
def paged_attention_q8(
    q, kv, page_table, query_start, query_len, context_len, *, scale, window=0, softcap=0.0, residual=False
):  # fmt: skip
    """y[T,H*E] = quantize_q8(paged_attention(...)), which is rounded to q's element type in between."""


def _whole_groups(call):
    """Whether a head is groups of 32."""
    return call.types[0].shape[2] % 32 == 0


@paged_attention_q8.kernel(when=_whole_groups, space=SPLIT_SPACE, workspace=parts_of)
def paged_split_q8(site, y, q, *operands, residual, **attrs):
    """As `paged_split`, but the parts are combined, and quantized, though there be one."""
    rounded = element(type_name(q.dtype))
    return split_and_combine(site, operand(y)[0], q, *operands, residual=residual, rounded=rounded, **attrs)
