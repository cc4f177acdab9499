"""The inbox: requests and cancellations from any thread, taken up by the engine at the start of its next step."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence

from forge.arguments import count, shown, wrong
from forge.errors import QueueFullError, UsageError
from forge.runtime.admission import Admission
from forge.runtime.group import Group
from forge.runtime.params import SamplingParams


class Inbox:
    """Knows every request that is not finished. Any thread may use it.

    With `max_requests` no more are unfinished at a time, those that run among them.
    """

    def __init__(self, admission: Admission, max_requests: int | None = None) -> None:
        self._admission = admission
        self._most = None if max_requests is None else count("max_requests", max_requests, 1, 2**63 - 1)
        self._names = itertools.count()
        # Guards the two below. Reentrant: the handler of a signal may close the service within.
        self._lock = threading.RLock()
        self._groups: dict[str, Group] = {}
        self._news: deque[tuple[bool, Group]] = deque()

    def __len__(self) -> int:
        with self._lock:
            return len(self._groups)

    @property
    def cancelling(self) -> bool:
        """Whether a request's end was asked for and not yet taken up."""
        with self._lock:
            return any(not new for new, _ in self._news)

    def prepare(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        *,
        request_id: str | None = None,
        prompt_text: str | None = None,
    ) -> Group:
        """A request ready to be submitted: its prompt encoded, and checked. The slow part, which holds nobody up.

        A prompt given as ids may bring its text for the outputs. Raises RequestError or CacheFullError for what can
        never run, QueueFullError when there is no room now, UsageError for arguments that do not fit.
        """
        if params is not None and not isinstance(params, SamplingParams):
            raise wrong("params", params, "a SamplingParams")
        for name, text in (("request_id", request_id), ("prompt_text", prompt_text)):
            if text is not None and not isinstance(text, str):
                raise wrong(name, text, "a str")
        with self._lock:
            self._check_room(1)
        if request_id is None:
            request_id = f"request-{next(self._names)}"
        return self._admission.group(request_id, prompt, params or SamplingParams(), prompt_text)

    def submit(self, groups: Sequence[Group]) -> list[str]:
        """Queue prepared requests, all or none, and return their ids.

        Raises QueueFullError, and UsageError for an id in use.
        """
        ids = [group.id for group in groups]
        with self._lock:
            self._check_room(len(groups))
            used = [i for i in ids if i in self._groups or ids.count(i) > 1]
            if used:
                raise UsageError(
                    f"request id {shown(used[0])} is in use", remedy="give each running request its own id"
                )
            self._groups.update(zip(ids, groups, strict=True))
            self._news.extend((True, group) for group in groups)
        return ids

    def cancel(self, request_id: str) -> bool:
        """Ask for the end of a request. False if there is none (any more). Raises UsageError for what is no id."""
        if not isinstance(request_id, str):
            raise wrong("request_id", request_id, "a str")
        with self._lock:
            group = self._groups.get(request_id)
            if group is None:
                return False
            self._news.append((False, group))
            return True

    def take(self) -> list[tuple[bool, Group]]:
        """What has come since the last call: (whether it is new, else to be cancelled; the request)."""
        with self._lock:
            news = list(self._news)
            self._news.clear()
        return news

    def forget(self, group: Group) -> None:
        """A request has finished."""
        with self._lock:
            self._groups.pop(group.id, None)

    def clear(self) -> None:
        """Forget every request."""
        with self._lock:
            self._groups.clear()
            self._news.clear()

    def _check_room(self, count: int) -> None:
        if self._most is not None and count > self._most:
            raise QueueFullError(
                f"{count} prompts in one call are more than max_requests={self._most}",
                remedy=f"at most {self._most} prompts a call, or open the model with a larger max_requests",
            )
        if self._most is not None and len(self._groups) + count > self._most:
            raise QueueFullError(
                f"{len(self._groups)} requests wait or run, and {count} would make more than max_requests={self._most}",
                remedy="try again when some have ended, or open the model with a larger max_requests",
            )
