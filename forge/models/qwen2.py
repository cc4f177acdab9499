"""Qwen 2 and 2.5 (dense)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forge.graph.types import TensorType
from forge.models.architecture import Architecture, Hyperparameters
from forge.models.decoder import Config, build_decoder
from forge.models.keys import read_decoder

TINY: Mapping[str, Any] = {
    "block_count": 2, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
    "attention.head_count": 2, "attention.head_count_kv": 1, "attention.layer_norm_rms_epsilon": 1e-6,
    "rope.freq_base": 1000000.0,
}  # fmt: skip


def configure(hyper: Hyperparameters, tensors: Mapping[str, TensorType]) -> Config:
    """Rotates halves; q, k and v carry biases."""
    return read_decoder(hyper, tensors, pairs="neox", qkv_bias=True, qk_norm=False)


qwen2 = Architecture("qwen2", configure, build_decoder, TINY)
