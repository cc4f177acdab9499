"""Requests, pages, scheduling, sampling: feeds tokens to a `Runner`. Knows no Triton and no model."""
