"""Measuring what Forge does: time of models and ops beside the target's roofline, and distance from other engines.

Nothing here prints; `forge bench` shows what it returns.
"""
