"""Log probabilities of sampled and likeliest tokens, before any penalty or filter: queued, and collected later."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from forge.runtime.output import Logprob
from forge.runtime.request import Request
from forge.runtime.transfer import Download, upload


class Logprobs:
    """Those of the rows `asking`, of logits[R, V] and the sampled ids[R]; one copy to the host for all."""

    def __init__(
        self, logits: torch.Tensor, ids: torch.Tensor, requests: Sequence[Request], asking: Sequence[int]
    ) -> None:
        self._counts = {i: requests[i].params.logprobs or 0 for i in asking}
        self._most = max(self._counts.values())
        at = upload(asking, logits.device, torch.int64)
        log = torch.log_softmax(logits[at], -1)
        sampled = log.gather(-1, ids[at].clamp(min=0)[:, None])
        rank = (log > sampled).sum(-1, keepdim=True) + 1
        top, top_ids = log.topk(self._most, -1)
        # float64 holds every id.
        columns = [ids[at][:, None].double(), sampled.double(), rank.double(), top.double(), top_ids.double()]
        self._table = Download(torch.cat(columns, -1))

    def collect(self) -> dict[int, dict[int, Logprob]]:
        """By row: the sampled token, then the likeliest ones."""
        most, found = self._most, {}
        for (i, count), row in zip(self._counts.items(), self._table.wait().tolist(), strict=True):
            ordered = enumerate(zip(row[3 + most : 3 + most + count], row[3 : 3 + count], strict=True), 1)
            likeliest = {int(token): Logprob(value, place) for place, (token, value) in ordered}
            found[i] = {int(row[0]): Logprob(row[1], int(row[2]))}
            found[i].update((token, entry) for token, entry in likeliest.items() if token not in found[i])
        return found
