"""Lists of numbers in flags."""

from __future__ import annotations

import argparse
from collections.abc import Sequence


def counts(text: str) -> Sequence[int]:
    """Numbers of tokens or sequences: "512" or "512,2048"."""
    parts = text.split(",")
    if not all(p.isascii() and p.isdigit() and int(p) < 1 << 24 for p in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 512,2048")
    return tuple(map(int, parts))
