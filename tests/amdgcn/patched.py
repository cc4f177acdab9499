"""Compiled launches with single instructions changed: what the negative controls share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from forge.amdgcn.bridge import run
from forge.amdgcn.code.codeobject import kernels
from forge.amdgcn.code.decode import decode
from forge.amdgcn.code.instruction import Instruction
from forge.amdgcn.code.listing import listing
from forge.amdgcn.emulate import Checks
from forge.lower.launch import Launch
from forge.lower.offline import CodeObject, compile_launch
from forge.lower.select import call_of
from forge.lower.values import type_of
from forge.target import TARGETS
from forge.verify import build, compare, operands, oracle, serving

NOP = 0xBF800000  # s_nop 0, on every architecture
NO_INSTRUCTION = 0xFFFFFFFF_FFFFFFFF  # of no architecture
NO_CHECKS = Checks()


@dataclass(frozen=True)
class Subject:
    """A kernel of ours on a case: its launch, compiled; `verdict` runs a code object in its place and compares."""

    arch: str
    launch: Launch
    object: CodeObject
    outputs: tuple
    references: tuple

    def verdict(
        self, object: CodeObject | None = None, checks: Checks = NO_CHECKS, launch: Launch | None = None
    ) -> None:
        """Raises NumericsError or EmulationError unless the results, which start as NaN, become the oracle's."""
        for out in self.outputs:
            out.fill_(float("nan"))
        run(object or self.object, launch or self.launch, checks)
        for out, reference in zip(self.outputs, self.references, strict=True):
            compare(out, reference, self.object.name)


def subject(arch: str, kernel_id: str, case_name: str) -> Subject:
    """The launch of a kernel that is one launch, on a case of its op."""
    target = TARGETS[arch]
    op, case, kernel = next((o, c, k) for o, c, k, _ in serving(target) if (k.id, c.name) == (kernel_id, case_name))
    values = operands(op, case)
    references = oracle(op, values, case.attrs)
    call = call_of(op, tuple(type_of(v) for v in values), case.attrs, target)
    outputs, (launch,), _ = build(kernel, call, values, "cpu")
    return Subject(arch, launch, compile_launch(launch, target), outputs, references)


def instructions(object: CodeObject) -> list[Instruction]:
    """The kernel's code in its order."""
    code = kernels(object.binary)[object.name]
    return [i for _, i in sorted(decode(code, listing(object.assembly, object.name)).items())]


def matching(object: CodeObject, *names: str) -> list[Instruction]:
    """Its instructions whose names begin with one of `names`. Never none: a control of nothing would be green."""
    found = [i for i in instructions(object) if i.name.startswith(names)]
    assert found, f"{object.name} for {object.arch} has no {' or '.join(names)}"
    return found


def with_bits(object: CodeObject, changed: list[Instruction], change: Callable[[int], int]) -> CodeObject:
    """The binary with the bits of the instructions `changed` put through `change`; the listing is left as it was."""
    code = kernels(object.binary)[object.name]
    binary = bytearray(object.binary)
    text = object.binary.index(code.text)
    for i in changed:
        at = slice(text + i.pc, text + i.next)
        bits = change(int.from_bytes(binary[at], "little")) & (1 << 8 * i.size) - 1
        binary[at] = bits.to_bytes(i.size, "little")
    return replace(object, binary=bytes(binary))


def with_text(object: CodeObject, changed: list[Instruction], lines: Callable[[Instruction], str]) -> CodeObject:
    """The listing with other lines for the instructions `changed`; the binary is left as it was."""
    texts = [i.text for i in instructions(object)]
    places = {i.pc: n for n, i in enumerate(instructions(object))}
    chosen = {places[i.pc]: i for i in changed}
    out, number, inside = [], 0, False
    for raw in object.assembly.splitlines():
        line = " ".join(raw.split(";", 1)[0].split())
        inside = inside or line == f"{object.name}:"
        while number < len(texts) and not texts[number]:
            number += 1  # padding has no line
        if inside and number < len(texts) and line == texts[number]:
            raw = lines(chosen[number]) if number in chosen else raw
            number += 1
        out.append(raw)
    return replace(object, assembly="\n".join(out))


def without(object: CodeObject, *gone: Instruction) -> CodeObject:
    """The code with s_nop in the place of some instructions, in the binary and in the listing."""
    relisted = with_text(object, list(gone), lambda i: "s_nop 0\n" * (i.size // 4))
    return with_bits(relisted, list(gone), lambda bits: NOP | NOP << 32 | NOP << 64)


def as_waves_of_64(object: CodeObject) -> CodeObject:
    """The code object with its wave size changed from 32 to 64 in the descriptor and in the metadata."""
    code = kernels(object.binary)[object.name]
    address = code.text_address + code.entry - code.descriptor.entry_offset
    start, content = next((s, c) for s, c in code.rodata if s <= address < s + len(c))
    binary = bytearray(object.binary.replace(b".wavefront_size\x20", b".wavefront_size\x40"))
    binary[object.binary.index(content[address - start :][:64]) + 57] &= ~4  # ENABLE_WAVEFRONT_SIZE32
    return replace(object, binary=bytes(binary))
