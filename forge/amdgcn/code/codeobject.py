"""An AMDGPU code object read from its bytes: machine code, kernel descriptors and arguments, with nothing believed.

A code object is an ELF64 shared object. A note holds a msgpack map that names the kernels and lays out their
arguments; for a kernel `k` the dynamic symbol `k.kd` is the address of its 64-byte descriptor, from which the command
processor sets up a wave. Every offset and length is checked before it is used; what does not fit is a FileFormatError
with the byte offset. Source: LLVM, "User Guide for AMDGPU Backend" (AMDGPUUsage), of code object versions 4 to 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from forge.amdgcn.code.descriptor import Descriptor, read_descriptor
from forge.amdgcn.code.wire import Msgpack, field, malformed, span, text_of, typed, unpack

MACHINES = {  # EF_AMDGPU_MACH, the low byte of the ELF header's flags
    0x3F: "gfx90a",
    0x4C: "gfx942",
    0x4F: "gfx950",
    0x41: "gfx1100",
    0x46: "gfx1101",
    0x47: "gfx1102",
    0x43: "gfx1150",
    0x4A: "gfx1151",
    0x48: "gfx1200",
    0x4E: "gfx1201",
}
PROLOGUE = 256  # bytes before the code that finds its arguments preloaded, for firmware that preloads none
MAX_ZEROS = 1 << 20  # loaded bytes beyond those of the file; Triton's objects have less than a page
MAX_NAME = 1 << 14
MAX_PROGRAMS = 256  # program headers; lld writes 8


@dataclass(frozen=True)
class KernelArgument:
    """One argument: bytes in the kernarg segment, and the metadata's `.value_kind` (global_buffer, by_value, ...)."""

    offset: int
    size: int
    kind: str
    name: str  # "" where the compiler gives none, as Triton does


@dataclass(frozen=True)
class KernelCode:
    """One kernel of a code object. Immutable; addresses are those of the ELF file, which a loader may shift as a whole.

    `lds` is what the code object itself asks for: Triton leaves it 0 and asks at launch (`CodeObject.lds`).
    """

    name: str
    arch: str
    wave: int
    text: bytes  # the executable section the kernel is in
    text_address: int
    entry: int  # of the kernel in `text`
    size: int  # of the kernel's function; after it comes padding
    descriptor: Descriptor
    arguments: tuple[KernelArgument, ...]
    kernarg_size: int
    lds: int
    scratch: int  # of one lane
    vgprs: int
    agprs: int
    sgprs: int
    max_workgroup: int
    required_workgroup: tuple[int, ...] | None  # x, y, z
    rodata: tuple[tuple[int, bytes], ...]  # (address, content) of every loaded segment, code included

    @property
    def preloaded_entry(self) -> int:
        """Where in `text` firmware that preloads arguments begins: past the prologue that loads them otherwise."""
        return self.entry + PROLOGUE if self.descriptor.preload_length else self.entry


def kernels(binary: bytes) -> dict[str, KernelCode]:
    """The kernels of a code object by name. Raises FileFormatError for anything malformed or of an unknown target."""
    return _Object(binary).kernels()


@dataclass(frozen=True)
class _Section:
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int


class _Object:
    """The ELF file: loaded segments, sections, dynamic symbols and the metadata note."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        if data[:6] != b"\x7fELF\2\1":
            malformed("it is no little-endian ELF64 file", 0)
        machine, *_, flags = unpack(data, "<HIQQQI", 18, "the ELF header")
        self.program_table, self.section_table = unpack(data, "<QQ", 32, "the ELF header")
        self.program_entry, self.programs, self.section_entry, self.section_count = unpack(
            data, "<HHHH", 54, "the ELF header"
        )
        if machine != 224 or flags & 0xFF not in MACHINES:
            malformed(f"machine {machine} of model {flags & 0xFF:#x} is none of {', '.join(MACHINES.values())}", 18)
        self.arch = MACHINES[flags & 0xFF]
        self.segments: list[tuple[int, bytes]] = []
        self.loaded = 0  # bytes of all segments
        self.notes: list[tuple[int, int]] = []  # (offset, size)
        self._read_programs()
        self.sections = self._read_sections()
        self.symbols = self._read_symbols()
        executable = [s for s in self.sections if s.flags & 4 and s.type == 1]  # SHF_EXECINSTR, SHT_PROGBITS
        self.code = self._only(executable, "section of code")
        self.text = span(data, self.code.offset, self.code.size, "the code")

    def _read_programs(self) -> None:
        if self.program_entry != 56 or self.programs > MAX_PROGRAMS:
            malformed(f"{self.programs} program headers of {self.program_entry} bytes", 54)
        for index in range(self.programs):
            at = self.program_table + 56 * index
            kind, _, offset, address, _, size, memory, _ = unpack(self.data, "<IIQQQQQQ", at, "a program header")
            if kind == 1:  # PT_LOAD
                self.loaded += memory
                if memory < size or self.loaded > len(self.data) + MAX_ZEROS:
                    malformed(f"a segment of {size} bytes takes {memory} in memory", at)
                content = span(self.data, offset, size, "a segment")
                self.segments.append((address, content + bytes(memory - size)))
            elif kind == 4:  # PT_NOTE
                span(self.data, offset, size, "the notes")
                self.notes.append((offset, size))

    def _read_sections(self) -> list[_Section]:
        if self.section_entry != 64:
            malformed(f"section headers of {self.section_entry} bytes", 58)
        found = []
        for index in range(self.section_count):
            at = self.section_table + 64 * index
            header = unpack(self.data, "<IIQQQQI", at, "a section header")
            section = _Section(*header[1:])
            if section.type != 8:  # SHT_NOBITS has no bytes
                span(self.data, section.offset, section.size, "a section")
            found.append(section)
        return found

    def _read_symbols(self) -> dict[str, tuple[int, int]]:
        """(address, size) of each dynamic symbol."""
        found: dict[str, tuple[int, int]] = {}
        table = self._only([s for s in self.sections if s.type == 11], "table of dynamic symbols")  # SHT_DYNSYM
        if table.link >= len(self.sections) or self.sections[table.link].type != 3:  # SHT_STRTAB
            malformed(f"the symbols' names are in section {table.link}, which is no string table", table.offset)
        names = self.sections[table.link]
        for at in range(table.offset, table.offset + table.size - 23, 24):
            name, _, _, _, address, size = unpack(self.data, "<IBBHQQ", at, "a symbol")
            begin, limit = names.offset + name, names.offset + names.size
            end = self.data.find(b"\0", begin, min(limit, begin + MAX_NAME))
            if end < 0:
                malformed("a symbol's name does not end", at)
            found[text_of(self.data[begin:end], begin)] = address, size
        return found

    @staticmethod
    def _only(sections: list[_Section], what: str) -> _Section:
        if len(sections) != 1:
            malformed(f"it has {len(sections)} times a {what}, not once", 0)
        return sections[0]

    def _metadata(self) -> tuple[dict[str, Any], int]:
        """The map in the note that AMDGPU owns, type 32 (NT_AMDGPU_METADATA), and its offset."""
        for offset, size in self.notes:
            at, end = offset, offset + size
            while at + 12 <= end:
                name_size, content_size, kind = unpack(self.data, "<III", at, "a note")
                content = at + 12 + name_size + -name_size % 4
                if content + content_size > end:
                    malformed(f"a note of {name_size} and {content_size} bytes does not fit its segment", at)
                if kind == 32 and self.data[at + 12 : at + 12 + name_size] == b"AMDGPU\0":
                    reader = Msgpack(self.data, content, content + content_size)
                    return typed(reader.read(), dict, "the metadata", content), content
                at = content + content_size + -content_size % 4
        malformed("no note holds the metadata of its kernels", 0)

    def kernels(self) -> dict[str, KernelCode]:
        metadata, at = self._metadata()
        target = field(metadata, "amdhsa.target", str, at)
        if target.rsplit("-", 1)[-1].split(":")[0] != self.arch:
            malformed(f"the ELF header says {self.arch}, the metadata {target}", at)
        found: dict[str, KernelCode] = {}
        for entry in field(metadata, "amdhsa.kernels", list, at):
            kernel = self._kernel(typed(entry, dict, "a kernel's metadata", at), at)
            if kernel.name in found:
                malformed(f"two kernels are called {kernel.name}", at)
            found[kernel.name] = kernel
        return found

    def _kernel(self, meta: dict[str, Any], at: int) -> KernelCode:
        name, symbol = field(meta, ".name", str, at), field(meta, ".symbol", str, at)
        if symbol not in self.symbols or name not in self.symbols:
            malformed(f"kernel {name} has no symbols {name} and {symbol}", at)
        address = self.symbols[symbol][0]
        descriptor = read_descriptor(self._loaded(address, 64, f"{name}'s descriptor"), self.arch, at)
        entry = address + descriptor.entry_offset - self.code.address
        arguments = tuple(_argument(a, descriptor.kernarg_size, at) for a in field(meta, ".args", list, at, []))
        for key, stated in (
            (".kernarg_segment_size", descriptor.kernarg_size),
            (".group_segment_fixed_size", descriptor.lds),
            (".private_segment_fixed_size", descriptor.scratch),
            (".wavefront_size", descriptor.wave),
        ):
            if field(meta, key, int, at) != stated:
                malformed(f"{name}'s metadata has {meta[key]} for {key}, its descriptor {stated}", at)
        required = field(meta, ".reqd_workgroup_size", list, at, [])
        kernel = KernelCode(
            name=name,
            arch=self.arch,
            wave=descriptor.wave,
            text=self.text,
            text_address=self.code.address,
            entry=entry,
            size=self.symbols[name][1],
            descriptor=descriptor,
            arguments=arguments,
            kernarg_size=descriptor.kernarg_size,
            lds=descriptor.lds,
            scratch=descriptor.scratch,
            vgprs=field(meta, ".vgpr_count", int, at),
            agprs=field(meta, ".agpr_count", int, at, 0),
            sgprs=field(meta, ".sgpr_count", int, at),
            max_workgroup=field(meta, ".max_flat_workgroup_size", int, at),
            required_workgroup=tuple(typed(n, int, ".reqd_workgroup_size", at) for n in required) or None,
            rodata=tuple(self.segments),
        )
        end = entry + kernel.size
        if (self.code.address + entry) % 256 or entry < 0 or not kernel.preloaded_entry < end <= len(self.text):
            malformed(f"{name}'s {kernel.size} bytes of code at {entry} do not fit the {len(self.text)}", at)
        return kernel

    def _loaded(self, address: int, size: int, what: str) -> bytes:
        for begin, content in self.segments:
            if begin <= address and address + size <= begin + len(content):
                return content[address - begin : address - begin + size]
        malformed(f"{what} at address {address:#x} is in no segment", 0)


def _argument(entry: object, kernarg_size: int, at: int) -> KernelArgument:
    meta = typed(entry, dict, "an argument's metadata", at)
    offset, size = field(meta, ".offset", int, at), field(meta, ".size", int, at)
    if offset + size > kernarg_size:
        malformed(f"an argument of {size} bytes at {offset} is beyond the {kernarg_size} bytes of arguments", at)
    return KernelArgument(offset, size, field(meta, ".value_kind", str, at), field(meta, ".name", str, at, ""))
