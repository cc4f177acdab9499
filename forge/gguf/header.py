"""The header of one GGUF file: metadata and tensor extents, each checked against the bytes that are there.

Layout (little-endian): magic "GGUF", u32 version, u64 tensor count, u64 metadata count, the metadata, the tensor
infos, zero padding to `general.alignment`, then the tensors' data. Versions 2 and 3 differ only in byte order marks.

Source: the GGUF specification (ggml's `docs/gguf.md`); block sizes from `forge.graph.types.DTYPES`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from gguf.constants import GGUFValueType

from forge.errors import FileFormatError, UnsupportedError
from forge.gguf.wire import DAMAGED, MAX_KEY_BYTES, Bytes, Cursor, format_error
from forge.graph.types import DTYPES, DType, TensorType

MAX_NAME_BYTES = 64  # the specification's limit on a tensor's name
MAX_DIMS = 4
MAX_ELEMENTS = 1 << 62  # far beyond any file; keeps byte counts within what NumPy can index
DEFAULT_ALIGNMENT = 32
_CONVERT = "convert the model to GGUF, with llama.cpp's convert_hf_to_gguf.py"
_OTHERS = {  # what other files begin with, and what to do about them
    b"vers": "this is a pointer of Git LFS: fetch the file itself, with git lfs pull",
    b"<": "this is a web page: the download needs another address, or a login",
    b"PK": _CONVERT,
    b"\x80": _CONVERT,
    b"{": _CONVERT,
    b"gg": _CONVERT,
    b"\x1f\x8b": "unpack it",
    b"\x28\xb5\x2f\xfd": "unpack it",
}


Stamp = tuple[int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    """What tells a file from a changed one: which it is, its bytes, and when it was last written."""
    return status.st_ino, status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class GGUFTensor:
    """A tensor of a model file: its type, and its bytes as a read-only view on the map, in the file's own layout."""

    name: str
    type: TensorType
    data: Bytes
    path: Path
    offset: int
    """Byte offset of `data` in the file `path`."""
    stamp: Stamp | None = None
    """Of the file when it was opened; None for a tensor that is in no file, but made in memory."""


@dataclass(frozen=True)
class Header:
    """What one file holds: metadata in file order, and tensors in file order."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: tuple[GGUFTensor, ...]


def read_header(path: Path) -> Header:
    """Map the file and read its header. Raises FileFormatError or UnsupportedError; see the module's text."""
    data, stamp = _map(path)
    cursor = Cursor(path, data)
    tensor_count, metadata_count = _read_preamble(cursor)
    metadata = _read_metadata(cursor, metadata_count)
    alignment = _alignment(cursor, metadata)
    types = {d.gguf: d for d in DTYPES.values() if d.gguf is not None}
    infos = [_read_info(cursor, i, alignment, types) for i in range(tensor_count)]
    start = -(-cursor.position // alignment) * alignment
    return Header(path, MappingProxyType(metadata), _place(cursor, data, infos, start, stamp))


def _map(path: Path) -> tuple[Bytes, Stamp]:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            what = "directory" if stat.S_ISDIR(status.st_mode) else "device or a pipe"
            raise format_error(
                f"a GGUF file was expected, and this is a {what}", path, remedy="name the .gguf file itself"
            )
        if status.st_size == 0:
            raise format_error("the file is empty", path, 0)
        # NumPy closes the map when its last view dies, so a tensor outlives the GGUFFile that found it.
        mapped = np.memmap(path, dtype=np.uint8, mode="r")
    except FileNotFoundError as bad:
        address = re.match(r"[a-z][a-z0-9+.-]*:/", str(path))  # of https://..., a Path has one of the two slashes
        remedy = "download it first: Forge reads files, not addresses" if address else "check the path"
        raise FileFormatError("there is no such file", where=str(path), remedy=remedy) from bad
    except PermissionError as bad:
        raise FileFormatError("the file may not be read", where=str(path), remedy="get the right to read it") from bad
    except (OSError, ValueError) as bad:  # ValueError: a NUL in the path
        raise FileFormatError(f"the file cannot be read: {bad}", where=str(path), remedy="check the path") from bad
    return mapped.view(np.ndarray), stamp_of(status)


def _read_preamble(cursor: Cursor) -> tuple[int, int]:
    magic = cursor.raw(4, "the magic")
    if magic == b"FUGG":
        raise _big_endian(cursor)
    if magic != b"GGUF":
        remedy = next((r for start, r in _OTHERS.items() if magic.startswith(start)), DAMAGED)
        what = f"the file starts with {magic!r}; a GGUF file starts with b'GGUF'"
        raise format_error(what, cursor.path, 0, remedy)
    version = cursor.u32("the version")
    if version and version & 0xFFFF == 0:
        raise _big_endian(cursor)
    if version not in (2, 3):
        raise UnsupportedError(
            f"GGUF version {version}; Forge reads versions 2 and 3",
            where=f"{cursor.path}, byte 4",
            remedy="convert the model again with a current converter",
        )
    tensor_count, metadata_count = cursor.u64("the tensor count"), cursor.u64("the metadata count")
    # The least a tensor info and a metadata entry can occupy, all strings being empty.
    least = tensor_count * 24 + metadata_count * 13
    cursor.require(least, f"a header of {tensor_count} tensors and {metadata_count} metadata entries", 8)
    cursor.claim("tensors", tensor_count, "its count", 8)
    cursor.claim("metadata entries", metadata_count, "its count", 16)
    return tensor_count, metadata_count


def _big_endian(cursor: Cursor) -> UnsupportedError:
    return UnsupportedError(
        "the file is big-endian; Forge reads little-endian GGUF",
        where=f"{cursor.path}, byte 0",
        remedy="swap its byte order with the gguf package's gguf-convert-endian",
    )


def _read_metadata(cursor: Cursor, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for i in range(count):
        start = cursor.position
        key = cursor.string(f"the key of metadata entry {i}", MAX_KEY_BYTES)
        shown = f"{key!r:.100}"
        if key in metadata:
            raise cursor.error(f"the metadata key {shown} stands twice", start)
        kind = cursor.u32(f"the value type of {shown}")
        metadata[key] = cursor.value(kind, f"the value of {shown}")
        if key == "general.alignment" and kind != GGUFValueType.UINT32:
            raise cursor.error("general.alignment must be a 32-bit unsigned integer", start)
    return metadata


def _alignment(cursor: Cursor, metadata: Mapping[str, Any]) -> int:
    alignment: int = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if alignment < 1 or alignment & (alignment - 1):
        raise cursor.error(f"general.alignment is {alignment}, which is not a power of two")
    return alignment


def _read_info(
    cursor: Cursor, index: int, alignment: int, types: Mapping[int, DType]
) -> tuple[str, TensorType, int, int]:
    """One tensor info: (name, type, offset in the data section, place of the info for error messages)."""
    start = cursor.position
    name = cursor.string(f"the name of tensor {index}", MAX_NAME_BYTES)
    what = f"tensor {name!r}"
    rank = cursor.u32(f"the rank of {what}")
    if rank > MAX_DIMS:
        raise cursor.error(f"{what} has {rank} dimensions; the format allows {MAX_DIMS}", start)
    dims = [cursor.u64(f"the shape of {what}") for _ in range(rank)]
    ggml_type = cursor.u32(f"the type of {what}")
    offset = cursor.u64(f"the offset of {what}")

    shape = tuple(reversed(dims))  # GGUF names the fastest axis first, Forge last
    if not all(0 < d < MAX_ELEMENTS for d in dims) or prod(dims) > MAX_ELEMENTS:
        raise cursor.error(f"{what} has the impossible shape {shape}", start)
    dtype = types.get(ggml_type)
    if dtype is None:
        known = ", ".join(sorted(d.name for d in types.values()))
        raise UnsupportedError(
            f"{what} has ggml type {ggml_type}, which Forge does not know",
            where=f"{cursor.path}, byte {start}",
            remedy=f"requantize the model to one of: {known}",
        )
    row = shape[-1] if shape else 1
    if row % dtype.block:
        raise cursor.error(f"{what} has rows of {row}, which do not fill whole blocks of {dtype.block} {dtype}", start)
    if offset % alignment:
        raise cursor.error(f"{what} lies at offset {offset}, which is not a multiple of {alignment}", start)
    return name, TensorType(shape, dtype), offset, start


def _place(
    cursor: Cursor, data: Bytes, infos: list[tuple[str, TensorType, int, int]], start: int, stamp: Stamp
) -> tuple[GGUFTensor, ...]:
    """Views of the tensors' bytes, once every extent is known to lie in the file and apart from the others."""
    seen: set[str] = set()
    extents: list[tuple[int, int, str, int]] = []
    for name, kind, offset, place in infos:
        if name in seen:
            raise cursor.error(f"the tensor {name!r} stands twice", place)
        seen.add(name)
        begin, end = start + offset, start + offset + kind.nbytes
        if end > cursor.size:
            raise cursor.error(
                f"tensor {name!r}, {kind}, needs bytes {begin} to {end}, but the file has {cursor.size}", place
            )
        extents.append((begin, end, name, place))
    extents.sort()
    for (_, end, first, _), (begin, _, second, place) in pairwise(extents):
        if begin < end:
            raise cursor.error(f"the tensors {first!r} and {second!r} overlap at byte {begin}", place)
    return tuple(
        GGUFTensor(name, kind, data[start + offset : start + offset + kind.nbytes], cursor.path, start + offset, stamp)
        for name, kind, offset, _ in infos
    )
