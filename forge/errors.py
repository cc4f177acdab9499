"""Every exception Forge raises: what happened, where, and what to do about it.

A `ForgeError` is for the user: bad input, an unsupported request, a device or memory limit. Broken invariants of our
own are `assert`s. Each error carries three parts, kept apart so that tools can show them apart:

    what     one sentence with the op, shapes, types, device or tensor that are at fault
    where    the file and offset, node or request it happened at ("" when `what` says it all)
    remedy   what the reader can do now
"""

from __future__ import annotations

from forge.visible import visible


class ForgeError(Exception):
    """Base of all errors that Forge raises on purpose. `exit_code` is what the CLI ends with."""

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        parts = [what]
        if where:
            parts.append(f"at: {where}")
        if remedy:
            parts.append(f"try: {remedy}")
        self.args = ("\n  ".join(parts),)  # as Exception would set them; torch.compile can trace this

    def __str__(self) -> str:
        """What a terminal may show: names and texts from files are not to steer it."""
        return visible(str(self.args[0]))


class UsageError(ForgeError):
    """An argument of the Python API or of the CLI is out of its range."""

    exit_code = 2


class FileFormatError(ForgeError):
    """A model file is truncated, malformed or hostile; `where` names the file and the byte offset."""

    exit_code = 3


class UnsupportedError(ForgeError):
    """A well-formed request that Forge cannot carry out: an architecture, type, key, op or target."""

    exit_code = 4


class MissingDependencyError(ForgeError):
    """A package that this step needs is absent or too old; `remedy` gives the command that installs it."""

    exit_code = 5


class DeviceError(ForgeError):
    """The device is absent, lost, or refused a launch."""

    exit_code = 6


class StateLostError(DeviceError):
    """A step has spoiled states that it should not write: what was computed into them is to be computed anew."""


class MemoryPlanError(ForgeError):
    """Weights, pages and activations do not fit the device; the message gives each number."""

    exit_code = 7


class GraphError(ForgeError):
    """An op graph breaks a rule: types that do not fit, state used twice, a cycle, an unknown name."""


class ShapeError(GraphError):
    """Operands whose shapes or types an op does not take; names the op and every operand."""


class CompileError(ForgeError):
    """A kernel did not compile for its target, or its code breaks a limit (LDS, spills)."""


class EmulationError(ForgeError):
    """Emulated code did what no device may be relied on to do, or what no emulator knows.

    `kind` is the trap's name; `where` has the program counter, the instruction and the source line.
    """

    def __init__(self, what: str, *, kind: str = "emulation", where: str = "", remedy: str = "") -> None:
        self.kind = kind
        super().__init__(f"{kind}: {what}", where=where, remedy=remedy)


class NumericsError(ForgeError):
    """NaN or infinity where a number must stand (logits, for one)."""


class TokenizerError(ForgeError):
    """Tokenizer metadata that cannot be turned into a tokenizer, or a chat template that fails."""


class RequestError(ForgeError):
    """One request is refused or ended; the others go on."""


class DefectError(ForgeError):
    """Something within Forge, or what it stands on, raised what it should not: a defect. `__cause__` is what it was."""

    exit_code = 70

    def __init__(self, cause: BaseException, *, where: str = "") -> None:
        super().__init__(
            f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__,
            where=where,
            remedy="this is a defect of Forge: report it, with the traceback of the error's __cause__",
        )
        self.__cause__ = cause


class QueueFullError(RequestError):
    """As many requests wait and run as may; one more is taken when one of them has ended."""


class CacheFullError(RequestError):
    """A request needs more KV pages than the pool has in all."""
