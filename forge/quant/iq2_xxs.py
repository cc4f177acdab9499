"""IQ2_XXS: d * (1/2 + sc) / 4 * code, codes of eight from a grid of 256 with signs, a 4-bit sc a group of 32.

Source: ggml's `block_iq2_xxs`: an fp16 d a block of 256, then for each group of 32 four bytes that name entries of the
grid and a word: 7 bits of signs for each of the four, sc in the upper 4 bits. The eighth sign makes the number of minus
signs even.
"""

from __future__ import annotations

import torch
from torch import Tensor

from forge.language import jit, tl
from forge.quant import words
from forge.quant.format import Fields, QuantFormat

LEVELS = (8, 25, 43)

# ggml's `iq2xxs_grid`: the eight levels of an entry as the digits of a number in base 3, the first the lowest.
# fmt: off
GRID = (
    0, 2, 4, 6, 8, 10, 12, 18, 20, 24, 26, 28, 30, 36, 42, 46, 48, 54, 56, 62, 74, 82, 84, 90, 94, 108, 138, 150,
    162, 164, 182, 218, 244, 246, 252, 262, 264, 270, 272, 276, 288, 298, 300, 306, 318, 324, 326, 330, 342, 356,
    376, 378, 388, 412, 414, 432, 462, 480, 486, 490, 492, 498, 510, 514, 516, 522, 524, 546, 570, 594, 650, 660,
    730, 732, 738, 748, 756, 774, 786, 792, 796, 810, 816, 828, 846, 854, 864, 912, 922, 972, 978, 990, 994, 1006,
    1026, 1068, 1100, 1134, 1148, 1216, 1218, 1224, 1242, 1270, 1296, 1300, 1368, 1414, 1458, 1460, 1466, 1488,
    1504, 1512, 1514, 1564, 1572, 1620, 1622, 1702, 1704, 1710, 1728, 1742, 1782, 1810, 1830, 1926, 1950, 1962,
    2010, 2136, 2188, 2190, 2196, 2202, 2206, 2208, 2214, 2220, 2228, 2232, 2242, 2244, 2250, 2268, 2286, 2314,
    2322, 2326, 2350, 2358, 2382, 2390, 2400, 2430, 2436, 2448, 2484, 2500, 2522, 2532, 2592, 2674, 2676, 2682,
    2700, 2704, 2754, 2796, 2800, 2810, 2866, 2898, 2916, 2922, 2926, 2932, 2934, 2970, 2976, 3000, 3026, 3072,
    3142, 3222, 3224, 3248, 3322, 3360, 3402, 3412, 3418, 3450, 3510, 3570, 3648, 3654, 3672, 3696, 3726, 3766,
    3822, 3852, 3888, 3892, 3978, 3980, 4026, 4160, 4374, 4376, 4382, 4402, 4430, 4458, 4470, 4482, 4546, 4618,
    4620, 4626, 4630, 4644, 4662, 4698, 4730, 4764, 4786, 4806, 4824, 4862, 4944, 5032, 5106, 5112, 5124, 5130,
    5176, 5198, 5238, 5296, 5346, 5366, 5376, 5464, 5644, 5688, 5834, 5868, 5890, 5920, 5994, 6090, 6354, 6402,
)
# fmt: on


def _grid() -> tuple[int, ...]:
    """Two int32 words of four codes an entry."""
    octets = [LEVELS[entry // 3**place % 3] for entry in GRID for place in range(8)]
    return tuple(int.from_bytes(bytes(octets[i : i + 4]), "little") for i in range(0, len(octets), 4))


def _split(blocks: Tensor) -> Fields:
    groups = blocks[:, 2:].reshape(-1, 8, 8)
    codes, s = groups[:, :, :4].reshape(-1, 32), words.take(groups.reshape(-1, 8), 4, 8, torch.int32)
    return Fields(codes, s.reshape(-1, 8), words.take(blocks, 0, 2, torch.float16))


def _join(fields: Fields) -> Tensor:
    codes, s, d, _ = fields
    assert s is not None
    signs = s.contiguous().view(torch.uint8).reshape(-1, 8, 4)
    return torch.cat((d.view(torch.uint8), torch.cat((codes.reshape(-1, 8, 4), signs), 2).reshape(-1, 64)), 1)


def _levels(s: Tensor | None, d: Tensor) -> tuple[Tensor, Tensor | None]:
    assert s is not None
    return d.to(torch.float32) * (0.5 + ((s >> 28) & 15).to(torch.float32)) * 0.25, None


def _decoded(fields: Fields) -> Tensor:
    """int32 [B,256]: the grid's codes with their signs."""
    codes, s, _, _ = fields
    assert s is not None
    device = codes.device
    grid = torch.tensor(FORMAT.table, dtype=torch.int32, device=device).view(torch.int8).view(256, 8)
    stored = (s[:, :, None] >> torch.arange(0, 28, 7, device=device)) & 127
    bits = (stored[..., None] >> torch.arange(7, device=device)) & 1
    signs = torch.cat((bits, bits.sum(-1, keepdim=True) & 1), -1)
    values: Tensor = grid[codes.long()].to(torch.int32).reshape(signs.shape) * (1 - 2 * signs)
    return values.reshape(codes.shape[0], -1)


@jit
def _codes(w, q, at, mask, FIELD: tl.constexpr):
    """Entry FIELD // 2 of each run, its first or second four codes."""
    entry = (q >> (8 * (FIELD // 2))) & 255
    magnitudes = tl.load(w.table + entry * 2 + FIELD % 2)
    stored = (tl.load(w.s + at, mask, 0)[:, None] >> (7 * (FIELD // 2))) & 127
    parity = stored ^ (stored >> 4)
    parity = parity ^ (parity >> 2)
    signs = stored | (((parity ^ (parity >> 1)) & 1) << 7)
    # Four bits to the lowest bits of four bytes; then minus c is the complement of c plus one, in each byte.
    negative = (((signs >> (4 * (FIELD % 2))) & 15) * 0x00204081) & 0x01010101
    return (magnitudes ^ (negative * 255)) + negative


@jit
def _scales(w, at, mask, PART: tl.constexpr):
    d = tl.load(w.d + at // 8, mask, 0.0).to(tl.float32)
    scale = d * (0.5 + ((tl.load(w.s + at, mask, 0) >> 28) & 15).to(tl.float32)) * 0.25
    return scale, scale


FORMAT = QuantFormat(
    "iq2_xxs",
    group=32,
    numbers=4,
    s_type="i32",
    table=_grid(),
    scales_at={0: 0.0174},
    split=_split,
    join=_join,
    levels=_levels,
    decoded=_decoded,
    codes=_codes,
    scales=_scales,
)
