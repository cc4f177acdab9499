"""Special tokens found in a text before the rest is split into words."""

from __future__ import annotations

from collections.abc import Collection, Iterable

_WHITE_SPACE = " \t\n\v\f\r"


def partition(text: str, specials: Iterable[tuple[str, int]], strip_after: Collection[int] = ()) -> list[str | int]:
    """`text` as plain pieces and the ids of the specials between them; no piece is empty.

    `specials` take the text in their order, the longest first, as llama.cpp does: a token that is part of a longer
    one is found only outside of it. Those in `strip_after` also swallow the white space that follows them.
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
            for i, plain in enumerate(piece.split(special)):
                if i:
                    found.append(token)
                    if token in strip_after:
                        plain = plain.lstrip(_WHITE_SPACE)
                if plain:
                    found.append(plain)
        pieces = found
    return pieces
