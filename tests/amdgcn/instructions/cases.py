"""Registers filled so that one run sees the edge values of every source against those of the others."""

from __future__ import annotations

import numpy as np
from amdgcn.assembled import LANES, VCC, execute, waves
from amdgcn.instructions.oracle import Oracle
from amdgcn.instructions.reference import Registers, expected, matched, parts
from amdgcn.instructions.text import Term
from amdgcn.instructions.values import BITS, FLOATS, edges

from forge.amdgcn.state.waves import Waves


def sources(arch: str, line: str) -> list[tuple[Term, str, Oracle]]:
    """The registers that a line reads as values, each once, with their types."""
    found: dict[tuple[str, int], tuple[Term, str, Oracle]] = {}
    for part, oracle in parts(arch, line):
        for term, type in matched(oracle, part)[1]:
            if term and term.file in "vsa" and type != "m":
                found.setdefault((term.file, term.index), (term, type.removeprefix("d."), oracle))
    return list(found.values())


def combined(arch: str, line: str, limit: int = 1 << 20) -> Waves:
    """All lanes active; every combination of edge values, or as many random ones as `limit` and the oracle allow."""
    read = sources(arch, line)
    lanes, rng = LANES[arch], np.random.default_rng(3)
    limit = min([limit, *(o.lanes for _, o in parts(arch, line))])
    vector = [s for s in read if s[0].file != "s"]
    scalar = [s for s in read if s[0].file == "s"]
    across = int(np.prod([len(values(s)) for s in vector]))  # by lane
    down = int(np.prod([len(values(s)) for s in scalar]))  # by wave
    n = max(2, -(-across // lanes) * down)
    if not vector:
        n = min(n, 1500 if limit > 4096 else 64)
    exhaustive = n * lanes <= limit or not vector
    state = _state(arch, line, n if exhaustive else limit // lanes)
    wave = np.arange(state.n)[:, None]
    place = wave // max(1, down) * lanes + np.arange(lanes) if exhaustive else None
    for group, position in ((vector, place), (scalar, wave if exhaustive else None)):
        for source in group:
            k = len(values(source))
            shape = (state.n, lanes) if group is vector else (state.n, 1)
            index = rng.integers(0, k, shape) if position is None else position % k
            position = None if position is None else position // k
            _fill(state, source, index)
    return state


def masked(arch: str, line: str) -> Waves:
    """Waves with some lanes active, one, and none: the others must keep what they hold."""
    lanes, rng = LANES[arch], np.random.default_rng(5)
    patterns = [
        int(rng.integers(0, 1 << 32)) << 32 | int(rng.integers(0, 1 << 32)),
        0x5555555555555555,
        1 << lanes - 1,
        0,
    ]
    state = _state(arch, line, len(patterns), np.array(patterns, object))
    for source in sources(arch, line):
        shape = (state.n, 1 if source[0].file == "s" else lanes)
        _fill(state, source, rng.integers(0, len(values(source)), shape))
    return state


def values(source: tuple[Term, str, Oracle]) -> np.ndarray:
    _, type, oracle = source
    found = edges(type)
    if oracle.quiet and type[0] == "f":
        bits = BITS[type]
        quiet = np.uint64(1 << {16: 9, 32: 22, 64: 51}[bits])
        found = np.where(np.isnan(found.astype(f"u{bits // 8}").view(FLOATS[bits])), found | quiet, found)
    return found


def _state(arch: str, line: str, n: int, exec=-1) -> Waves:
    rng = np.random.default_rng(11)
    top = max((t.index for p, _ in parts(arch, line) for t in p.terms if t.file == "v"), default=0)
    masks = np.array([int(x) for x in rng.integers(0, 1 << 63, n)], object) * 2 + 1
    if any(t.file == "a" for p, _ in parts(arch, line) for t in p.terms):
        top += 256 + 16
    return waves(arch, n, registers=top + 4, exec=exec, vcc=masks)


def _fill(state: Waves, source: tuple[Term, str, Oracle], index: np.ndarray) -> None:
    term, type, _ = source
    if (term.file, term.index) in (("s", VCC), ("s", 126)):
        return
    bits = values(source)[index]
    base = state.sgpr if term.file == "s" else state.vgpr[256:] if term.file == "a" else state.vgpr
    if BITS[type] == 16:  # the other half holds other edge values
        other = np.roll(bits, 1, axis=1)
        bits = other << np.uint64(16) | bits if not term.half else bits << np.uint64(16) | other
    for word in range(max(1, BITS[type] // 32)):
        base[term.index + word] = (bits >> np.uint64(32 * word) & np.uint64(0xFFFFFFFF)).astype(np.uint32)


def wrong(arch: str, line: str, limit: int = 1 << 20) -> list[str]:
    """What the line does otherwise than its oracle, in words."""
    with np.errstate(all="ignore"):
        for before in (combined(arch, line, limit), masked(arch, line)):
            want = expected(arch, line, registers(before))
            found = differences(want, registers(execute(arch, line, before)))
            if found:
                return [f"{arch}: {line} ({before.n} waves)", *found]
    return []


def registers(state: Waves) -> Registers:
    return Registers(state.vgpr, state.sgpr, state.scc)


def differences(want: Registers, got: Registers) -> list[str]:
    """Where the registers differ, in words; floats by their oracle's tolerance."""
    found = []
    done = set()
    for (file, index), (type, oracle, half) in want.types.items():
        words = range(index, index + max(1, BITS[type] // 32))
        done |= {(file, w) for w in words}
        pair = [r.words(file, index, BITS[type]) for r in (want, got)]
        if BITS[type] == 16:  # the other half to the bit
            place, other = np.uint64(16 * half), np.uint64(0xFFFF << 16 * (1 - half))
            found += _report(f"{file}{index} beside its f16", *pair, (pair[0] ^ pair[1]) & other != 0)
            pair = [words >> place & np.uint64(0xFFFF) for words in pair]
        bad = ~close(*pair, type, oracle) & ~want.undecided.get((file, index), np.False_)
        if oracle.flush:
            bad &= ~close(want.flushed[file, index], pair[1], type, oracle)
        found += _report(f"{file}{index} as {type}", *pair, bad)
    for file in ("vgpr", "sgpr"):
        a, b = getattr(want, file), getattr(got, file)
        for index in np.unique(np.nonzero(a != b)[0]):
            if (file[0], index) not in done:
                found += _report(f"{file[0]}{index}", a[index], b[index], a[index] != b[index])
    return found + _report("scc", want.scc, got.scc, want.scc != got.scc)


def close(want: np.ndarray, got: np.ndarray, type: str, oracle: Oracle) -> np.ndarray:
    """Equal bits, or both NaN, or within the oracle's error, a denormal counting as zero if it may."""
    element = type.removeprefix("pk.")
    bits = BITS[element]
    out = np.ones(np.broadcast_shapes(want.shape, got.shape), bool)
    for shift in range(0, BITS[type], bits):
        a, b = ((x >> np.uint64(shift)).astype(f"u{bits // 8}").view(FLOATS[bits]) for x in (want, got))
        same = (a.view(f"u{bits // 8}") == b.view(f"u{bits // 8}")) | (np.isnan(a) & np.isnan(b))
        if oracle.near:
            x, y = a.astype(np.float64), b.astype(np.float64)
            same |= np.isfinite(x) & np.isfinite(y) & (abs(x - y) <= 2 * oracle.near * abs(x) + 2.0**-149)
        if oracle.flush:
            same |= (abs(a) < np.finfo(a.dtype).tiny) & (b == 0)
        out &= same
    return out


def _report(name: str, want: np.ndarray, got: np.ndarray, bad: np.ndarray) -> list[str]:
    if not bad.any():
        return []
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    return [
        f"{name}: {int(bad.sum())} of {bad.size} differ; at {where} {int(got[where]):#x}, not {int(want[where]):#x}"
    ]
