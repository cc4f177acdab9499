"""Registries: the things of one kind by name, found by walking a package's folder or registered from outside.

There is no list to edit. The modules of the package are imported when something is first looked up, not before.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Protocol, TypeVar

from forge.errors import UsageError
from forge.extensions import EXTENSIONS


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Mapping[str, T]):
    """Things of one `kind` by their `name`, sorted. Grows only; any thread may read it.

    kind      the class whose instances at the top level of a module are its things
    noun      what messages call such a thing
    package   the package whose modules are walked, each a file or a folder; or None
    things    those that stand in no file of their own
    check     raises UsageError for a thing that cannot be taken
    """

    def __init__(
        self,
        kind: type[T],
        noun: str,
        *,
        package: str | None = None,
        things: Iterable[T] = (),
        check: Callable[[T], None] = lambda thing: None,
    ) -> None:
        self._kind, self._noun, self._package, self._check = kind, noun, package, check
        self._things: dict[str, T] = {thing.name: thing for thing in things}
        self._places: dict[str, str] = dict.fromkeys(self._things, "Forge itself")
        self._walked = package is None
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            self._read()
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter(sorted(self._things))

    def __len__(self) -> int:
        self._read()
        return len(self._things)

    def names(self) -> str:
        """For remedies: the names there are, and the installed extensions that failed and so might lack here."""
        return "; ".join((", ".join(self), *EXTENSIONS.failures))

    def mark(self) -> Callable[[], None]:
        """A function that takes back all that is added from now on."""
        self._walk()
        things, places = dict(self._things), dict(self._places)

        def undo() -> None:
            self._things, self._places = things, places

        return undo

    def take(self, module: ModuleType) -> int:
        """Add what a module defines, and say how many things those are. Raises UsageError for a name that clashes."""
        self._walk()
        return self._take(module)

    def _take(self, module: ModuleType) -> int:
        found = [value for value in list(vars(module).values()) if isinstance(value, self._kind)]
        for thing in found:
            own = sys.modules.get(getattr(thing, "module", ""), module)  # a module may have imported it from its own
            self._add(thing, getattr(own, "__file__", None) or own.__name__)
        return len(found)

    def _add(self, thing: T, place: str) -> None:
        there = self._things.get(thing.name)
        if there is None:
            self._check(thing)
            self._things[thing.name], self._places[thing.name] = thing, place
        elif there != thing:
            raise UsageError(
                f"{self._noun} {thing.name} is defined in {self._places[thing.name]} and in {place}",
                remedy="give one of them another name",
            )

    def _read(self) -> None:
        self._walk()
        EXTENSIONS.load_installed()

    def _walk(self) -> None:
        """Import the package's modules, once. One that does not import is reported as itself, not as a missing name."""
        if self._walked:
            return
        with self._lock:
            if self._walked or self._package is None:
                return
            path = importlib.import_module(self._package).__path__
            for module in pkgutil.iter_modules(path):
                self._take(importlib.import_module(f"{self._package}.{module.name}"))
            self._walked = True
