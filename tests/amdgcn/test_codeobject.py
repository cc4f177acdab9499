"""Code objects against what the assembler says of them in words: its directives, its metadata, its listing."""

from __future__ import annotations

import gc
import random
import re
import time
from functools import cache

import pytest

from forge.amdgcn.code.codeobject import KernelCode, kernels
from forge.amdgcn.code.descriptor import Descriptor, instruction_set, read_descriptor
from forge.amdgcn.code.listing import Line, listing
from forge.amdgcn.code.wire import Msgpack
from forge.errors import FileFormatError
from forge.language import interpreted
from forge.lower.launch import Launch
from forge.lower.offline import CodeObject, compile_launch
from forge.target import AMD_VERIFIED, TARGETS
from forge.verify import build, operands, serving

compiled_tier = [pytest.mark.compile, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]

# The descriptor's fields as the assembler's directives call them, `.amdhsa_` left out.
DIRECTIVES = {
    "lds": "group_segment_fixed_size",
    "scratch": "private_segment_fixed_size",
    "kernarg_size": "kernarg_size",
    "float_round_32": "float_round_mode_32",
    "float_round_16_64": "float_round_mode_16_64",
    "float_denorm_32": "float_denorm_mode_32",
    "float_denorm_16_64": "float_denorm_mode_16_64",
    "dx10_clamp": "dx10_clamp",
    "ieee_mode": "ieee_mode",
    "fp16_overflow": "fp16_overflow",
    "workgroup_processor": "workgroup_processor_mode",
    "memory_ordered": "memory_ordered",
    "forward_progress": "forward_progress",
    "user_sgpr_count": "user_sgpr_count",
    "workgroup_id_x": "system_sgpr_workgroup_id_x",
    "workgroup_id_y": "system_sgpr_workgroup_id_y",
    "workgroup_id_z": "system_sgpr_workgroup_id_z",
    "workgroup_info": "system_sgpr_workgroup_info",
    "workitem_id": "system_vgpr_workitem_id",
    "accum_offset": "accum_offset",
    "threadgroup_split": "tg_split",
    "shared_vgprs": "shared_vgpr_count",
    "dispatch_ptr": "user_sgpr_dispatch_ptr",
    "queue_ptr": "user_sgpr_queue_ptr",
    "kernarg_segment_ptr": "user_sgpr_kernarg_segment_ptr",
    "dispatch_id": "user_sgpr_dispatch_id",
    "private_segment_size": "user_sgpr_private_segment_size",
    "dynamic_stack": "uses_dynamic_stack",
}
OPTIONAL = {
    "private_segment_buffer": "user_sgpr_private_segment_buffer",
    "flat_scratch_init": "user_sgpr_flat_scratch_init",
    "preload_length": "user_sgpr_kernarg_preload_length",
    "preload_offset": "user_sgpr_kernarg_preload_offset",
}


@cache
def cases(arch: str) -> dict:
    """The first case of each kernel; of gfx90a one without bf16, whose matrix instructions tinygrad's decoder lacks."""
    every = list(serving(TARGETS[arch]))
    if arch == "gfx90a":
        every.sort(key=lambda found: any(t and t.dtype.name == "bf16" for t in found[3].types))
    return {kernel.id: (op, case, kernel, call) for op, case, kernel, call in reversed(every)}


@cache
def objects(arch: str, kernel: str) -> tuple[CodeObject, ...]:
    op, case, kernel, call = cases(arch)[kernel]
    _, steps, _ = build(kernel, call, operands(op, case, "meta"), "meta")
    return tuple(compile_launch(s, TARGETS[arch]) for s in steps if isinstance(s, Launch))


@pytest.fixture
def without_collector():
    """Python's garbage collector, which walks all of torch for 0.1 s, is not counted as the reader's time."""
    gc.disable()
    yield
    gc.enable()


def each_kernel(test):
    both = [(arch, kernel) for arch in AMD_VERIFIED for kernel in cases(arch)]
    for mark in compiled_tier:
        test = mark(test)
    return pytest.mark.parametrize(("arch", "kernel"), both)(test)


def directives(assembly: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"\.amdhsa_(\w+) (\d+)$", assembly, re.M)}


def assert_as_directed(found: Descriptor, stated: dict[str, int]) -> None:
    for name, directive in DIRECTIVES.items():
        value = getattr(found, name)
        assert value == stated.get(directive), f"{name} is {value}; .amdhsa_{directive} {stated.get(directive)}"
    for name, directive in OPTIONAL.items():
        assert getattr(found, name) == stated.get(directive, 0), name
    assert found.wave == (32 if stated.get("wavefront_size32") else 64)
    scratch = stated.get("enable_private_segment", stated.get("system_sgpr_private_segment_wavefront_offset"))
    assert found.private_segment == scratch
    granule = 8  # both of a wave64 on CDNA and of a wave32 on RDNA
    assert found.vgprs == max(-(-stated["next_free_vgpr"] // granule) * granule, granule)
    if found.sgprs is not None:
        assert 0 <= found.sgprs - stated["next_free_sgpr"] < 16 + 6  # VCC, XNACK and FLAT_SCRATCH come on top
    exceptions = [value for name, value in stated.items() if name.startswith("exception_")]
    assert found.exceptions == sum(bit << n for n, bit in enumerate(exceptions))
    assert found.user_sgprs()[0][0] in ("private_segment_buffer", "dispatch_ptr", "queue_ptr", "kernarg_segment_ptr")


@each_kernel
def test_the_descriptor_says_what_the_directives_say(arch, kernel):
    for compiled in objects(arch, kernel):
        found = kernels(compiled.binary)[compiled.name].descriptor
        assert_as_directed(found, directives(compiled.assembly))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("arch", AMD_VERIFIED)
@pytest.mark.compile
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
def test_the_descriptor_of_random_directives(arch, seed):
    """LLVM's assembler is given directives that no kernel of ours has, and the linked object says them back."""
    from triton.backends.amd.compiler import HIPBackend
    from triton.backends.compiler import GPUTarget

    rng = random.Random(f"{arch} {seed}")
    (compiled,) = objects(arch, "add.add_flat")

    def directive(match: re.Match) -> str:
        name, value = match[1], int(match[2])
        if name.startswith(("exception_", "system_sgpr_", "user_sgpr_dispatch", "user_sgpr_queue", "enable_private")):
            value = rng.randrange(2)
        elif name.endswith(("_mode", "_clamp", "_stack", "_overflow", "_ordered", "_progress", "_split", "t_size")):
            value = value if name.startswith(("group", "private")) or "kernarg" in name else rng.randrange(2)
        elif name.startswith("float_"):
            value = rng.randrange(4)
        elif name == "system_vgpr_workitem_id":
            value = rng.randrange(3)
        elif name == "user_sgpr_kernarg_preload_length":
            value = rng.randrange(1, 3)
        elif name == "user_sgpr_kernarg_preload_offset":
            value = rng.randrange(4)
        elif name == "next_free_vgpr":
            value = rng.randrange(40, 256)
        elif name == "accum_offset":
            value = 4 * rng.randrange(1, 11)
        elif name == "user_sgpr_count":
            value = 16
        return f".amdhsa_{name} {value}"

    text = re.sub(r"\.amdhsa_(\w+) (\d+)$", directive, compiled.assembly, flags=re.M)
    chosen = directives(text)
    backend = HIPBackend(GPUTarget("hip", arch, TARGETS[arch].wave))
    binary = backend.make_hsaco(text, {}, backend.parse_options({"arch": arch}))
    assert_as_directed(kernels(binary)["_add"].descriptor, chosen)


@each_kernel
def test_the_kernel_says_what_the_metadata_says(arch, kernel):
    for compiled in objects(arch, kernel):
        found = kernels(compiled.binary)[compiled.name]
        text = compiled.assembly.split("amdhsa.kernels:")[1]
        numbers = {name: int(value) for name, value in re.findall(r"^ {2,4}(?:- )?(\.\w+): +(\d+)$", text, re.M)}
        assert (found.arch, found.wave) == (arch, numbers[".wavefront_size"])
        assert (found.vgprs, found.sgprs) == (numbers[".vgpr_count"], numbers[".sgpr_count"])
        assert found.agprs == numbers.get(".agpr_count", 0) == compiled.agprs
        assert found.max_workgroup == numbers[".max_flat_workgroup_size"]
        assert (found.lds, found.scratch, found.kernarg_size) == tuple(
            numbers[f".{name}_size"] for name in ("group_segment_fixed", "private_segment_fixed", "kernarg_segment")
        )
        arguments = re.findall(r"\.offset: +(\d+)\n +\.size: +(\d+)\n +\.value_kind: +(\w+)$", text, re.M)
        assert [(a.offset, a.size, a.kind) for a in found.arguments] == [(int(o), int(s), k) for o, s, k in arguments]
        assert arguments


@each_kernel
def test_user_sgprs_are_where_the_code_looks_for_them(arch, kernel):
    """The prologue that a kernel with preloaded arguments has loads them into the same registers, by the pointer."""
    for compiled in objects(arch, kernel):
        found = kernels(compiled.binary)[compiled.name]
        places, first = {}, 0
        for name, size in (*found.descriptor.user_sgprs(), *found.descriptor.system_sgprs()):
            places[name], first = first, first + size
        assert sum(size for _, size in found.descriptor.user_sgprs()) == found.descriptor.user_sgpr_count
        code = listing(compiled.assembly, compiled.name)
        pointer = places["kernarg_segment_ptr"]
        loads = [line for line in code if re.match(rf"s_load_\w+ s\S+ s\[{pointer}:{pointer + 1}\], 0x", line.text)]
        assert loads
        if length := found.descriptor.preload_length:
            place, loaded = places["kernarg_preload"], {}
            for line in code[: [line.mnemonic for line in code].index("s_branch")]:
                if load := re.match(r"s_load_\w+ s\[?(\d+)(?::(\d+)\])?, s\S+ (\w+)", line.text):
                    last = int(load[2] or load[1])
                    loaded |= {n: int(load[3], 0) + 4 * (n - int(load[1])) for n in range(int(load[1]), last + 1)}
            offset = found.descriptor.preload_offset
            assert loaded == {place + n: 4 * (offset + n) for n in range(length)}
        if found.descriptor.workgroup_ids_in_ttmp:
            assert "workgroup_id_x" not in places
            assert any("ttmp9" in line.text for line in code)
        else:
            register = re.compile(rf"\bs{places['workgroup_id_x']}\b")
            assert any(register.search(line.text) for line in code)


@each_kernel
def test_the_listing_has_the_instructions_of_the_binary(arch, kernel):
    """Walked with a decoder that is not ours, the last instruction of the listing ends where the function does."""
    import tinygrad.renderer.amd as decode
    from tinygrad.runtime.autogen.amd.rdna3.ins import MUBUF
    from tinygrad.runtime.autogen.amd.rdna4.ins import VBUFFER

    for name, missing in (("rdna3", MUBUF), ("rdna4", VBUFFER)):  # described, but not in the decoder's own list
        if missing not in decode._load_formats()[name]:
            decode._load_formats()[name].insert(0, missing)
    for compiled in objects(arch, kernel):
        found = kernels(compiled.binary)[compiled.name]
        lines, pc, padded = listing(compiled.assembly, compiled.name), found.entry, False
        for line in lines:
            if line.mnemonic.startswith(".p2align "):
                boundary = 1 << int(line.mnemonic.split()[1])
                pc, padded = -(-pc // boundary) * boundary, True
                continue
            instruction = decode.decode_inst(found.text[pc : pc + 16], instruction_set(arch))
            assert ("::" in line.mnemonic) == (type(instruction).__name__.startswith("VOPD")), line
            pc += instruction.size()
        assert pc == found.entry + found.size
        assert lines[-1].mnemonic == "s_endpgm"
        assert padded == (found.preloaded_entry != found.entry)
        commented = set(re.findall(r"\.loc.*; (\S+\.py:[1-9]\d*):\d+", compiled.assembly))  # the printer's own words
        sources = {line.source for line in lines} - {""}
        assert sources and sources <= commented
        assert len(sources) > len(commented) * 0.5  # some lines have no instruction of their own


@pytest.mark.parametrize("arch", ["gfx1101", "gfx1102", "gfx1150", "gfx1200"])
@pytest.mark.compile
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
def test_other_architectures_are_known_by_their_numbers(arch):
    (compiled,) = objects(arch, "add.add_flat")
    assert kernels(compiled.binary)["_add"].arch == arch


@pytest.mark.parametrize("arch", AMD_VERIFIED)
@pytest.mark.compile
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
def test_hostile_bytes_are_refused_or_read(arch, without_collector):
    (compiled,) = objects(arch, "add.add_flat")
    whole = compiled.binary
    rng = random.Random(3)
    hostile = [(f"the first {n} bytes", whole[:n]) for n in range(0, len(whole), 16)]
    for _ in range(300):
        at, bit = rng.randrange(len(whole)), rng.randrange(1, 256)
        hostile.append((f"byte {at} ^ {bit}", whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :]))
    for _ in range(300):  # where the structure is: ELF header, program headers, note, symbols; section headers
        at = rng.choice([rng.randrange(0x640), rng.randrange(len(whole) - 64 * 21, len(whole))])
        word = rng.choice([b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f", b"\xdf\xff\xff\xff\xff", b"\x91" * 8])
        hostile.append((f"{word.hex()} at {at}", whole[:at] + word + whole[at + len(word) :]))
    refused = 0
    for what, data in hostile:
        begin = time.process_time()
        try:
            for found in kernels(data).values():
                assert isinstance(found, KernelCode)
                assert 0 <= found.entry <= found.preloaded_entry < len(found.text)
        except FileFormatError as error:
            refused += 1
            assert error.where, what
        assert time.process_time() - begin < 0.05, what
    assert refused > len(whole) // 16  # every truncation at the least: the section headers are at the end


@pytest.mark.compile
@pytest.mark.skipif(interpreted(), reason="this is the interpreted run")
def test_statements_that_disagree_are_refused():
    (compiled,) = objects("gfx1100", "add.add_flat")
    whole = compiled.binary
    changes = {
        "the ELF header says gfx942": whole[:48] + b"\x4c" + whole[49:],
        "machine 224 of model 0x99": whole[:48] + b"\x99" + whole[49:],
        "for .kernarg_segment_size": whole.replace(b".kernarg_segment_size\x38", b".kernarg_segment_size\x37"),
        "beyond the 56 bytes of arguments": whole.replace(b".offset\x30", b".offset\x31"),
        "has no symbols": whole.replace(b".symbol\xa7_add.kd", b".symbol\xa7_odd.kd"),
        "no note holds the metadata": whole.replace(b"AMDGPU\0", b"AMDCPU\0"),
        "is True, not a number": whole.replace(b".kernarg_segment_size\x38", b".kernarg_segment_size\xc3"),
        "does not fit its segment": whole[:0x204] + b"\xff\xff" + whole[0x206:],  # the note's size
        "65535 program headers": whole[:56] + b"\xff\xff" + whole[58:],
        "a segment needs": whole[: 64 + 56 + 8] + b"\xff\xff\xff\x7f" + whole[64 + 56 + 12 :],  # its offset
        "name does not end": whole.replace(b"\0_add\0_add.kd\0", b"\0_add\0_add.kd!", 1),
        "comes twice": whole.replace(b".sgpr_count", b".vgpr_count"),
    }
    for message, data in changes.items():
        assert data != whole
        with pytest.raises(FileFormatError, match=message):
            kernels(data)


@pytest.mark.null
@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("00", 0), ("7f", 127), ("ff", -1), ("e0", -32), ("cc80", 128), ("cdffff", 65535), ("ce00010000", 65536),
        ("cf" + "ff" * 8, 2**64 - 1), ("d080", -128), ("d1ff00", -256), ("d2ffff0000", -65536), ("d3" + "ff" * 8, -1),
        ("ca3fc00000", 1.5), ("cb3ff8000000000000", 1.5), ("c0", None), ("c2", False), ("c3", True),
        ("a0", ""), ("a3616263", "abc"), ("d903616263", "abc"), ("da0003616263", "abc"), ("db00000003616263", "abc"),
        ("c4020001", b"\0\1"), ("c500020001", b"\0\1"), ("c6000000020001", b"\0\1"),
        ("90", []), ("9201a162", [1, "b"]), ("dc000101", [1]), ("dd0000000101", [1]),
        ("80", {}), ("81a16101", {"a": 1}), ("de0001a16101", {"a": 1}), ("df00000001a16101", {"a": 1}),
    ],
)  # fmt: skip
def test_msgpack_by_its_specification(data, value):
    raw = bytes.fromhex(data)
    got = Msgpack(raw, 0, len(raw)).read()
    assert (type(got), got) == (type(value), value)


@pytest.mark.null
@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "needs 1 bytes more and has 0"),
        ("c1", "type 0xc1"),
        ("d40100", "type 0xd4"),
        ("91", "needs 1 bytes"),
        ("a2ff", "needs 2 bytes"),
        ("a1ff", "not in UTF-8"),
        ("0000", "1 bytes follow"),
        ("8101", "the key 1 "),
        ("82a16101a16102", "the key 'a' "),
        ("91" * 9 + "00", "nests more than 8 deep"),
        ("ddffffffff00", "needs 1 bytes"),
    ],
)
def test_msgpack_refuses(data, why):
    raw = bytes.fromhex(data)
    with pytest.raises(FileFormatError, match=why):
        Msgpack(raw, 0, len(raw)).read()


def descriptor(arch: str, *, rsrc1=0, rsrc2=0, rsrc3=0, properties=0, preload=0) -> Descriptor:
    words = [0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, rsrc3, rsrc1, rsrc2, properties | preload << 16, 0]
    return read_descriptor(b"".join(w.to_bytes(4, "little") for w in words), arch, 0)


@pytest.mark.null
def test_user_and_system_sgprs_in_the_order_of_the_abi():
    everything = descriptor("gfx90a", rsrc2=1 | 20 << 1 | 15 << 7, properties=0x7F, preload=4 | 2 << 7)
    assert everything.user_sgprs() == (
        ("private_segment_buffer", 4),
        ("dispatch_ptr", 2),
        ("queue_ptr", 2),
        ("kernarg_segment_ptr", 2),
        ("dispatch_id", 2),
        ("flat_scratch_init", 2),
        ("private_segment_size", 1),
        ("kernarg_preload", 4),
        ("unused", 1),
    )
    assert [name for name, _ in everything.system_sgprs()] == [
        "workgroup_id_x",
        "workgroup_id_y",
        "workgroup_id_z",
        "workgroup_info",
        "private_segment_wave_offset",
    ]
    assert everything.preload_offset == 2
    later = descriptor("gfx1201", rsrc2=1 | 2 << 1 | 15 << 7, properties=8)
    assert later.workgroup_ids_in_ttmp and later.system_sgprs() == (("workgroup_info", 1),)
    with pytest.raises(FileFormatError, match="enables 6 user SGPRs and counts 5"):
        descriptor("gfx942", rsrc2=5 << 1, properties=0xE)
    with pytest.raises(FileFormatError, match="preloads beyond the 64 bytes"):
        descriptor("gfx942", rsrc2=18 << 1, preload=17)


TEXT = """\
\t.file\t1 "/a/b" "kernel.py"
other:
\ts_nop 0
.Lfunc_end0:
mine:                                   ; @mine
.Lfunc_begin1:
\t.cfi_startproc
\ts_nop 1
\t.loc\t1 46 7 is_stmt 1                 ; kernel.py:46:7
\ts_branch .LBB1_1                        ; ends here
\t.loc\t1 0 0
\t.p2align\t8
.LBB1_1:                                ; %loop
\tv_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4,  v5
\t.file\t2 "device.py"
\t.loc\t2 9 0
\t;;#ASMSTART
\tv_dot4_i32_iu8 v0, v1,\tv2, v3 neg_lo:[1,1,0]
\t;;#ASMEND
.Lfunc_end1:
\ts_nop 9
"""


@pytest.mark.null
def test_a_listing():
    assert listing(TEXT, "mine") == (
        Line("s_nop", "s_nop 1", ""),
        Line("s_branch", "s_branch .LBB1_1", "kernel.py:46"),
        Line(".p2align 8", ".p2align 8", ""),
        Line("v_dual_add_f32::v_dual_mul_f32", "v_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v3, v4, v5", ""),
        Line("v_dot4_i32_iu8", "v_dot4_i32_iu8 v0, v1, v2, v3 neg_lo:[1,1,0]", "device.py:9"),
    )
    with pytest.raises(FileFormatError, match="no whole function absent"):
        listing(TEXT, "absent")
    with pytest.raises(FileFormatError, match="no whole function mine"):
        listing(TEXT.replace(".Lfunc_end1:", ""), "mine")
    with pytest.raises(FileFormatError, match=r"among its instructions: \.long 5"):
        listing(TEXT.replace("s_nop 1", ".long 5"), "mine")
    with pytest.raises(FileFormatError, match="names no file 2"):
        listing(TEXT.replace('.file\t2 "device.py"', ""), "mine")
