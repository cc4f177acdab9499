"""`TuningStore`: the configuration of a kernel on an architecture, read from `tuning/<arch>/<op>.json`.

A file is a list of entries

    {"kernel": "flash_rows", "types": "f16 f16 f16", "attrs": {"head": 128}, "config": {...},
     "evidence": {"kind": "compiled", "registers": 207, "spills": 0, "lds": 32768, "triton": "3.9.0"}}

`types` are the operands' element types; `attrs` may be a subset of what a kernel is asked for ({} fits every call).
`get` gives the entry whose attributes fit best ("exact" when all that the caller names are equal, else "nearest"),
or the first point of the kernel's space ("default"), and says which it was. A file that names an unknown kernel or
parameter is an error: an entry is never ignored in silence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forge.errors import FileFormatError, GraphError
from forge.graph.op import Call, Kernel

SHIPPED = (Path(__file__).parents[2] / "tuning", Path(__file__).parents[1] / "_tuning")
EVIDENCE = ("measured", "modelled", "compiled")


@dataclass(frozen=True)
class Choice:
    """A configuration and where it came from: "exact", "nearest" or "default"."""

    config: Mapping[str, Any]
    source: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


class TuningStore:
    """Reads entries once per (arch, op) and keeps them. Safe to share between threads: entries are never changed."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or next((p for p in SHIPPED if p.is_dir()), SHIPPED[0])
        self._files: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def get(self, kernel: Kernel, call: Call) -> Choice:
        """The configuration for `call`, which must be one that `kernel` serves."""
        types = " ".join(t.dtype.name for t in call.types if t is not None)
        facts = facts_of(call)
        best: tuple[int, dict[str, Any]] | None = None
        for entry in self._entries(kernel, call.target.arch):
            if entry["kernel"] != kernel.name or entry.get("types", types) != types:
                continue
            wanted = entry.get("attrs", {})
            if any(facts.get(k) != v for k, v in wanted.items()):
                continue
            if best is None or len(wanted) > best[0]:
                best = (len(wanted), entry)
        if best is None:
            return Choice(kernel.space.default, "default")
        exact = "types" in best[1] and bool(best[1].get("attrs"))
        return Choice(best[1]["config"], "exact" if exact else "nearest", best[1]["evidence"])

    def _entries(self, kernel: Kernel, arch: str) -> list[dict[str, Any]]:
        key = (arch, kernel.op.name)
        if key not in self._files:
            path = self.root / arch / f"{kernel.op.name}.json"
            entries = _read(path) if path.is_file() else []
            for entry in entries:
                _check(path, kernel, entry)
            self._files[key] = entries
        return self._files[key]


def facts_of(call: Call) -> dict[str, Any]:
    """What an entry's `attrs` may speak of: the call's attributes and the last dimension of each operand."""
    facts = dict(call.attrs)
    for name, type in zip(call.op.operands, call.types, strict=True):
        if type is not None and type.shape:
            facts[f"{name}.width"] = type.shape[-1]
    return facts


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text())
    except ValueError as error:
        raise FileFormatError(f"a tuning file is not JSON: {error}", where=str(path)) from error
    if not isinstance(entries, list):
        raise FileFormatError("a tuning file holds a list of entries", where=str(path))
    return entries


def _check(path: Path, kernel: Kernel, entry: Any) -> None:
    known = kernel.op.kernels
    if not isinstance(entry, dict) or entry.get("kernel") not in known:
        raise FileFormatError(f"an entry of {kernel.op.name} names no kernel of it: {entry}", where=str(path))
    if entry.get("evidence", {}).get("kind") not in EVIDENCE:
        raise FileFormatError(f"an entry has no evidence of kind {', '.join(EVIDENCE)}: {entry}", where=str(path))
    try:
        known[entry["kernel"]].space.check(entry.get("config", {}))
    except GraphError as error:
        raise FileFormatError(error.what, where=str(path)) from error
