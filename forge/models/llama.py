"""Llama 1 to 3 and Mistral 7B, whose files bear the name llama."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forge.graph.types import TensorType
from forge.models.architecture import Architecture, Hyperparameters
from forge.models.decoder import Config, build_decoder
from forge.models.keys import read_decoder

TINY: Mapping[str, Any] = {
    "block_count": 2, "context_length": 128, "embedding_length": 64, "feed_forward_length": 96,
    "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.dimension_count": 32, "attention.key_length": 32, "attention.value_length": 32,
}  # fmt: skip


def configure(hyper: Hyperparameters, tensors: Mapping[str, TensorType]) -> Config:
    """Rotates neighbouring pairs. Some conversions carry biases on q, k and v; experts are refused."""
    hyper.refuse("expert_count", 0, "a mixture of experts")
    hyper.refuse("expert_used_count", 0, "a mixture of experts")
    bias = "blk.0.attn_q.bias" in tensors
    return read_decoder(hyper, tensors, pairs="norm", qkv_bias=bias, qk_norm=False)


llama = Architecture("llama", configure, build_decoder, TINY)
