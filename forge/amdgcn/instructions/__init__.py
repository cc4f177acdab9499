"""What instructions do to waves, by what they are: `alu`, memory `access`, `matrices`, `lanes`, `control`.

Each has `bind(instruction, arch, ...)`: a function on `Waves`, or None if the instruction is not of that sort. It looks
at the instruction once, so that running it costs only the NumPy that it needs. `operands` and `dpp` read and write
registers for them.
"""
