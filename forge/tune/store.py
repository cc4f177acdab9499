"""`TuningStore`: which kernel carries out a call on an architecture, and at which configuration, read from data.

`tuning/<arch>/<op>.json` holds what is known of an architecture, `tuning/default/<op>.json` the rules for all of them.
See `forge.tune.entry` for what a file holds, and docs/tuning.md for how an entry is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forge.errors import FileFormatError, UsageError
from forge.graph.op import Call, Kernel, Op
from forge.kernels import load
from forge.target import TARGETS
from forge.tune.entry import Entry, read
from forge.tune.key import Key, key_of

PACKAGE = Path(__file__).parents[1]
RULES = "default"  # the folder of the rules for every architecture


def shipped(package: Path = PACKAGE) -> Path:
    """The folder of tuning files that comes with Forge: within the package, or beside it in a checkout.

    Raises FileFormatError if it is not there: without it kernels would be chosen otherwise.
    """
    for folder in (package / "_tuning", package.parent / "tuning"):  # beside an installed package lie other people's
        if (folder / RULES).is_dir():
            return folder
    raise FileFormatError("Forge's tuning files are not there", where=str(package), remedy="install Forge again")


@dataclass(frozen=True)
class Choice:
    """A configuration of a kernel, and where it comes from.

    "exact": an entry of the architecture that fits the call. "nearest": one that fits but in sizes, `octaves` away.
    "default": the rules for all architectures, and the first point of the kernel's space that is valid.
    """

    config: Mapping[str, Any]
    source: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    octaves: float = 0.0

    @property
    def origin(self) -> str:
        """`source`, and for "nearest" how far."""
        return f"nearest, {self.octaves:.1f} octaves" if self.source == "nearest" else self.source


class TuningStore:
    """Reads the entries of each (architecture, op) once. Safe to share between threads: entries are never changed.

    `roots` are folders, by default the one that is shipped; what stands in an earlier one goes over a later one.
    """

    def __init__(self, *roots: Path) -> None:
        for root in roots:
            if not isinstance(root, Path) or not root.is_dir():
                raise UsageError(f"a folder of tuning files is {root!r:.80}", remedy="the Path of a folder that exists")
        self.roots = roots or (shipped(),)
        self._files: dict[tuple[Path, str, str], tuple[Entry, ...]] = {}

    def choose(self, call: Call) -> tuple[Kernel, Choice] | None:
        """The kernel and its configuration for `call`; None if none of its op serves it, or composing it is better.

        An entry of the architecture goes over the rules, though it be one of other widths, if it is one of these
        tokens. Where neither says anything, the first kernel that serves is taken.
        """
        serving = [k for k in call.op.kernels.values() if k.serves(call)]
        if not serving:
            return None
        key, own = key_of(call), self._entries(call, call.target.arch)
        entry = (
            _fitting(own, key)
            or _near([[e for e in level if e.fits_counts(key)] for level in own], key)
            or _fitting(self._entries(call, RULES), key)
        )
        kernel = entry.kernel if entry else serving[0]
        return None if kernel is None else (kernel, self._configured(kernel, call, key))

    def get(self, kernel: Kernel, call: Call) -> Choice:
        """The configuration of `kernel`, which serves `call`, whether or not it is the kernel that is chosen."""
        return self._configured(kernel, call, key_of(call))

    def _configured(self, kernel: Kernel, call: Call, key: Key) -> Choice:
        own = self._entries(call, call.target.arch, kernel)
        if entry := _fitting(own, key):
            return Choice(entry.config or {}, "exact", entry.evidence)
        if entry := _near(own, key):
            return Choice(entry.config or {}, "nearest", entry.evidence, entry.octaves(key) or 0.0)
        entry = _fitting(self._entries(call, RULES, kernel), key)
        config = entry.config if entry and entry.config is not None else kernel.space.first(call)
        return Choice(config, "default")

    def _entries(self, call: Call, arch: str, kernel: Kernel | None = None) -> list[list[Entry]]:
        """What could serve `call`, a list a root; of one kernel if it is given."""
        return [
            [e for e in self.read(root, arch, call.op) if kernel in (None, e.kernel) and e.serves(call)]
            for root in self.roots
        ]

    def read(self, root: Path, arch: str, op: Op) -> tuple[Entry, ...]:
        """The entries of `root/arch/op.json`, none if there is no such file. Raises FileFormatError."""
        key = (root, arch, op.name)
        if key not in self._files:
            if not any(known[0] == root for known in self._files):
                _check_names(root, op)
            path = root / arch / f"{op.name}.json"
            entries = read(path, op, rules=arch == RULES) if path.is_file() else ()
            for entry in entries:
                if arch != RULES and entry.kernel is not None and entry.kernel.on != TARGETS[arch].kind:
                    raise FileFormatError(
                        f"{arch} cannot run the {entry.kernel.on}'s {entry.kernel.name}", where=str(path)
                    )
            self._files[key] = entries
        return self._files[key]


def _fitting(levels: Iterable[Iterable[Entry]], key: Key) -> Entry | None:
    """Of the first level that has any, the entry that fits and demands most."""
    for level in levels:
        if found := max((e for e in level if e.fit(key)), key=lambda e: len(e.fits), default=None):
            return found
    return None


def _near(levels: Iterable[Iterable[Entry]], key: Key) -> Entry | None:
    """Of the first level that has any, the entry that fits but in sizes, by the fewest octaves.

    Of two as near it is the one that demands more.
    """
    for level in levels:
        away = [(octaves, -len(e.fits), e) for e in level if (octaves := e.octaves(key)) is not None]
        if away:
            return min(away, key=lambda found: found[:2])[2]
    return None


def _check_names(root: Path, op: Op) -> None:
    """A file of no op or of no architecture, or that lies elsewhere, would be ignored in silence."""
    for path in sorted(root.rglob("*.json")):
        if path.parent.parent != root:
            raise FileFormatError(
                "a tuning file lies in no architecture's folder", where=str(path), remedy=f"{root}/ARCH/{path.name}"
            )
        if path.parent.name not in (RULES, *TARGETS):
            raise FileFormatError(f"no architecture is called {path.parent.name!r}", where=str(path))
        if path.stem != op.name and path.stem not in load():
            raise FileFormatError(f"no op is called {path.stem!r}", where=str(path), remedy="name it as its op")
