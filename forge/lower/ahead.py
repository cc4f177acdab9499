"""Kernels compiled while weights load: those of the steps that come first, by a pool of processes.

A thread builds the launches of those sizes on meta tensors, and asks Triton for each kernel. What Triton has in its
files is taken into this process, so that it is there at its use; the rest is given to the pool. Where a kernel is used
that a process is at, `asked` waits for it; one that no process has begun is compiled at its use, as without a pool.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager

from forge.errors import ForgeError
from forge.lower.device import Device
from forge.lower.job import dumped
from forge.lower.launch import Launch
from forge.lower.offline import plan_launches
from forge.lower.plan import Plan
from forge.lower.pool import Pool
from forge.lower.sizes import Sizes, padded
from forge.triton_internals import asking, compiled, filed


class _Missing(Exception):
    """Triton has not the kernel of this key."""


class Ahead:
    """The kernels of a plan's first steps, on their way. `collected` before the plan is used by anyone else."""

    def __init__(
        self, plan: Plan, on: Device, pool: Pool | None = None, sizes: tuple[Sizes, ...] | None = None
    ) -> None:
        self._plan, self._on, self.pool = plan, on, Pool() if pool is None else pool
        self._sizes = first(plan.bounds) if sizes is None else sizes
        self._seen: set[bytes] = set()
        self._enough = threading.Event()
        self.misses = 0
        self._thread = threading.Thread(target=self._collect, name="forge-ahead", daemon=True)
        self._thread.start()

    def collected(self) -> None:
        """Wait for the thread. It goes on after the first two sizes only if Triton lacked one of their kernels."""
        self._enough.set()
        self._thread.join()

    def asked(self) -> AbstractContextManager[None]:
        """While this lasts, a launch of this thread waits for its kernel, if a process is compiling it."""
        return asking(self.pool.wait)

    def close(self) -> None:
        self._enough.set()
        self.pool.close()
        self._thread.join()

    def _collect(self) -> None:
        for number, sizes in enumerate(self._sizes):
            if number >= 2 and self._enough.is_set() and not self.misses:
                return
            try:
                launches = list(plan_launches(self._plan, sizes))
            except ForgeError:
                continue  # sizes that cannot run: a step of them says why
            for _, launch in launches:
                self._look(launch)

    def _look(self, launch: Launch) -> None:
        try:
            job = dumped(launch, self._on.target)
        except (pickle.PicklingError, AttributeError, TypeError):
            return  # no other process can be told of it: compiled at its use
        if job in self._seen:
            return
        self._seen.add(job)
        try:
            with self._on.active(), asking(_only_filed):
                compiled(launch.fn, launch.grid, launch.args, launch.meta)
        except _Missing as missing:
            self.misses += 1
            self.pool.add(str(missing), launch.fn.__name__, job)
        except Exception:  # of many kinds: its use says what is wrong with it
            return


def _only_filed(key: str) -> None:
    if not filed(key):
        raise _Missing(key)


def first(bounds: Mapping[str, int]) -> tuple[Sizes, ...]:
    """The sizes that come first: a token, a prompt's chunk, then more and more tokens, of one sequence and of many."""

    def at(tokens: int, seqs: int) -> Sizes:
        return padded({n: min(bound, {"T": tokens}.get(n, seqs)) for n, bound in bounds.items()}, bounds)

    most = bounds.get("T", 1)
    powers = [1 << i for i in range(most.bit_length()) if 1 << i <= most]
    found = [at(1, 1), at(most, 1), *(at(n, 1) for n in powers), *(at(n, n) for n in powers if n <= bounds.get("S", 1))]
    return tuple({tuple(sorted(sizes.items())): sizes for sizes in found}.values())
