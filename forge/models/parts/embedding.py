"""From tokens to the residual stream, and from there to logits."""

from __future__ import annotations

from forge.graph.ir import Value
from forge.kernels.argmax import argmax
from forge.kernels.embed import embed
from forge.kernels.linear import linear
from forge.kernels.take import take
from forge.models.builder import Builder
from forge.models.parts.norms import norm

TABLE, HEAD = "token_embd.weight", "output.weight"


def embedding(b: Builder, width: int) -> Value:
    """h[T,width]: the rows of the step's tokens in the table [vocab,width]."""
    return embed(b.inputs.tokens, b.weights.matrix(TABLE, b.vocab, width), b.kept, out=b.precision.residual)


def head(b: Builder, h: Value, width: int, eps: float) -> None:
    """The graph's outputs: logits[R,vocab] of the wanted rows of the normed stream, and `ids`, the likeliest tokens.

    Without a matrix of its own the head is the embedding's.
    """
    x = norm(b, "output_norm", take(h, b.inputs.logit_rows), width, eps)
    logits = linear(x, b.weights.matrix(HEAD if b.weights.has(HEAD) else TABLE, b.vocab, width), out="f32")
    b.graph.output("logits", logits)
    b.graph.output("ids", argmax(logits))
