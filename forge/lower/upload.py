"""Weights streamed to a device: files read by threads, copied beside the device's work, repacked piece by piece.

A weight is taken in pieces of whole rows. A piece is read into a lane's pinned buffer by a thread, copied to the
lane's buffer on the device on a stream of its own, and repacked from there into its place on the current stream; then
the lane takes the next piece. So memory is bounded: `LANES` buffers of `PIECE` bytes on the host and on the device,
and what repacking one piece takes, about ten times its bytes. It lies where pages of keys and values will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any

import torch
from torch import Tensor

from forge.graph.ir import Node
from forge.graph.types import TensorType
from forge.lower.values import empty, torch_dtype
from forge.lower.weights import Progress, Source, Storage, raw_of
from forge.quant import Packed, format_of, pack, to_dense
from forge.quant.tensors import table_of

PIECE = 16 << 20  # bytes; a longer row is a piece by itself
LANES = 16
THREADS = 8


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of a weight, and `read`, which writes their bytes as in the file to an array uint8."""

    leaf: Node
    start: int
    stop: int
    nbytes: int
    read: Callable[[Any], None]


class Lane:
    """A buffer on the host and one on the device, for one piece at a time. `sent` is the last copy between them."""

    def __init__(self, nbytes: int, device: torch.device) -> None:
        self.host = torch.empty(nbytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self.device = torch.empty(nbytes, dtype=torch.uint8, device=device)
        self.sent: torch.cuda.Event | None = None

    def fill(self, piece: Piece, stopped: Event) -> None:
        """Read a piece, once the buffer's last one is on the device. In a thread."""
        if self.sent is not None:
            self.sent.synchronize()
        if not stopped.is_set():
            piece.read(self.host[: piece.nbytes].numpy())

    def send(self, nbytes: int, side: torch.cuda.Stream | None) -> Tensor:
        """The piece on the device, for the current stream."""
        host, there = self.host[:nbytes], self.device[:nbytes]
        if side is None:
            return there.copy_(host)
        current = torch.cuda.current_stream(there.device)
        with torch.cuda.stream(side):
            there.copy_(host, non_blocking=True)
            self.sent = side.record_event()
        current.wait_event(self.sent)
        return there


def upload(
    storages: Mapping[Node, Storage],
    source: Source,
    device: torch.device,
    progress: Progress | None = None,
    piece: int = PIECE,
) -> dict[Node, Any]:
    """Every weight on `device`, equal bit for bit to what `Storage.load` gives; `progress` is called after each.

    Raises what reading raises, when nothing is read or copied any more.
    """
    pieces = [found for storage in storages.values() for found in _pieces(storage, source, piece)]
    loaded = {leaf: _room(storage, device) for leaf, storage in storages.items()}
    lanes = [
        Lane(max((p.nbytes for p in pieces), default=0), torch.device(device)) for _ in range(min(LANES, len(pieces)))
    ]
    total, done, stopped = sum(s.nbytes for s in storages.values()), 0, Event()
    with ThreadPoolExecutor(THREADS, "forge-read") as threads, _side(device) as side:
        reads: list[Future[None]] = [
            threads.submit(lane.fill, p, stopped) for lane, p in zip(lanes, pieces, strict=False)
        ]
        free: list[Any] = [None] * len(lanes)  # when a lane's buffer on the device has been repacked
        try:
            for i, found in enumerate(pieces):
                reads[i].result()
                at = i % len(lanes)
                if side is not None and free[at] is not None:
                    side.wait_event(free[at])
                raw = lanes[at].send(found.nbytes, side)
                _put(loaded[found.leaf], storages[found.leaf], found, raw)
                if side is not None:
                    free[at] = torch.cuda.current_stream(device).record_event()
                if i + len(lanes) < len(pieces):
                    reads.append(threads.submit(lanes[at].fill, pieces[i + len(lanes)], stopped))
                if found.stop == _rows(storages[found.leaf].type):
                    done += storages[found.leaf].nbytes
                    if progress:
                        progress(done, total)
        finally:
            stopped.set()
            for read in reads:
                read.cancel()
            if side is not None:
                side.synchronize()
    return loaded


def _side(device: torch.device) -> AbstractContextManager[torch.cuda.Stream | None]:
    """A stream for copies, where the device has streams. It begins after what the current one has been given."""
    if torch.device(device).type != "cuda":
        return nullcontext(None)
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(device))
    return nullcontext(side)


def _rows(type: TensorType) -> int:
    """Rows of a weight as pieces count them: a vector is one."""
    width = type.concrete()[-1] if type.rank else 1
    return type.numel // width


def _pieces(storage: Storage, source: Source, most: int) -> Iterator[Piece]:
    """A weight's pieces in order, of about `most` bytes each, none across two parts."""
    type, leaf = storage.type, storage.leaf
    rows = _rows(type)
    row = type.nbytes // max(1, rows)
    step = max(1, most // max(1, row))
    stacked = leaf.leaf is not None and len(leaf.parts) > 1 and (type.rank == 1 or leaf.leaf.axis != 0)
    if stacked or any(not part.whole and part.axis != 0 for part in leaf.parts):
        cut = _Cut(leaf, source, -(-rows // step))
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            yield Piece(leaf, start, stop, (stop - start) * row, cut.reader(start, stop))
        return
    begin = 0
    for part in leaf.parts:
        whole = source.type_of(part.name) if len(leaf.parts) > 1 or not part.whole else type
        count = _rows(TensorType(part.shape_in(whole), whole.dtype))
        skip = 0 if part.whole else part.start * (_rows(whole) // whole.concrete()[0])
        for start in range(0, count, step):
            stop = min(start + step, count)
            nbytes = (stop - start) * row
            yield Piece(leaf, begin + start, begin + stop, nbytes, _read(source, part.name, (skip + start) * row))
        begin += count


class _Cut:
    """A weight whose rows do not stand so in a file: cut and stacked on the host while its pieces are read."""

    def __init__(self, leaf: Node, source: Source, pieces: int) -> None:
        self._leaf, self._source, self._left = leaf, source, pieces
        self._raw: Tensor | None = None
        self._lock = Lock()

    def reader(self, start: int, stop: int) -> Callable[[Any], None]:
        def read(out: Any) -> None:
            with self._lock:
                raw = self._raw = raw_of(self._leaf, self._source) if self._raw is None else self._raw
                self._left -= 1
                if not self._left:
                    self._raw = None
            rows = raw[start:stop].numpy()
            out.reshape(rows.shape)[...] = rows

        return read


def _read(source: Source, name: str, start: int) -> Callable[[Any], None]:
    def read(out: Any) -> None:
        source.read(name, start, out)

    return read


def _room(storage: Storage, device: torch.device) -> Any:
    """Memory for a weight, as it will be: rows of planes, or of dense values."""
    type = storage.type
    if storage.layout != "planes":
        return empty(storage.stored, device)
    form = format_of(type.dtype)
    planes = {n: empty(plane, device) for n, plane in form.plane_types(type.concrete()).items()}
    return Packed(type, planes, table=table_of(form, device))


def _put(room: Any, storage: Storage, piece: Piece, raw: Tensor) -> None:
    """Repack a piece into its rows."""
    type, rows = storage.type, slice(piece.start, piece.stop)
    width = type.concrete()[-1] if type.rank else 1
    cut = TensorType((piece.stop - piece.start, width), type.dtype)
    if storage.layout != "planes":
        dense = to_dense(cut, raw, torch_dtype(storage.stored))
        room.view(-1, width)[rows] = dense
        return
    made = pack(cut, raw)
    for name, plane in room.planes.items():
        plane.view(-1, plane.shape[-1])[rows] = made.planes[name]
