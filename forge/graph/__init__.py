"""The op graph: types, nodes, ops, passes. Pure Python; imports neither torch nor triton."""
