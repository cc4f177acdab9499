"""A model in GGUF, in one file or split into several: typed access to metadata, and tensors by name.

A split model's parts are named `<prefix>-00001-of-0000N.gguf`. The first part holds the metadata; each part holds its
own tensors and the keys split.no, split.count and split.tensors.count, which must agree over all parts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

import numpy as np

from forge.arguments import wrong
from forge.errors import FileFormatError, UsageError
from forge.gguf.header import GGUFTensor, Header, read_header
from forge.gguf.wire import format_error

T = TypeVar("T", int, float, bool, str, list[Any])
D = TypeVar("D")

_PART_NAME = re.compile(r"(?P<prefix>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
_MISSING = object()


class GGUFFile:
    """The metadata and tensors of a model. Immutable; any thread may read it.

    Tensor data are read-only views on the memory map: nothing is copied, and a page is read when it is first touched.
    Metadata are copied, arrays of numbers too, and so are the weights of a model that is loaded.

    `close` drops the file's own references; a tensor still held elsewhere stays valid, and the map goes with the last
    of them. The file must not be truncated while it is mapped.
    """

    def __init__(self, path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, GGUFTensor]) -> None:
        self.path, self.closed = path, False
        self.metadata = metadata
        self.tensors = tensors

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> GGUFFile:
        """Read the headers of the model at `path`; any part of a split model finds the others.

        Raises FileFormatError (malformed, truncated, missing part; names the file and the byte offset) or
        UnsupportedError (version, byte order or tensor type), UsageError for what is no path.
        """
        if not isinstance(path, (str, os.PathLike)):
            raise wrong("path", path, "the path of a GGUF file")
        headers = _read_parts(Path(path))
        tensors: dict[str, GGUFTensor] = {}
        for header in headers:
            for tensor in header.tensors:
                if tensor.name in tensors:
                    other = tensors[tensor.name].path
                    raise format_error(f"the tensor {tensor.name!r} stands in this part and in {other}", header.path)
                tensors[tensor.name] = tensor
        first = headers[0]
        return cls(first.path, first.metadata, MappingProxyType(tensors))

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget metadata and tensors; see the class for what stays valid."""
        self.closed = True
        self.metadata = MappingProxyType({})
        self.tensors = MappingProxyType({})

    @property
    def architecture(self) -> str:
        return self.require("general.architecture", str)

    def require(self, key: str, kind: type[T]) -> T:
        """The value of `key`, which must be there and be an int, float, bool, str or list as `kind` says."""
        value = self._found(key)
        if value is _MISSING:
            raise FileFormatError(
                f"the metadata key {key!r} is missing",
                where=str(self.path),
                remedy="convert the model again with a current converter",
            )
        return self._typed(key, value, kind)

    def get(self, key: str, kind: type[T], default: D) -> T | D:
        """As `require`, or `default` where the key is missing."""
        value = self._found(key)
        return default if value is _MISSING else self._typed(key, value, kind)

    def _found(self, key: str) -> Any:
        if self.closed:
            raise UsageError("the model file is closed", where=str(self.path), remedy="use it within its with block")
        return self.metadata.get(key, _MISSING)

    def _typed(self, key: str, value: Any, kind: type[T]) -> T:
        if kind is list and isinstance(value, np.ndarray):
            value = value.tolist()
        if type(value) is not kind:  # not isinstance: a bool is no int here
            found = f"an array of {len(value)}" if isinstance(value, (list, np.ndarray)) else f"{value!r:.60}"
            raise format_error(f"the metadata key {key!r} must be of type {kind.__name__}, found {found}", self.path)
        return value


def _read_parts(path: Path) -> list[Header]:
    """The headers of every part, in order; of the file alone if it is not split."""
    header = read_header(path)
    count = _split_key(header, "split.count", default=1)
    if count <= 1:
        return [header]
    named = _PART_NAME.fullmatch(path.name)
    if named is None or int(named["count"]) != count:
        raise FileFormatError(
            f"the file says that it is one of {count} parts, but its name does not end in -00001-of-{count:05}.gguf",
            where=str(path),
            remedy="give the parts back the names they were published under",
        )
    parts = [path.with_name(f"{named['prefix']}-{i + 1:05}-of-{count:05}.gguf") for i in range(count)]
    for part in parts:
        if not part.exists():
            raise FileFormatError(
                f"part {part.name} of the split model is missing",
                where=str(path.parent),
                remedy=f"put all {count} parts into one folder",
            )
    headers = [header if part == path else read_header(part) for part in parts]
    total = sum(len(h.tensors) for h in headers)
    for number, h in enumerate(headers):
        for key, expected in (("split.no", number), ("split.count", count), ("split.tensors.count", total)):
            found = _split_key(h, key)
            if found != expected:
                raise format_error(f"{key} is {found} where the parts together make it {expected}", h.path)
    return headers


def _split_key(header: Header, key: str, default: int | None = None) -> int:
    value = header.metadata.get(key, default)
    if type(value) is not int:
        raise format_error(f"the metadata key {key!r} must be an integer, found {value!r:.60}", header.path)
    return value
