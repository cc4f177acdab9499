"""Special tokens found in a text before the rest is split into words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType

_WHITE_SPACE = " \t\n\v\f\r"


class Strip(Enum):
    """On which side of a special token its white space is swallowed."""

    BEFORE = "before"
    AFTER = "after"


NO_STRIPS: Mapping[int, Strip] = MappingProxyType({})


def partition(
    text: str, specials: Iterable[tuple[str, int]], strips: Mapping[int, Strip] = NO_STRIPS
) -> list[str | int]:
    """`text` as plain pieces and the ids of the specials between them; no piece is empty.

    `specials` take the text in their order, the longest first, as llama.cpp does: a token that is part of a longer
    one is found only outside of it. Those in `strips` also swallow the white space on one side of them.
    """
    pieces: list[str | int] = [text] if text else []
    for special, token in specials:
        if special not in text:
            continue
        found: list[str | int] = []
        for piece in pieces:
            if isinstance(piece, int) or special not in piece:
                found.append(piece)
                continue
            parts, side = piece.split(special), strips.get(token)
            for i, plain in enumerate(parts):
                if i:
                    found.append(token)
                if side is Strip.AFTER and i:
                    plain = plain.lstrip(_WHITE_SPACE)
                if side is Strip.BEFORE and i < len(parts) - 1:
                    plain = plain.rstrip(_WHITE_SPACE)
                if plain:
                    found.append(plain)
        pieces = found
    return pieces
