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


def pair(text: str) -> tuple[int, int]:
    """Tokens of a prompt and tokens after it: "512,128", both at least 1."""
    try:
        prompt, gen = counts(text)
    except (argparse.ArgumentTypeError, ValueError):
        prompt = gen = 0
    if not prompt or not gen:
        raise argparse.ArgumentTypeError(f"{text!r} is no pair such as 512,128: a prompt's tokens, and those after it")
    return prompt, gen
