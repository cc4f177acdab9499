"""Text of strangers as it may be shown: what steers a terminal or hides in a line becomes an escape."""

from __future__ import annotations

import re

# Control characters of C0 (but for newline and tab) and C1, marks that turn the direction of writing, line separators,
# characters without width that join nothing, tags, and halves of surrogate pairs.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    """`text` with each such character written as Python writes it: \\x1b, \\u202e, \\U000e0041."""
    return _HIDDEN.sub(lambda found: _escaped(found[0]), text)


def visible_in_json(document: str) -> str:
    """The same for a JSON document, in whose strings alone such characters can stand: \\u001b, \\u202e."""
    return _HIDDEN.sub(lambda found: _units(found[0]), document)


def one_line(text: str) -> str:
    """`visible` for a cell of a table: newlines and tabs are escaped, too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _units(character: str) -> str:
    raw = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{raw[i : i + 2].hex()}" for i in range(0, len(raw), 2))
