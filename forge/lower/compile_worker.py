"""A process that compiles: jobs come on stdin, and Triton's own files take what comes of them.

Each job and each answer is eight bytes of length and what they count; an answer is empty, or the compiler's words. It
ends with stdin, and touches no device.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO


def put(file: BinaryIO, data: bytes) -> None:
    file.write(len(data).to_bytes(8, "little") + data)
    file.flush()


def get(file: BinaryIO) -> bytes | None:
    """What `put` wrote; None at the end of the file."""
    head = file.read(8)
    if len(head) < 8:
        return None
    data = file.read(size := int.from_bytes(head, "little"))
    return data if len(data) == size else None


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what is printed must not come between answers

    from forge.lower.job import loaded
    from forge.triton_internals import absent_driver, compiled

    while (job := get(sys.stdin.buffer)) is not None:
        answer = ""
        try:
            target, launch = loaded(job)
            with absent_driver(target.backend, target.arch, target.wave):
                compiled(launch.fn, launch.grid, launch.args, launch.meta)
        except Exception as error:  # of many kinds: the compiler's word on this kernel
            answer = f"{type(error).__name__}: {error}"
        put(answers, answer.encode())
