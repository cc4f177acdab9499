"""What a model holds in its device's memory: given back when it or its LLM is closed, and changed in place."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

import forge
from forge.errors import RequestError
from forge.language import interpreted
from forge.runtime import transfer

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(interpreted(), reason="this is the interpreted run")]


def test_closing_frees_what_was_loaded_and_cancels_what_runs():
    made = forge.LLM(target="cpu", context=64, max_seqs=2)
    left = made.stream("x = ", forge.SamplingParams(max_tokens=40, ignore_eos=True))
    next(left)
    loaded = [weakref.ref(tensor) for tensor in made.model.load().states.values()]
    made.close()
    gc.collect()
    assert made.engine.pool.used == 0 and not made.engine.has_work
    assert loaded and all(tensor() is None for tensor in loaded)
    with pytest.raises(RequestError, match="closed"):
        next(left)


def test_what_was_released_is_loaded_anew():
    model = forge.compile(forge.api.DEFAULT_MODEL, target="cpu", context=64, max_seqs=1)
    before, first = model.logits([5, 6, 7]), weakref.ref(model.load())
    model.release()
    model.release()
    assert first() is None and torch.equal(model.logits([5, 6, 7]), before)


def test_pages_are_copied_in_all_layers_by_indices_that_are_uploaded_once(monkeypatch):
    """From pinned memory: from pageable memory the device would be waited for, and once a layer."""
    uploads, upload = [], transfer.upload
    monkeypatch.setattr(transfer, "upload", lambda *args: uploads.append(args) or upload(*args))
    model = forge.compile(forge.api.DEFAULT_MODEL, target="cpu", context=64, max_seqs=1)
    states = model.load().states
    layers = [states[leaf.name] for leaf in model.graph.states("pages")]
    for layer in layers:
        layer[:] = torch.arange(layer.shape[1])[None, :, None, None, None]
    model.copy_pages([(0, 1), (3, 2)])
    for layer in layers:
        assert (layer[:, :, 0, 0, 0] == torch.tensor([0, 0, 3, 3])).all()
    assert len(layers) == 6 and len(uploads) == 1
