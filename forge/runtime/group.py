"""A request as the user knows it: n samples of one prompt, reported together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forge.errors import ForgeError
from forge.runtime.completion import Completion
from forge.runtime.output import CompletionOutput, RequestOutput
from forge.runtime.params import RequestOutputKind, SamplingParams


@dataclass(slots=True, eq=False)
class Group:
    """n samples, of which `unborn` wait for the prompt to be computed by the first one."""

    id: str
    prompt: str | None
    prompt_ids: list[int]
    params: SamplingParams
    completions: list[Completion]
    unborn: list[Completion]

    @property
    def finished(self) -> bool:
        return all(c.request.finished for c in self.completions)

    def output(self, changed: Sequence[Completion]) -> RequestOutput | None:
        """What to report after samples have changed; None where only the end is told, and has not come."""
        kind = self.params.output_kind
        if kind is RequestOutputKind.FINAL_ONLY and not self.finished:
            return None
        delta = kind is RequestOutputKind.DELTA
        shown = sorted(changed, key=lambda c: c.request.index) if delta else self.completions
        samples = [completion.output(delta=delta) for completion in shown]
        return RequestOutput(self.id, self.prompt, self.prompt_ids, samples, self.finished)

    def failed(self, error: ForgeError) -> RequestOutput:
        """What to report where `output` itself fails: that all has ended, and why."""
        samples = [
            CompletionOutput(c.request.index, "", [], None, None, "error", None, error) for c in self.completions
        ]
        return RequestOutput(self.id, self.prompt, self.prompt_ids, samples, True)
