"""What an instruction computes, as the machine calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from forge.amdgcn.numbers.arithmetic import Array


@dataclass(frozen=True)
class Output:
    """One result. A `per_lane_bit` one is bool[n, lanes], a bit a lane of a mask, to be packed by the machine."""

    name: str  # "D0", "D1", "SCC", "VCC", "EXEC"
    bits: int  # 16: the low half of D0 only; 32; 64; 1 for SCC and for a lane's bit
    per_lane_bit: bool = False
    float: bool = False  # a floating-point number: clamp and omod apply


@dataclass(frozen=True)
class Meaning:
    """`run` takes `inputs` in that order and returns `outputs` in theirs, as raw bits; it modifies no input.

    Vector operands are uint32 or uint64 arrays (`widths` says which), a 16-bit one in the low half of uint32; masks
    are uint64[n, 1]; OPSEL, NEG and other fields of the encoding uint32[1, 1]. A result has `uint32` (also for 16 bits
    and for SCC), `uint64`, or bool for `per_lane_bit`, in any shape that broadcasts. An instruction whose `inputs`
    name NEG, NEG_HI, OPSEL or OPSEL_HI applies those itself.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    run: Callable[..., tuple[Array, ...]]
    source: str  # the Python text of `run`
    widths: tuple[int, ...] = ()  # bits of each input, 32 or 64
