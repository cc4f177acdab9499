"""Every step on several models at once: how far their logits lie apart, whatever the engine makes of them."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import torch

from forge.lower.sizes import padded
from forge.runtime.params import SamplingParams

CLEAR = 0.05  # between two logits: more than rounding moves them


class Lockstep:
    """A Runner that launches each batch on three models, of which the first answers.

    `bits` counts the logits of `same` that are not the first's to the last bit, `wrong` the rows whose likeliest id
    clearly differs from that of `near`, and `kl` is the mean KL from it. `seen` counts decoding steps by T.
    """

    def __init__(self, model, same, near):
        self.model, self.others = model, (same, near)
        self.turn = threading.Lock()
        self._bits, self._wrong, self._kl = (torch.zeros((), dtype=torch.float64, device=model.device) for _ in "012")
        self.rows, self.longest, self.seen = 0, 0, Counter()

    def __getattr__(self, name):
        return getattr(self.model, name)

    def launch(self, batch):
        first, same, near = (m.launch(batch) for m in (self.model, *self.others))
        self._bits += (first.logits.view(torch.int32) != same.logits.view(torch.int32)).sum()
        self._bits += (first.ids != same.ids).sum()
        p, q = near.logits.double().log_softmax(-1), first.logits.double().log_softmax(-1)
        self._kl += (p.exp() * (p - q)).sum()
        top = near.logits.topk(2).values
        self._wrong += ((top[:, 0] - top[:, 1] > CLEAR) & (first.ids != near.ids)).sum()
        self.rows += len(first.ids)
        self.longest = max(self.longest, int(batch.context_len.max()))
        if (batch.query_len == 1).all():
            sizes = {"T": len(batch.tokens), "S": len(batch.query_len), "R": len(batch.logit_rows)}
            self.seen[padded(sizes, self.plan.bounds)["T"] if self.device.type == "cuda" else sizes["T"]] += 1
        return first

    @property
    def bits(self):
        return int(self._bits)

    @property
    def wrong(self):
        return int(self._wrong)

    @property
    def kl(self):
        return float(self._kl) / self.rows

    def _each(name):
        def call(self, *args):
            for model in (self.model, *self.others):
                getattr(model, name)(*args)

        return call

    keep, copy_pages, change_slots = map(_each, ("keep", "copy_pages", "change_slots"))


def traffic(engine, steps, most, longest, hold=20, seed=0):
    """Step an engine while sequences join and leave at random, so that 1 to `most` run, each power of two in turn.

    The oldest stays till it ends, so that contexts grow to up to `longest` tokens. In the end all have gone.
    """
    rng, live, levels = np.random.default_rng(seed), [], []
    for step in range(steps):
        if step % hold == 0:
            levels = levels or rng.permutation(most.bit_length()).tolist()
            top = min(most, 1 << levels.pop())
            wanted = int(rng.integers(top // 2 + 1, top + 1))
        while len(live) < wanted:
            prompt = rng.integers(3, 100, int(rng.integers(1, 24))).tolist()
            length = longest - len(prompt) if step == 0 else int(rng.integers(1, longest - len(prompt)))
            live.append(engine.add(prompt, SamplingParams(temperature=0, max_tokens=length, ignore_eos=True)))
        while len(live) > wanted:
            engine.cancel(live.pop(int(rng.integers(1, len(live)))))
        for output in engine.step():
            if output.finished and output.request_id in live:
                live.remove(output.request_id)
            assert output.outputs[0].finish_reason in (None, "length", "abort"), output.outputs[0].error
    for name in live:
        engine.cancel(name)
    while engine.has_work:
        engine.step()
