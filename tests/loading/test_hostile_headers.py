"""Faults 13: what a header may cost in time and memory is bounded, by kind of what it holds.

The bound: whatever a file of any size puts into its header (metadata entries, tensors, arrays in arrays, strings, text,
numbers), it is read or refused within a second and 200 MB.
"""

from __future__ import annotations

import struct
import time
import tracemalloc
from contextlib import suppress

import pytest
from loading.gguf_draft import ARRAY, BOOL, GGML_F32, I8, STRING, U8, array, string

from forge.errors import FileFormatError
from forge.gguf import GGUFFile
from forge.gguf.wire import LIMITS, MAX_STRING_BYTES

pytestmark = pytest.mark.null

EMPTY = struct.pack("<IQ", U8, 0)


def header(entries: list[bytes], tensors: list[bytes] = ()) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join([*entries, *tensors])


def entry(key: str | bytes, kind: int, payload: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + payload


def held(kind: str, count: int) -> bytes:
    """A header with `count` of a kind: as many arrays, strings, numbers..."""
    match kind:
        case "metadata entries":
            return header([entry(f"{i:08}", U8, b"\1") for i in range(count)])
        case "tensors":
            infos = [string(f"{i:08}") + struct.pack("<IIQ", 0, GGML_F32, 32 * i) for i in range(count)]
            return header([], infos) + bytes(32 * (count + 1))
        case "arrays in arrays":
            return header([entry("k" * 60_000, ARRAY, struct.pack("<IQ", ARRAY, count) + EMPTY * count)])
        case "strings":
            item = string("🙂🙂")
            return header([entry("x", ARRAY, struct.pack("<IQ", STRING, count) + item * count)])
        case "bytes of text":
            item, short = string("a" * (MAX_STRING_BYTES - 4) + "🙂"), 70  # with the keys
            whole, rest = divmod(count - short, MAX_STRING_BYTES)
            items = [item] * (whole // 2) + [string("b" * rest)]
            alone = [entry(f"{i:08}", STRING, item) for i in range(whole - whole // 2)]
            return header([entry("x", ARRAY, struct.pack("<IQ", STRING, len(items)) + b"".join(items)), *alone])
        case "numbers in arrays":
            return header([entry("x", ARRAY, array(BOOL, [], count) + b"\1" * count)])
    raise AssertionError(kind)


def read(path) -> tuple[float, str]:
    """Seconds of the processor, and how it was refused."""
    refused = ""
    begun = time.process_time()
    try:
        GGUFFile.open(path)
    except FileFormatError as error:
        refused = str(error)
    return time.process_time() - begun, refused


def peak(path) -> int:
    """Bytes that Python and NumPy allocate; counting them is slow."""
    tracemalloc.start()
    with suppress(FileFormatError):
        GGUFFile.open(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("kind", LIMITS)
def test_as_much_as_is_allowed_is_read_within_the_bound(tmp_path, kind):
    whole, part = tmp_path / "whole.gguf", tmp_path / "part.gguf"
    whole.write_bytes(held(kind, LIMITS[kind]))
    part.write_bytes(held(kind, LIMITS[kind] // 16))
    seconds, refused = read(whole)
    assert not refused and seconds < 1 and 16 * peak(part) < 200e6, (seconds, peak(part), refused)


@pytest.mark.parametrize("kind", LIMITS)
def test_more_is_refused_by_its_kind(tmp_path, kind):
    (path := tmp_path / "x.gguf").write_bytes(held(kind, LIMITS[kind] + (1 << 18)))
    seconds, refused = read(path)
    assert kind in refused and str(path) in refused and seconds < 1, (seconds, refused)


@pytest.mark.parametrize("kind", ["arrays in arrays", "strings"])
def test_what_is_spread_over_many_entries_counts_together(tmp_path, kind):
    item, of, count = (EMPTY, ARRAY, 100) if kind == "arrays in arrays" else (string("ab"), STRING, 10_000)
    one = struct.pack("<IQ", of, count) + item * count
    (path := tmp_path / "x.gguf").write_bytes(header([entry(f"{i}", ARRAY, one) for i in range(200)]))
    assert kind in read(path)[1]


def test_a_string_of_megabytes_is_refused_before_it_is_read(tmp_path):
    (path := tmp_path / "x.gguf").write_bytes(header([entry("x", STRING, string("a" * (MAX_STRING_BYTES + 1)))]))
    assert "the limit is" in read(path)[1]


def test_a_wrong_boolean_is_found_without_a_copy_of_the_array(tmp_path):
    count = LIMITS["numbers in arrays"]
    (path := tmp_path / "x.gguf").write_bytes(header([entry("x", ARRAY, array(BOOL, [], count) + b"\2" * count)]))
    assert "'x'[0] is neither 0 nor 1" in read(path)[1] and peak(path) < 2 * count


def test_a_long_key_is_shown_by_its_beginning(tmp_path):
    (path := tmp_path / "x.gguf").write_bytes(header([entry("k" * 60_000, I8, b"\1")] * 2))
    refused = read(path)[1]
    assert "stands twice" in refused and len(refused) < 1000
