"""Triton functions that the bodies of several ops share: tiles of weights, the online softmax."""
