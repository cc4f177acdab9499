"""Compile launches for a GPU that is not here, and read what the code object says of itself.

Triton compiles for the target that its driver names, so a driver that names an absent GPU, and launches nothing,
lets a kernel go through its own launch path: the signature, the specialization and the options are those of a real
launch. Operands may be on torch's meta device: only their types, shapes and strides matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from forge.errors import CompileError
from forge.graph.ir import Node
from forge.language import require_triton
from forge.lower.launch import Launch, leaves
from forge.lower.plan import Plan
from forge.lower.schedule import Place, build
from forge.lower.sizes import Sizes
from forge.lower.values import empty
from forge.target import DeviceTarget
from forge.triton_internals import absent_driver, amd_code, compiled, descriptor_types


@dataclass(frozen=True)
class CodeObject:
    """A kernel compiled for an AMD target: its assembly and binary, registers, spills (dwords) and LDS (bytes)."""

    name: str
    arch: str
    assembly: str
    binary: bytes
    vgprs: int
    agprs: int
    vgpr_spills: int
    sgpr_spills: int
    scratch: int
    lds: int
    parameters: tuple[tuple[str, str], ...]  # (path, Triton's type) of the leaves that a launch passes
    threads: int  # of a workgroup

    def check(self, target: DeviceTarget) -> None:
        """Raise CompileError if the code spills registers or wants more LDS than the target has."""
        where = f"{self.name} for {self.arch}"
        if self.lds > target.lds:
            raise CompileError(f"the kernel wants {self.lds} bytes of LDS; {self.arch} has {target.lds}", where=where)
        if self.vgpr_spills or self.sgpr_spills or self.scratch:
            raise CompileError(
                f"the kernel spills {self.vgpr_spills} VGPRs and {self.sgpr_spills} SGPRs, {self.scratch} bytes",
                where=where,
                remedy=f"give {self.arch} a smaller configuration under tuning/{self.arch}/",
            )


def compile_launch(launch: Launch, target: DeviceTarget) -> CodeObject:
    """Compile `launch` for an AMD target. Raises CompileError with the compiler's own words.

    Not for use beside threads that launch kernels on a GPU: meanwhile Triton compiles for `target` alone.
    """
    require_triton(f"compiling for {target}")
    with absent_driver(target.backend, target.arch, target.wave):
        try:
            code = amd_code(compiled(launch.fn, launch.grid, launch.args, launch.meta))
        except Exception as error:  # Triton raises many kinds; each is the compiler's word on this kernel
            raise CompileError(f"{launch.fn.__name__} does not compile for {target}: {error}") from error
    text = code.assembly
    return CodeObject(
        name=code.name,
        arch=target.arch,
        assembly=text,
        binary=code.binary,
        vgprs=_field(text, ".vgpr_count"),
        agprs=_field(text, ".agpr_count", 0),
        vgpr_spills=_field(text, ".vgpr_spill_count"),
        sgpr_spills=_field(text, ".sgpr_spill_count"),
        scratch=_field(text, ".private_segment_fixed_size"),
        lds=code.lds,
        parameters=tuple(
            parameter
            for name, kind in code.signature.items()
            for path, type in leaves(name, kind)
            for parameter in _passed(path, type)
        ),
        threads=code.warps * target.wave,
    )


def _passed(path: str, type: str) -> list[tuple[str, str]]:
    """(path, Triton's type) of what the kernel takes for one leaf: none of a constexpr, several of a descriptor."""
    if type.startswith("tensordesc"):
        return [(f"{path}.{number}", part) for number, part in enumerate(descriptor_types(type))]
    return [] if type == "constexpr" else [(path, type)]


def _field(assembly: str, name: str, default: int | None = None) -> int:
    """A number of the metadata note at the end of the assembly."""
    found = re.findall(rf"^\s+(?:- )?{re.escape(name)}:\s+(\d+)", assembly, re.M)
    if not found and default is None:
        raise CompileError(f"the code object's metadata has no {name}")
    return int(found[-1]) if found else int(default or 0)


def plan_launches(plan: Plan, sizes: Sizes) -> Iterator[tuple[Node, Launch]]:
    """Every launch of a plan at `sizes`, built on torch's meta device: nothing is allocated and nothing runs."""
    weights = {leaf.leaf: storage for leaf, storage in plan.weights.items()}

    def memory(place: Place) -> Any:
        return weights[place.leaf].load_meta() if place.room == "weight" else empty(place.type, "meta")

    for node, task in build(plan.schedule(sizes), memory).tasks:
        if isinstance(task, Launch):
            yield node, task
