"""Bytes of a code object, checked before they are believed; and msgpack, in which its metadata is written.

Nothing is sliced or looped over before the bytes it needs are known to be there. What does not fit is a
FileFormatError with the byte offset. Source of msgpack: the MessagePack specification; extension types, which
AMDGPU's metadata never has, are refused.
"""

from __future__ import annotations

import struct
from typing import Any, NoReturn, TypeVar

from forge.errors import FileFormatError

T = TypeVar("T", int, str, list[Any], dict[str, Any])

MAX_DEPTH = 8  # of nested msgpack values; the compiler's notes need 5
_KINDS: dict[type, str] = {int: "number", str: "string", list: "list", dict: "map"}


def malformed(what: str, offset: int) -> NoReturn:
    """Refuse the code object for what stands at `offset`."""
    raise FileFormatError(
        f"the code object is malformed: {what}", where=f"byte {offset}", remedy="compile the kernel again"
    )


def unpack(data: bytes, layout: str, offset: int, what: str) -> tuple[Any, ...]:
    """The fields of `layout` at `offset`; `what` names them in the error."""
    size = struct.calcsize(layout)
    if not 0 <= offset <= len(data) - size:
        malformed(f"{what} needs {size} bytes, the file has {len(data)}", offset)
    return struct.unpack_from(layout, data, offset)


def span(data: bytes, offset: int, size: int, what: str) -> bytes:
    """data[offset : offset + size], whole."""
    if offset + size > len(data):
        malformed(f"{what} needs {size} bytes, the file has {len(data)}", offset)
    return data[offset : offset + size]


def typed(value: object, kind: type[T], what: str, at: int) -> T:
    """`value` if it is of that kind and no negative number."""
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and value < 0):
        malformed(f"{what} is {value!r:.60}, not a {_KINDS[kind]}", at)
    return value


def field(values: dict[str, Any], key: str, kind: type[T], at: int, default: T | None = None) -> T:
    """values[key] of that kind, or the default where one is given and the key is absent."""
    if key not in values and default is not None:
        return default
    return typed(values.get(key), kind, key, at)


def text_of(raw: bytes, at: int) -> str:
    """A name in UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"the code object has a name not in UTF-8: {error}", where=f"byte {at}") from error


class Msgpack:
    """One msgpack value without extension types in data[at:end]; maps have string keys, each once."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self.data, self.at, self.end = data, at, end

    def read(self) -> object:
        """The value, which must fill the span."""
        value = self._value(MAX_DEPTH)
        if self.at != self.end:
            malformed(f"{self.end - self.at} bytes follow the metadata", self.at)
        return value

    def _take(self, layout: str) -> Any:
        size = struct.calcsize(layout)
        return struct.unpack(layout, self._bytes(size))[0]

    def _bytes(self, size: int) -> bytes:
        if size > self.end - self.at:
            malformed(f"the metadata needs {size} bytes more and has {self.end - self.at}", self.at)
        self.at += size
        return self.data[self.at - size : self.at]

    def _value(self, depth: int) -> object:
        if not depth:
            malformed(f"the metadata nests more than {MAX_DEPTH} deep", self.at)
        begin, tag = self.at, self._take("B")
        if tag < 0x80 or tag >= 0xE0:
            return tag if tag < 0x80 else tag - 0x100
        if tag < 0x90 or tag in (0xDE, 0xDF):
            return self._map(tag & 15 if tag < 0x90 else self._take(">H" if tag == 0xDE else ">I"), depth)
        if tag < 0xA0 or tag in (0xDC, 0xDD):
            count = tag & 15 if tag < 0xA0 else self._take(">H" if tag == 0xDC else ">I")
            return [self._value(depth - 1) for _ in range(count)]
        if tag < 0xC0 or tag in (0xD9, 0xDA, 0xDB):
            size = tag & 31 if tag < 0xC0 else self._take({0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}[tag])
            return text_of(self._bytes(size), self.at)
        if tag in (0xC4, 0xC5, 0xC6):
            return self._bytes(self._take({0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}[tag]))
        if tag in _CONSTANTS:
            return _CONSTANTS[tag]
        if tag in _NUMBERS:
            return self._take(_NUMBERS[tag])
        malformed(f"the metadata has a value of type {tag:#x}", begin)

    def _map(self, count: int, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for _ in range(count):
            at, key = self.at, self._value(depth - 1)
            if not isinstance(key, str) or key in found:
                malformed(f"the key {key!r:.60} of a map is no string or comes twice", at)
            found[key] = self._value(depth - 1)
        return found


_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    **{0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q"},
    **{0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"},
}
