"""Instructions written by hand: where the packaged pseudocode is wrong, silent about the hardware, or far too slow.

Each function's parameters are its inputs; its docstring says why it is here. Names are those of all families.
"""

from forge.amdgcn.pseudocode.by_hand import division, floats, integers, scaled

BY_HAND = {**division.by_hand, **floats.by_hand, **integers.by_hand, **scaled.by_hand}

__all__ = ["BY_HAND"]
