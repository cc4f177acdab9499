"""What a line of assembly does to the registers, by its text and its oracle: operands, modifiers, lanes, masks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from amdgcn.instructions.oracle import ORACLES, Oracle
from amdgcn.instructions.shuffle import dpp, is_dpp
from amdgcn.instructions.text import Part, Term, read_line
from amdgcn.instructions.values import BITS, FLOATS, WORDS, constant

VCC, EXEC = 106, 126
SELECT = {
    "BYTE_0": (0, 8),
    "BYTE_1": (8, 8),
    "BYTE_2": (16, 8),
    "BYTE_3": (24, 8),
    "WORD_0": (0, 16),
    "WORD_1": (16, 16),
}
SELECT["DWORD"] = (0, 32)


@dataclass
class Registers:
    """vgpr [r, n, lanes], sgpr [128, n, 1] and scc [n, 1]; by file and index the floats that were written."""

    vgpr: np.ndarray
    sgpr: np.ndarray
    scc: np.ndarray
    types: dict[tuple[str, int], tuple[str, Oracle, int]] = field(default_factory=dict)  # and which half holds an f16
    undecided: dict[tuple[str, int], np.ndarray] = field(default_factory=dict)  # lanes that the words leave open
    flushed: dict[tuple[str, int], np.ndarray] = field(
        default_factory=dict
    )  # results of denormals taken for 0, as bits

    def copy(self) -> Registers:
        return Registers(self.vgpr.copy(), self.sgpr.copy(), self.scc.copy())

    @property
    def lanes(self) -> int:
        return self.vgpr.shape[2]

    def mask(self, index: int) -> np.ndarray:
        """bool[n, lanes] of a lane mask in scalar registers."""
        lane = np.arange(self.lanes)
        words = np.concatenate([self.sgpr[index], self.sgpr[index + 1]], axis=1)  # [n, 2]
        return (words[:, lane // 32] >> (lane % 32).astype(np.uint32) & 1).astype(bool)

    def write_mask(self, index: int, bits: np.ndarray) -> None:
        for word in range(self.lanes // 32):
            weights = np.uint64(1) << np.arange(32, dtype=np.uint64)
            self.sgpr[index + word] = (bits[:, 32 * word :][:, :32] * weights).sum(1, keepdims=True).astype(np.uint32)

    def words(self, file: str, index: int, bits: int) -> np.ndarray:
        """uint64: the value in one or two registers."""
        base = self.sgpr if file == "s" else self.vgpr[256 if file == "a" else 0 :]
        low = base[index].astype(np.uint64)
        return low if bits <= 32 else low | base[index + 1].astype(np.uint64) << np.uint64(32)


def expected(arch: str, line: str, before: Registers) -> Registers:
    """The registers after the line. The parts of a dual instruction both see the registers before."""
    after = before.copy()
    for part, oracle in parts(arch, line):
        _Run(arch, part, oracle, before, after).all()
    return after


def parts(arch: str, line: str) -> list[tuple[Part, Oracle]]:
    """The instruction of a line with its oracle, or the two of a dual one with theirs."""
    found = read_line(arch, line)
    if len(found) == 1 and (arch, line) in ORACLES:
        return [(found[0], ORACLES[arch, line])]
    return [(part, ORACLES[arch, part.name]) for part in found]


def matched(oracle: Oracle, part: Part) -> tuple[list[tuple[Term | None, str]], list[tuple[Term | None, str]]]:
    """Terms with their types: (destinations, sources); implicit ones have no term."""
    count = sum(_explicit(t) for t in oracle.results)
    written, read = part.terms[:count], part.terms[count:]
    assert len(read) == sum(_explicit(t) for t in oracle.sources), f"{part} does not fit {oracle}"
    pair = {}
    for types, terms in ((oracle.results, written), (oracle.sources, read)):
        rest = iter(terms)
        pair[types is oracle.results] = [(next(rest), t) if _explicit(t) else (_implied(t, part), t) for t in types]
    return pair[True], pair[False]


def _explicit(type: str) -> bool:
    return not type.startswith(("scc", "vcc", "exec", "d."))


def _implied(type: str, part: Part) -> Term | None:
    return part.terms[0] if type.startswith("d.") else None


class _Run:
    def __init__(self, arch: str, part: Part, oracle: Oracle, before: Registers, after: Registers) -> None:
        self.arch, self.part, self.oracle, self.before, self.after = arch, part, oracle, before, after
        self.active = before.mask(EXEC)
        self.enabled = self.active.copy()

    def all(self) -> None:
        results, sources = matched(self.oracle, self.part)
        if any(t.startswith("pk.") for _, t in results):
            values = [self.packed(sources, results[0][1], high) for high in (0, 1)]
            width = np.uint64(BITS[results[0][1]] // 2)
            self.store(results[0][0], results[0][1], values[0] | values[1] << width)
            return
        given = [self.source(i, term, type) for i, (term, type) in enumerate(sources)]
        if self.oracle.modified:
            given = [self.part, *given]
        values = self.oracle.function(*given)
        for (term, type), value in zip(results, values if isinstance(values, tuple) else (values,), strict=True):
            if isinstance(value, np.ma.MaskedArray):
                self.after.undecided[term.file, term.index] = np.ma.getmaskarray(value)
                value = value.data
            self.result(term, type, value)
        if self.oracle.flush:
            small = [np.where(abs(x) < np.finfo(x.dtype).tiny, np.copysign(x.dtype.type(0), x), x) for x in given]
            term, type = results[0]
            self.after.flushed[term.file, term.index] = self.bits(self.oracle.function(*small), type)

    def source(self, position: int, term: Term | None, type: str) -> np.ndarray:
        if type == "scc":
            return self.before.scc.astype(np.int64)
        if type in ("vcc", "exec"):
            return self.before.mask(VCC if type == "vcc" else EXEC)
        if type.startswith("exec."):
            return self.typed(self.before.words("s", EXEC, BITS[type[5:]]), type[5:])
        if type == "m":
            return self.before.mask(term.index)
        type = type.removeprefix("d.")
        if type == "mix":
            return self.mixed(position, term)
        return self.typed(self.modified(self.selected(position, term, type), term, type), type)

    def raw(self, term: Term, type: str) -> np.ndarray:
        """uint64: the bits of an operand of a type, without modifiers."""
        if term.file == "const":
            return np.array([[constant(term.text, type)]], np.uint64)
        value = self.before.words(term.file, term.index, BITS[type])
        if BITS[type] == 16:
            value = value >> np.uint64(16 * (term.half or 0)) & np.uint64(0xFFFF)
        return value

    def selected(self, position: int, term: Term, type: str) -> np.ndarray:
        """After DPP's move or SDWA's selection."""
        if position == 0 and is_dpp(self.part):
            value = np.broadcast_to(self.raw(term, type), self.active.shape)
            moved, self.enabled = dpp(self.part, value, self.active)
            return moved
        select = self.part.modifiers.get(f"src{position}_sel")
        if select is None:
            return self.raw(term, type)
        shift, width = SELECT[select]
        value = self.raw(term, "b32") >> np.uint64(shift) & np.uint64((1 << width) - 1)
        if term.extended:
            sign = np.uint64(1 << (width - 1))
            value = ((value ^ sign) - sign) & np.uint64(0xFFFFFFFF)
        return value & np.uint64((1 << BITS[type]) - 1)

    def modified(self, value: np.ndarray, term: Term, type: str) -> np.ndarray:
        """After abs, then neg, which are for floats and for what may be one."""
        sign = np.uint64(1 << (BITS[type] - 1))
        assert type[0] in "fb" or not (term.negative or term.absolute)
        if term.absolute:
            value = value & ~sign
        return value ^ sign if term.negative else value

    @staticmethod
    def typed(value: np.ndarray, type: str) -> np.ndarray:
        bits = BITS[type]
        if type[0] == "f":
            return value.astype(WORDS[bits]).view(FLOATS[bits])
        if type == "b32":
            return value.astype(np.uint32)
        if bits == 64:
            return value.view(np.int64) if type == "i64" else value
        value = value.view(np.int64)
        return np.where(value >> (bits - 1) & 1, value - (1 << bits), value) if type[0] == "i" else value

    def mixed(self, position: int, term: Term) -> np.ndarray:
        """A source of v_fma_mix: f16 from a half where op_sel_hi is set, else f32; neg and abs after the conversion."""
        half, is_half = (self.part.bits(n, 0, 3)[position] for n in ("op_sel", "op_sel_hi"))
        if is_half and term.file == "const":
            value = np.array([[constant(term.text, "f16")]], np.uint64) >> np.uint64(16 * half)
            value = self.typed(value, "f16").astype(np.float32)
        elif is_half:
            value = self.raw(term, "b32") >> np.uint64(16 * half) & np.uint64(0xFFFF)
            value = self.typed(value, "f16").astype(np.float32)
        else:
            value = self.typed(self.raw(term, "f32"), "f32")
        value = value.view(np.uint32)
        if term.absolute:
            value = value & np.uint32(0x7FFFFFFF)
        if term.negative:
            value = value ^ np.uint32(0x80000000)
        return value.view(np.float32)

    def packed(self, sources: list, type: str, high: int) -> np.ndarray:
        """One half of a packed result, as bits in its lower end."""
        element = type.removeprefix("pk.")
        width = BITS[element]
        given = []
        for i, (term, kind) in enumerate(sources):
            select = self.part.bits("op_sel_hi" if high else "op_sel", high, len(sources))[i]
            negate = self.part.bits("neg_hi" if high else "neg_lo", 0, len(sources))[i]
            value = self.raw(term, kind) >> np.uint64(width * select) & np.uint64((1 << width) - 1)
            if negate:
                value = value ^ np.uint64(1 << (width - 1))
            given.append(self.typed(value, element))
        return self.bits(self.oracle.function(*given), element)

    def bits(self, value: np.ndarray, type: str) -> np.ndarray:
        """uint64 of a result, clamped if the instruction says so."""
        bits = BITS[type]
        clamp = "clamp" in self.part.modifiers
        if type[0] == "f":
            assert value.dtype == FLOATS[bits], f"an oracle gave {value.dtype} for {type}"
            if clamp:
                value = np.where(value > 0, np.minimum(value, 1), 0).astype(value.dtype)  # of NaN and -0 too
            return np.ascontiguousarray(value).view(WORDS[bits]).astype(np.uint64)
        if clamp:
            low, top = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if type[0] == "i" else (0, (1 << bits) - 1)
            value = np.clip(value, low, top)
        return np.asarray(value).astype(np.uint64 if bits == 64 else np.int64).view(np.uint64) & np.uint64(
            (1 << bits) - 1
        )

    def result(self, term: Term | None, type: str, value: np.ndarray) -> None:
        if type == "scc":
            self.after.scc[:] = np.asarray(value).astype(np.uint32)
        elif type == "exec":
            self.after.write_mask(EXEC, np.broadcast_to(value, self.enabled.shape) & self.enabled)
        elif type.startswith("exec."):
            self.store(Term("s", EXEC), type[5:], self.bits(value, type[5:]))
        elif type == "m":
            if term.file != "null":
                self.after.write_mask(term.index, np.broadcast_to(value, self.enabled.shape) & self.enabled)
        elif type in ("lo", "hi"):  # a half that leaves the other
            bits = self.bits(value, "f16")
            self.store(Term("v", term.index, half=int(type == "hi")), "f16", bits)
        else:
            self.store(term, type, self.bits(value, type))

    def store(self, term: Term, type: str, bits: np.ndarray) -> None:
        """Write the registers of a destination, in the enabled lanes if it is a vector."""
        if type[0] == "f" or type.startswith("pk.f"):
            self.after.types[term.file, term.index] = (type, self.oracle, term.half or 0)
        if term.file == "s":
            for word in range(max(1, BITS[type] // 32)):
                self.after.sgpr[term.index + word] = (bits >> np.uint64(32 * word) & np.uint64(0xFFFFFFFF)).astype(
                    np.uint32
                )
            return
        bits = np.broadcast_to(bits, self.enabled.shape)
        old = self.before.words(term.file, term.index, BITS[type])
        if select := self.part.modifiers.get("dst_sel"):
            assert self.part.modifiers["dst_unused"] == "UNUSED_PAD"
            shift, width = SELECT[select]
            bits = (bits & np.uint64((1 << width) - 1)) << np.uint64(shift)
        elif BITS[type] == 16 and (term.half is not None or self.arch != "gfx942"):
            shift = np.uint64(16 * (term.half or 0))
            bits = bits << shift | old & ~(np.uint64(0xFFFF) << shift)
        for word in range(max(1, BITS[type] // 32)):
            register = self.after.vgpr[term.index + (256 if term.file == "a" else 0) + word]
            register[self.enabled] = (bits >> np.uint64(32 * word) & np.uint64(0xFFFFFFFF)).astype(np.uint32)[
                self.enabled
            ]
