"""logit' = penalized(logit, count in the output, presence in the prompt); counts stay on the device.

For a token with logit l, output count c and s = (c > 0 or in the prompt):
    l <- l / repetition if l > 0 else l * repetition, where s;    l <- l - frequency * c - presence * (c > 0)
Source of the first: arXiv 1909.05858, section 4.1. float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from forge.runtime.request import Request
from forge.runtime.transfer import upload


class TokenCounts:
    """A row of prompt presence and output counts, 5 bytes a vocabulary entry, for each penalized request alone.

    Invariant: the row of a request counts its output tokens; it is made from `Request.tokens` on first use and kept up
    by `count`, until `forget`.
    """

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._row_of: dict[Request, int] = {}
        self._free: list[int] = []
        self._prompt = torch.zeros(0, vocab_size, dtype=torch.bool, device=device)
        self._output = torch.zeros(0, vocab_size, dtype=torch.int32, device=device)

    def __len__(self) -> int:
        return len(self._row_of)

    def rows(self, requests: Sequence[Request]) -> torch.Tensor:
        """The rows of `requests` as an index tensor on the device."""
        rows = [self._row_of[r] if r in self._row_of else self._fill(r) for r in requests]
        return upload(rows, self._prompt.device, torch.int64)

    def penalize(self, logits: torch.Tensor, at: torch.Tensor, rows: torch.Tensor, requests: Sequence[Request]) -> None:
        """Change `logits[at]` in place by the penalties of `requests`, whose counts are at `rows`."""
        penalties = [
            (r.params.repetition_penalty, r.params.frequency_penalty, r.params.presence_penalty) for r in requests
        ]
        repetition, frequency, presence = upload(penalties, logits.device, torch.float32).unsqueeze(-1).unbind(1)
        count = self._output[rows]
        present = count > 0
        old = logits[at]
        new = torch.where(old > 0, old / repetition, old * repetition)
        new = torch.where(present | self._prompt[rows], new, old)
        # 0 * -inf cannot arise: counts and penalties are finite, so a token already excluded stays so.
        logits[at] = new - frequency * count - presence * present

    def count(self, rows: torch.Tensor, ids: torch.Tensor) -> None:
        """Count the sampled `ids` (on the device, -1 for none) in `rows`, which are all different."""
        at = ids.clamp(min=0)
        self._output[rows, at] += (ids >= 0).to(torch.int32)

    def forget(self, request: Request) -> None:
        """Free the row of `request`, if it has one."""
        row = self._row_of.pop(request, None)
        if row is not None:
            self._free.append(row)

    def reset(self) -> None:
        """Free the rows of all requests."""
        self._row_of.clear()
        self._free = list(range(len(self._prompt)))

    def _fill(self, request: Request) -> int:
        if not self._free:
            self._grow()
        row = self._row_of[request] = self._free.pop()
        device = self._prompt.device
        self._prompt[row] = False
        self._prompt[row].index_fill_(0, upload(request.prompt_ids, device, torch.int64), True)
        self._output[row] = 0
        if request.num_output:
            output = upload(request.output_ids, device, torch.int64)
            self._output[row].index_add_(0, output, torch.ones_like(output, dtype=torch.int32))
        return row

    def _grow(self) -> None:
        old = len(self._prompt)
        more = max(4, old)
        self._prompt = torch.cat([self._prompt, self._prompt.new_zeros(more, self._prompt.shape[1])])
        self._output = torch.cat([self._output, self._output.new_zeros(more, self._output.shape[1])])
        self._free.extend(range(old + more - 1, old - 1, -1))
