"""Every architecture, on a small random instance: chunks agree, tensors are used, keys are read or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from architectures.tiny import VOCAB, tensors_of, tiny_model

from forge.bench.parity import Chunk, batch_of, evaluated_logits, mean_kl, scattered_pages
from forge.errors import FileFormatError, UnsupportedError
from forge.graph.types import tensor
from forge.language import interpreted
from forge.models import architecture, load

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]
IDS = (np.arange(40) * 7 % VOCAB).astype(np.int32)
EXACT = 1e-9  # mean KL between two orders of the same f32 arithmetic

# Metadata that change the mathematics of any of them.
VARIANTS = {
    "as its file says": {},
    "linear scaling": {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    "yarn": {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16},
    "a window": {"attention.sliding_window": 9},
    "half the dims": {"rope.dimension_count": 16},
    "another scale": {"attention.scale": 0.5},
}
UNREAD = {("smollm3", "a window")}  # keys that an architecture has no use for


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", load())
def test_the_plan_computes_what_the_graph_says_in_any_chunks(name, variant):
    keys = {**architecture(name).tiny, **VARIANTS[variant]}
    if (name, variant) in UNREAD:
        with pytest.raises(UnsupportedError, match="does not know"):
            tiny_model(name, keys)
        return
    model = tiny_model(name, keys)
    exact = evaluated_logits(model, IDS)
    assert mean_kl(exact, model.logits(IDS)) < EXACT
    for chunk in (1, 7):
        assert mean_kl(exact, model.logits(IDS, chunk)) < EXACT
    if variant != "as its file says":
        plain = evaluated_logits(tiny_model(name, architecture(name).tiny), IDS)
        assert mean_kl(plain, exact) > 1e-5, "the key changes nothing"


@pytest.mark.parametrize("name", load())
def test_eight_sequences_in_a_step_are_eight_alone(name):
    model = tiny_model(name, architecture(name).tiny)
    lengths = [1, 5, 3, 8, 2, 7, 4, 6]
    prompts = [(IDS[:n] + 3 * i) % VOCAB for i, n in enumerate(lengths)]
    chunks = [Chunk(i, 0, p.astype(np.int32)) for i, p in enumerate(prompts)]
    together = model.launch(batch_of(model, chunks, scattered_pages(model, 8, seed=1))).logits.clone()
    alone = torch.cat([model.logits(p) for p in prompts])
    assert mean_kl(alone, together) < EXACT


@pytest.mark.parametrize("name", load())
def test_a_tied_head_is_the_embedding(name):
    keys = architecture(name).tiny
    model = tiny_model(name, keys, tensors_of(name, keys, optional=()))
    assert model.graph.outputs["logits"].node.inputs[1].node.name == "token_embd.weight"
    assert mean_kl(evaluated_logits(model, IDS), model.logits(IDS)) < EXACT


def test_llama_3_s_frequency_factors_are_used():
    keys = architecture("llama").tiny
    plain = tensors_of("llama", keys)
    model = tiny_model("llama", keys, tensors_of("llama", keys, optional=("output.weight", "rope_freqs.weight")))
    exact = evaluated_logits(model, IDS)
    assert mean_kl(exact, model.logits(IDS, 7)) < EXACT
    assert mean_kl(exact, evaluated_logits(tiny_model("llama", keys, plain), IDS)) > 1e-5


@pytest.mark.parametrize("name", load())
def test_what_is_not_understood_is_refused(name):
    keys, tensors = architecture(name).tiny, tensors_of(name, architecture(name).tiny)
    for key, value in {
        "attention.gate": 1.0,
        "expert_count": 8,
        "rope.scaling.type": "longrope",
        "logit_scale": 2.0,
    }.items():
        with pytest.raises(UnsupportedError):
            tiny_model(name, {**keys, key: value})
    with pytest.raises(UnsupportedError, match="nothing uses"):
        tiny_model(name, keys, tensors | {"blk.0.attn_gate.weight": tensor("f32", 4)})
    for missing in ("blk.1.ffn_up.weight", "output_norm.weight"):
        with pytest.raises(FileFormatError, match=missing):
            tiny_model(name, keys, {n: t for n, t in tensors.items() if n != missing})
    for key in ("block_count", "attention.head_count", "attention.layer_norm_rms_epsilon"):
        with pytest.raises(FileFormatError, match=key):
            tiny_model(name, {k: v for k, v in keys.items() if k != key}, tensors)
