"""GPT-2's alphabet: one printable character for each byte, so that byte-level BPE can be written as text.

A byte that is printable in Latin-1 stands for itself; the other 68 are U+0100, U+0101, ... in order.
Source: Radford et al. 2019, the encoder published with GPT-2.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


def _alphabet() -> list[str]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [b for b in range(256) if b not in printable]
    return [chr(b if b in printable else 0x100 + hidden.index(b)) for b in range(256)]


CHARACTER_OF: tuple[str, ...] = tuple(_alphabet())
BYTE_OF: Mapping[str, int] = MappingProxyType({c: b for b, c in enumerate(CHARACTER_OF)})
