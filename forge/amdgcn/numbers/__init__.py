"""Numbers as AMD's hardware has them, on arrays: rounding, fused sums, NaN rules, and the narrow formats."""
