"""GGUF keys that decoder architectures have in common, read into a `Config`.

Source of the names and defaults: the GGUF specification (`docs/gguf.md` of ggml) and llama.cpp's reading of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from forge.errors import FileFormatError, UnsupportedError
from forge.graph.types import TensorType
from forge.models.architecture import Hyperparameters
from forge.models.decoder import Config
from forge.models.parts.rotary import Rope

# Keys of other families which would change what these compute, with the value at which they do nothing.
NEUTRAL: Mapping[str, tuple[object, str]] = {
    "attention.causal": (True, "attention that is not causal"),
    "attention.clamp_kqv": (0.0, "clamping of q, k and v"),
    "attention.max_alibi_bias": (0.0, "ALiBi"),
    "attn_logit_softcapping": (0.0, "soft-capped attention"),
    "final_logit_softcapping": (0.0, "soft-capped logits"),
    "logit_scale": (1.0, "scaled logits"),
    "residual_scale": (1.0, "a scaled residual"),
    "embedding_scale": (1.0, "scaled embeddings"),
    "use_parallel_residual": (False, "a parallel residual"),
    "pooling_type": (0, "pooling"),
}


def read_decoder(
    hyper: Hyperparameters, tensors: Mapping[str, TensorType], *, pairs: str, qkv_bias: bool, qk_norm: bool
) -> Config:
    """The configuration of a decoder from its metadata and tensor types."""
    for key, (neutral, what) in NEUTRAL.items():
        hyper.refuse(key, neutral, what)
    width, heads = hyper.size("embedding_length"), hyper.size("attention.head_count")
    kv_heads = hyper.size("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise FileFormatError(f"{heads} heads cannot share {kv_heads} heads of keys and values")
    head_width = hyper.size("attention.key_length", max(1, width // heads))
    if hyper.size("attention.value_length", head_width) != head_width:
        raise UnsupportedError(f"values of another width than keys ({head_width}) in {hyper.architecture}")
    table = tensors.get("token_embd.weight")
    if table is None or table.rank != 2:
        raise FileFormatError("the tensor token_embd.weight is missing or no matrix", remedy="convert the model again")
    if table.concrete()[1] != width:
        raise FileFormatError(f"token_embd.weight is {table}; {hyper.architecture}.embedding_length says {width}")
    return Config(
        architecture=hyper.architecture,
        layers=hyper.size("block_count"),
        width=width,
        feed_forward=hyper.size("feed_forward_length"),
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        vocab=table.concrete()[0],
        context=hyper.size("context_length"),
        eps=hyper.get("attention.layer_norm_rms_epsilon", float),
        rope=_rope(hyper, pairs, head_width),
        window=hyper.get("attention.sliding_window", int, 0),
        scale=hyper.get("attention.scale", float, 0.0),
        qkv_bias=qkv_bias,
        qk_norm=qk_norm,
        tensors=dict(tensors),
    )


def _rope(hyper: Hyperparameters, pairs: str, head_width: int) -> Rope:
    """Rotary embedding and its scaling: none, linear or YaRN; llama.cpp's defaults."""
    dims = hyper.size("rope.dimension_count", head_width)
    if dims % 2 or dims > head_width:
        raise FileFormatError(f"rope.dimension_count is {dims} in heads of {head_width}")
    scaling = hyper.get("rope.scaling.type", str, "none")
    factor = hyper.get("rope.scaling.factor", float, hyper.get("rope.scale_linear", float, 1.0))
    if scaling == "none" and factor != 1.0:
        scaling = "linear"  # files from before rope.scaling.type
    if scaling not in ("none", "linear", "yarn"):
        raise UnsupportedError(f"RoPE scaling {scaling!r} in {hyper.architecture}", remedy="none, linear or yarn")
    return Rope(
        pairs=pairs,
        dims=dims,
        base=hyper.get("rope.freq_base", float, 10000.0),
        scaling=scaling,
        factor=factor,
        original_context=hyper.get("rope.scaling.original_context_length", int, hyper.size("context_length")),
        ext_factor=hyper.get("rope.scaling.yarn_ext_factor", float, 1.0),
        attn_factor=hyper.get(
            "rope.scaling.attn_factor", float, hyper.get("rope.scaling.yarn_attn_factor", float, 1.0)
        ),
        beta_fast=hyper.get("rope.scaling.yarn_beta_fast", float, 32.0),
        beta_slow=hyper.get("rope.scaling.yarn_beta_slow", float, 1.0),
    )
