"""The sizes of steps: one list, to which steps are padded on a GPU, and which is looked at and compiled ahead.

T tokens are padded to a power of two up to 64, and beyond to quarters of one (80, 96, 112, 128, 160, ...), so that at
most a quarter more is computed. S sequences are padded to 1, 4, 16, ... or to as many as the step could have: T of
them, which is decoding, or the most. R rows of logits are padded to one a sequence, or to as many as there could be.
At 2048 tokens and 64 sequences there are 99 sets of sizes; at 512 and 16 there are 53.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

Sizes = Mapping[str, int]

DENSE = 64  # tokens up to which sizes are powers of two
FEW = 4  # sequences beside prefill are counted in powers of this


def tokens(most: int, seqs: int = 1) -> tuple[int, ...]:
    """The sizes of T up to `most`, ascending; `seqs` is one of them, so that a full decoding step is not padded."""
    found = {most, min(seqs, most)}
    size = 1
    while size < most:
        quarters = range(size, 2 * size, size // 4) if size >= DENSE else (size,)
        found.update(q for q in quarters if q < most)
        size *= 2
    return tuple(sorted(found))


def planned(bounds: Mapping[str, int]) -> tuple[Sizes, ...]:
    """Every set of sizes that steps of a graph are padded to, smallest first; `bounds` are its symbols' maxima.

    A graph may lack some of T, S and R. Any other symbol takes the sizes of T as well, up to its own bound.
    """
    steps = dict.fromkeys(tuple(sorted(sizes.items())) for sizes in _steps(bounds))
    return tuple(dict(step) for step in steps)


def decoding(sizes: Sizes) -> bool:
    """Whether a step is so small that its launches, not its work, are what takes time."""
    return _three(sizes)[0] <= DENSE


def padded(sizes: Sizes, bounds: Mapping[str, int]) -> Sizes:
    """The least planned sizes that hold `sizes`, which are within `bounds`."""
    t, s, r = _three(sizes)
    most_t, most_s, most_r = _three(bounds)
    width = next(n for n in tokens(most_t, most_s) if n >= t)
    choices = _sequences(width, most_s)
    seqs = next((n for n in choices if n >= s), most_s)
    rows = min(seqs, most_r)
    if r > rows:
        seqs, rows = choices[-1], min(width, most_r)
    return {n: v for n, v in {"T": width, "S": seqs, "R": rows}.items() if n in sizes}


def _steps(bounds: Mapping[str, int]) -> Iterator[Sizes]:
    most_t, most_s, most_r = _three(bounds)
    for size in tokens(max([most_t, *(b for n, b in bounds.items() if n not in "SR")]), most_s):
        width = min(size, most_t)
        pairs = [(n, min(n, most_r)) for n in _sequences(width, most_s)]
        for seqs, rows in (*pairs, (pairs[-1][0], min(width, most_r))):
            yield {n: {"T": width, "S": seqs, "R": rows}.get(n, min(size, bound)) for n, bound in bounds.items()}


def _three(sizes: Sizes) -> tuple[int, int, int]:
    """T, S and R; of a graph that has no T, as many tokens as its largest symbol counts."""
    return sizes.get("T", max(sizes.values(), default=1)), sizes.get("S", 1), sizes.get("R", 1)


def _sequences(width: int, most: int) -> tuple[int, ...]:
    """The sizes of S in a step of `width` tokens, ascending."""
    last, size = min(width, most), 1
    found = []
    while size < last:
        found.append(size)
        size *= FEW
    return (*found, last)
