"""What instructions do to the state, by what they are: arithmetic, memory, matrices, lanes, control."""
