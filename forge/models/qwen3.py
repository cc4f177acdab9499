"""Qwen 3 (dense)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forge.graph.types import TensorType
from forge.models.architecture import Architecture, Hyperparameters
from forge.models.decoder import Config, build_decoder
from forge.models.keys import read_decoder

TINY: Mapping[str, Any] = {
    "block_count": 2, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-6,
    "attention.key_length": 32, "attention.value_length": 32, "rope.freq_base": 1000000.0,
}  # fmt: skip


def configure(hyper: Hyperparameters, tensors: Mapping[str, TensorType]) -> Config:
    """Rotates halves; each head of q and k passes an RMS norm before that, and nothing has a bias."""
    return read_decoder(hyper, tensors, pairs="neox", qkv_bias=False, qk_norm=True)


qwen3 = Architecture("qwen3", configure, build_decoder, TINY)
