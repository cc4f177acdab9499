"""A cursor over the bytes of a GGUF header that checks every length before it is believed.

The rule: nothing is allocated, sliced or looped over before the bytes it needs are known to lie inside the file. A
length that does not fit is a `FileFormatError` with the offset of the length itself. And whatever the file's size, a
header may hold only so much of each kind (`LIMITS`), so that it is read within a second and 200 MB.

Source: the GGUF specification (ggml's `docs/gguf.md`), with the value types of the `gguf` package.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gguf.constants import GGUFValueType

from forge.errors import FileFormatError

Bytes = npt.NDArray[np.uint8]

_SCALARS: dict[int, struct.Struct] = {
    GGUFValueType.UINT8: struct.Struct("<B"),
    GGUFValueType.INT8: struct.Struct("<b"),
    GGUFValueType.UINT16: struct.Struct("<H"),
    GGUFValueType.INT16: struct.Struct("<h"),
    GGUFValueType.UINT32: struct.Struct("<I"),
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.UINT64: struct.Struct("<Q"),
    GGUFValueType.INT64: struct.Struct("<q"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
    GGUFValueType.FLOAT64: struct.Struct("<d"),
}
_U64 = struct.Struct("<Q")

MAX_KEY_BYTES = 65535  # the specification's limit on a metadata key
MAX_STRING_BYTES = 1 << 22  # of one string; the longest chat template known has 32 KB
MAX_ARRAY_DEPTH = 4  # no known file nests arrays at all; the bound keeps a hostile one from deep recursion
LIMITS: dict[str, int] = {  # beside what the largest files have
    "metadata entries": 1 << 14,  # 100
    "tensors": 1 << 14,  # 2,000
    "arrays in arrays": 1 << 12,  # none
    "strings": 5 << 18,  # 780,000: 262,000 tokens and 515,000 merges
    "bytes of text": 3 << 23,  # 10 million
    "numbers in arrays": 1 << 21,  # 800,000: types and scores of 262,000 tokens, and a character map
}


class Cursor:
    """Reads little-endian values of one header in order. Invariant: 0 <= position <= size of the file.

    One thread uses it, once; it holds views of the map and copies only what becomes a Python value.
    """

    def __init__(self, path: Path, data: Bytes) -> None:
        self.path = path
        self.position = 0
        self._data = data
        self._view = data.data
        self._held = dict.fromkeys(LIMITS, 0)

    @property
    def size(self) -> int:
        return len(self._view)

    @property
    def remaining(self) -> int:
        return len(self._view) - self.position

    def error(self, what: str, offset: int | None = None) -> FileFormatError:
        return format_error(what, self.path, self.position if offset is None else offset)

    def require(self, nbytes: int, what: str, offset: int | None = None) -> None:
        """Refuse unless `nbytes` more bytes exist; the error names `offset`, where the claim was made."""
        if nbytes > self.remaining:
            raise self.error(f"{what} needs {nbytes} bytes, but the file ends after {self.remaining} more", offset)

    def claim(self, kind: str, count: int, what: str, offset: int | None = None) -> None:
        """Count what the header holds of a `kind`; refuse beyond its limit, before it is read."""
        self._held[kind] += count
        if self._held[kind] > LIMITS[kind]:
            raise self.error(
                f"{what} brings the header to {self._held[kind]} {kind}; Forge reads {LIMITS[kind]}", offset
            )

    def raw(self, nbytes: int, what: str) -> bytes:
        self.require(nbytes, what)
        taken = bytes(self._view[self.position : self.position + nbytes])
        self.position += nbytes
        return taken

    def scalar(self, kind: int, what: str) -> Any:
        """One number, boolean or string of value type `kind`."""
        if kind == GGUFValueType.STRING:
            return self.string(what)
        if kind == GGUFValueType.BOOL:
            start = self.position
            value = self.raw(1, what)[0]
            if value > 1:
                raise self.error(f"{what} is the boolean byte {value}, which is neither 0 nor 1", start)
            return bool(value)
        layout = _SCALARS.get(kind)
        if layout is None:
            raise self.error(f"{what} has the unknown value type {kind}")
        self.require(layout.size, what)
        value = layout.unpack_from(self._view, self.position)[0]
        self.position += layout.size
        return value

    def u32(self, what: str) -> int:
        return int(self.scalar(GGUFValueType.UINT32, what))

    def u64(self, what: str) -> int:
        return int(self.scalar(GGUFValueType.UINT64, what))

    def string(self, what: str, limit: int = MAX_STRING_BYTES) -> str:
        """A string: u64 length, then that many bytes of UTF-8."""
        start = self.position
        length = self.u64(f"the length of {what}")
        self.require(length, what, start)
        if length > limit:
            raise self.error(f"{what} is {length} bytes long; the limit is {limit}", start)
        self.claim("bytes of text", length, what, start)
        text = self.raw(length, what)
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as bad:
            raise self.error(f"{what} is not UTF-8", start + 8 + bad.start) from bad

    def value(self, kind: int, what: str, depth: int = 0) -> Any:
        """A metadata value: a scalar, a list of strings or of lists, or a read-only array of numbers."""
        if kind != GGUFValueType.ARRAY:
            return self.scalar(kind, what)
        start = self.position
        if depth == MAX_ARRAY_DEPTH:
            raise self.error(f"{what} nests arrays more than {MAX_ARRAY_DEPTH} deep")
        item = self.u32(f"the item type of {what}")
        count = self.u64(f"the length of {what}")
        if item == GGUFValueType.STRING:
            return self._strings(count, what, start)
        if item == GGUFValueType.ARRAY:
            self.require(count * 12, f"{what} ({count} items)", start)
            self.claim("arrays in arrays", count, what, start)
            return [self.value(item, f"{what}[{i}]", depth + 1) for i in range(count)]
        return self._numbers(item, count, what, start)

    def _strings(self, count: int, what: str, start: int) -> list[str]:
        # A tokenizer holds 400,000 strings: this loop is the header's cost, so it keeps its state in locals.
        self.require(count * 8, f"{what} ({count} items)", start)
        self.claim("strings", count, what, start)
        view, end, at, length_at = self._view, self.size, self.position, _U64.unpack_from
        found: list[str] = []
        longest = at + 8 * count + LIMITS["bytes of text"] - self._held["bytes of text"]
        for i in range(count):
            if at + 8 > end:
                raise self.error(f"the file ends inside {what}, before item {i} of {count}", at)
            (length,) = length_at(view, at)
            stop = at + 8 + length
            if stop > end:
                raise self.error(f"{what}[{i}] needs {length} bytes, but the file has {end - at - 8} more", at)
            if length > MAX_STRING_BYTES or stop > longest:
                raise self.error(f"{what}[{i}] of {length} bytes is more than the bytes of text that Forge reads", at)
            try:
                found.append(str(view[at + 8 : stop], "utf-8"))
            except UnicodeDecodeError as bad:
                raise self.error(f"{what}[{i}] is not UTF-8", at + 8 + bad.start) from bad
            at = stop
        self.claim("bytes of text", at - self.position - 8 * count, what, start)
        self.position = at
        return found

    def _numbers(self, item: int, count: int, what: str, start: int) -> npt.NDArray[Any]:
        boolean = item == GGUFValueType.BOOL
        layout = _SCALARS[GGUFValueType.UINT8] if boolean else _SCALARS.get(item)
        if layout is None:
            raise self.error(f"{what} has items of the unknown value type {item}", start)
        nbytes = count * layout.size
        self.require(nbytes, f"{what} ({count} items)", start)
        self.claim("numbers in arrays", count, what, start)
        octets = self._data[self.position : self.position + nbytes]
        if boolean and count and octets[bad := int(np.argmax(octets > 1))] > 1:
            raise self.error(f"{what}[{bad}] is neither 0 nor 1", self.position + bad)
        self.position += nbytes
        return octets.copy().view(np.bool_ if boolean else np.dtype(layout.format))


DAMAGED = "download or convert the file again; its size and checksum should match its source's"


def format_error(what: str, path: Path, offset: int | None = None, remedy: str = DAMAGED) -> FileFormatError:
    """The error of a malformed model file, with its place."""
    return FileFormatError(
        what,
        where=str(path) if offset is None else f"{path}, byte {offset}",
        remedy=remedy,
    )
