"""Ops, element types and architectures of somebody else's: files and modules that are registered, or installed.

`forge.register("my_op.py")` adds what a file defines to the registries of ops, element types, formats and
architectures. A distribution does the same without a call by an entry point of the group `forge.extensions`:

    [project.entry-points."forge.extensions"]
    my_ops = "my_package.ops"

Those are imported when a registry is first read or lacks a name. One that fails is reported by a warning, and again
where something is not found; what does not need it goes on.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from forge.errors import ForgeError, UsageError

GROUP = "forge.extensions"
# Resolved by name when something is registered: they import this. A type comes before the format that needs it.
REGISTRIES = (
    "forge.graph.types:DTYPES",
    "forge.kernels:OPS",
    "forge.quant.registry:FORMATS",
    "forge.models:ARCHITECTURES",
)


class Adding(Protocol):
    """What a registry must do so that registering is all or nothing."""

    def mark(self) -> Callable[[], None]:
        """A function that takes back all that is added from now on."""

    def take(self, module: ModuleType) -> int:
        """Add what a module defines, and say how many things those are. Raises UsageError for a name that clashes."""


class Extensions:
    """What has been registered. Any thread may use it; one registers at a time."""

    def __init__(self) -> None:
        self.failures: list[str] = []  # of installed extensions: what happened and what to do
        self._lock = threading.RLock()
        self._begun = self._done = False
        self._files: dict[Path, tuple[str, ModuleType]] = {}

    def register(self, source: Any) -> ModuleType:
        """Add what a file, an importable module or a module object defines. See `forge.register`."""
        with self._lock:
            self.load_installed()
            if isinstance(source, ModuleType):
                return self._adopt(lambda: source, source.__name__)
            if isinstance(source, str) and not source.endswith(".py") and os.sep not in source:
                return self._adopt(lambda: _imported(source), source)
            if isinstance(source, (str, os.PathLike)):
                return self._file(Path(source).resolve())
            kind = type(source).__name__
            raise UsageError(f"register takes no {kind}", remedy="the path of a .py file, a module, or its name")

    def load_installed(self) -> None:
        """Register the modules that installed distributions name, once."""
        if self._done:
            return
        with self._lock:
            if self._begun:  # an extension that reads a registry while it is imported sees those before it
                return
            self._begun = True
            self.failures.clear()  # of an earlier try that was interrupted
            try:
                for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: (p.name, p.value)):
                    self._install(point)
                self._done = True
            finally:
                self._begun = self._done

    def mark(self) -> Callable[[], None]:
        """A function that takes back all that is registered from now on."""
        marked = [registry.mark() for registry in _registries()]
        modules, files = set(sys.modules), dict(self._files)

        def undo() -> None:
            for take_back in marked:
                take_back()
            self._files = files
            for name in [n for n in sys.modules if n.startswith(_PREFIX) and n not in modules]:
                del sys.modules[name]

        return undo

    def _install(self, point: metadata.EntryPoint) -> None:
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"
        try:
            self._adopt(lambda: _imported(point.value), point.value)
        except Exception as error:
            told = f"the extension {point.name} of {owner} does not load: {type(error).__name__}: {error}"
            self.failures.append(f"{told}; repair or uninstall {owner}")
            warnings.warn(self.failures[-1], RuntimeWarning, stacklevel=2)

    def _file(self, path: Path) -> ModuleType:
        if path.suffix != ".py" or not path.is_file():
            raise UsageError(f"{path} is no Python file", remedy="for a package, give its importable name")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        known = self._files.get(path)
        if known is None:
            loaded = [m for m in list(sys.modules.values()) if _is_from(m, path)]
            module = self._adopt(lambda: loaded[0] if loaded else _executed(path), str(path))
            self._files[path] = digest, module
            return module
        if known[0] != digest:
            raise UsageError(f"{path} has changed since it was registered", remedy="start a new process")
        return known[1]

    def _adopt(self, load: Callable[[], ModuleType], name: str) -> ModuleType:
        undo = self.mark()
        try:
            module = load()
            if not sum(registry.take(module) for registry in _registries()):
                raise UsageError(f"{name} defines no op, kernel, element type, format or architecture")
        except BaseException:
            undo()
            raise
        return module


EXTENSIONS = Extensions()
_PREFIX = "forge_extension_"


def register(source: str | os.PathLike[str] | ModuleType) -> ModuleType:
    """Add somebody's own ops, kernels, element types, formats and architectures; returns the module that defines them.

    source   the path of a Python file, the name of an importable module, or a module

    What it defines at its top level is then found wherever Forge looks: `forge.kernels.<op>`, the graph's text, `forge
    bench ops`, `forge verify`, files of that element type, of that `general.architecture`. All of it is added or, if
    anything fails, none. Registering the same thing again changes nothing.

    Raises UsageError if a name is taken (naming both places), if a file defines nothing or changed since it was
    registered, or if it cannot be imported.
    """
    return EXTENSIONS.register(source)


def _registries() -> list[Adding]:
    named = (name.split(":") for name in REGISTRIES)
    return [getattr(importlib.import_module(module), attribute) for module, attribute in named]


def _imported(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ForgeError:
        raise
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _executed(path: Path) -> ModuleType:
    """The module of a file, under a name of its own: where Triton and dataclasses look a definition's module up."""
    name = f"{_PREFIX}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ForgeError:
        raise
    except Exception as error:
        raise UsageError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _is_from(module: Any, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(module, ModuleType) and isinstance(file, str) and Path(file).absolute() == path
