"""Cards that a decode step is modelled on: what their makers publish, what others measured, and what is assumed.

The compute units and the arithmetic rate of a card are those of its `DeviceTarget`. Each figure here names its source;
"assumed" is a guess of ours, and says from what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forge.errors import UnsupportedError
from forge.target import TARGETS, DeviceTarget


@dataclass(frozen=True)
class Figure:
    """A number and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Card:
    """`copy` is what copies reach, in GB/s; `clock` is in GHz; `memory` and `cache` are ns until a load is there, out
    of memory and out of L2; `node` is us that a kernel costs in a captured graph, whatever it does."""

    name: str
    arch: str
    copy: Figure
    clock: Figure
    memory: Figure
    cache: Figure
    node: Figure

    @property
    def target(self) -> DeviceTarget:
        return TARGETS[self.arch]

    @property
    def sources(self) -> Mapping[str, Figure]:
        """The figures by what they are, with their units."""
        return {
            "copy rate, GB/s": self.copy,
            "clock, GHz": self.clock,
            "latency of memory, ns": self.memory,
            "latency of L2, ns": self.cache,
            "a node of a graph, us": self.node,
        }


@dataclass(frozen=True)
class Units:
    """A compute unit of a family. Sources: AMD's ISA documents and white papers, LLVM's AMDGPUUsage.

    `simds` that each issue one vector instruction of a wave in `issue` cycles; `read` bytes of vector loads a cycle;
    `lds` bytes for its workgroups; `groups` of several waves that it holds.
    """

    simds: int
    issue: int
    read: int = 64
    lds: int = 64 << 10
    groups: int = 16


_CDNA, _RDNA = Units(simds=4, issue=4), Units(simds=2, issue=1, groups=32)
_DATA_SHEET = "boost clock of the data sheet"
_SHARE = "assumed: 0.85 of the data sheet's, as Strix Halo (0.83) and the H100 (0.88) reach by measurement"
_LIKE_XTX = "assumed: as a 7900 XTX"

CARDS: Mapping[str, Card] = {
    card.arch: card
    for card in (
        Card(
            "MI300X",
            "gfx942",
            Figure(4177, "least copy rate of AMD's acceptance test of an MI300X (BabelStream)"),
            Figure(2.1, _DATA_SHEET),
            Figure(600, "assumed: three times a 7900 XTX's Infinity Cache, for the way across dies"),
            Figure(200, "assumed"),
            Figure(4.5, "reported for HIP graphs on an MI300X"),
        ),
        Card(
            "RX 7900 XTX",
            "gfx1100",
            Figure(816, _SHARE),
            Figure(2.5, _DATA_SHEET),
            Figure(300, "assumed: 150 ns of its Infinity Cache (Chips and Cheese, 2023-06-14), and as much for GDDR6"),
            Figure(120, "assumed: below its Infinity Cache's 150 ns"),
            Figure(3.9, "reported for HIP graphs on a gfx1100"),
        ),
        Card(
            "RX 9070 XT",
            "gfx1201",
            Figure(544, _SHARE),
            Figure(2.97, _DATA_SHEET),
            Figure(300, _LIKE_XTX),
            Figure(120, _LIKE_XTX),
            Figure(3.9, _LIKE_XTX),
        ),
        Card(
            "Strix Halo",
            "gfx1151",
            Figure(212, "rocm_bandwidth_test, as users of it report (llm-tracker.info)"),
            Figure(2.9, _DATA_SHEET),
            Figure(400, "assumed: a 7900 XTX's, and LPDDR5X"),
            Figure(120, _LIKE_XTX),
            Figure(3.9, _LIKE_XTX),
        ),
        Card(
            "H100",
            "sm_90",
            Figure(2960, "measured: benchmarks/RESULTS.md, decoding of 2026-11-28"),
            Figure(1.755, _DATA_SHEET),
            Figure(500, "assumed"),
            Figure(200, "assumed"),
            Figure(0.87, "measured on an H200: an empty kernel as a node of a captured graph"),
        ),
    )
}


def card_of(arch: str) -> Card:
    """The card of an architecture. Raises UnsupportedError where there is none."""
    if arch not in CARDS:
        raise UnsupportedError(f"no card is described for {arch!r}", remedy=f"one of: {', '.join(CARDS)}")
    return CARDS[arch]


def units_of(target: DeviceTarget) -> Units:
    """What a compute unit of an AMD target is made of."""
    return _CDNA if target.wave == 64 else _RDNA
