"""Activations to int8 codes in registers: what every kernel ends with that gives a8 or a16."""

from __future__ import annotations

from forge.language import jit, tl


@jit
def _words(codes, GROUPS: tl.constexpr):
    """int32 [GROUPS,8] of codes int32 [GROUPS,32]: the low bytes, four a word."""
    bytes = tl.reshape(codes & 255, [GROUPS, 8, 4]) << (8 * tl.arange(0, 4))[None, None, :]
    return tl.sum(bytes, 2)


@jit
def store_codes(y, x, group, mask, GROUPS: tl.constexpr, RESIDUAL: tl.constexpr):
    """Store x f32[GROUPS,32] as the groups `group` of the planes y of a8, or a16 with RESIDUAL; see `quantize_q8`."""
    STEPS: tl.constexpr = 256 if RESIDUAL else 1
    # The maximum skips NaN; the sum of x * 0 brings NaN and infinity back into the scale.
    d = tl.div_rn(tl.max(tl.abs(x), 1), tl.full([GROUPS], 127.0, tl.float32)) + tl.sum(x * 0.0, 1)
    divisor = tl.where(d == 0.0, 1.0, d)
    scaled = tl.div_rn(x, tl.broadcast_to(divisor[:, None], [GROUPS, 32])) * STEPS
    # Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to nearest, ties to even.
    rounded = tl.clamp((scaled + 12582912.0) - 12582912.0, -127.0 * STEPS, 127.0 * STEPS)
    codes = rounded.to(tl.int32)
    total = tl.sum(codes, 1).to(tl.float32) * (1.0 / STEPS)
    at = group[:, None] * 8 + tl.arange(0, 8)[None, :]
    if RESIDUAL:
        tl.store(y.h + at, _words(codes, GROUPS), mask[:, None])
        # The low byte counts from -128 to 127, so the rest is the code rounded to nearest.
        codes = (codes + 128) >> 8
    tl.store(y.q + at, _words(codes, GROUPS), mask[:, None])
    tl.store(y.d + group, d, mask)
    tl.store(y.sum + group, d * total, mask)
