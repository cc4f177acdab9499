"""A model in several files is one model, or an error that names the part at fault."""

from __future__ import annotations

from dataclasses import replace

import pytest
from loading.gguf_draft import I32, U16, tiny_llama

from forge.errors import FileFormatError
from forge.gguf import GGUFFile

pytestmark = pytest.mark.null


def write_parts(folder, count=3, bend=lambda number, draft: draft, skip=()):
    """The tiny llama's tensors dealt to `count` parts; `bend` changes a part before it is written."""
    whole = tiny_llama()
    paths = []
    for number in range(count):
        part = whole if number == 0 else replace(whole, entries={})
        part = replace(part, infos=whole.infos[number::count])
        for key, kind, value in (
            ("split.no", U16, number),
            ("split.count", U16, count),
            ("split.tensors.count", I32, len(whole.infos)),
        ):
            part = part.set(key, kind, value)
        path = folder / f"tiny-{number + 1:05}-of-{count:05}.gguf"
        if number not in skip:
            path.write_bytes(bend(number, part).write())
        paths.append(path)
    return whole, paths


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_any_part_opens_the_whole(tmp_path, opened):
    whole, paths = write_parts(tmp_path)
    with GGUFFile.open(paths[opened]) as model:
        assert model.path == paths[0] and model.architecture == "llama"
        assert {t.name: t.data.tobytes() for t in model.tensors.values()} == {t.name: t.data for t in whole.infos}
        assert {t.path for t in model.tensors.values()} == set(paths)


def test_a_missing_part_is_named(tmp_path):
    _, paths = write_parts(tmp_path, skip=(1,))
    with pytest.raises(FileFormatError, match=r"tiny-00002-of-00003\.gguf of the split model is missing"):
        GGUFFile.open(paths[0])


def test_a_renamed_part_is_refused(tmp_path):
    _, paths = write_parts(tmp_path)
    renamed = paths[0].rename(tmp_path / "model.gguf")
    with pytest.raises(FileFormatError, match="one of 3 parts, but its name"):
        GGUFFile.open(renamed)


@pytest.mark.parametrize(
    ("bend", "what"),
    [
        (lambda n, d: d.set("split.no", U16, 0) if n == 2 else d, "split.no is 0 where .* 2"),
        (lambda n, d: d.set("split.count", U16, 4) if n == 1 else d, "split.count is 4 where .* 3"),
        (lambda n, d: d.set("split.tensors.count", I32, 99), "split.tensors.count is 99 where .* 11"),
        (lambda n, d: replace(d, infos=d.infos[1:]) if n == 1 else d, "split.tensors.count is 11 where .* 10"),
        (lambda n, d: replace(d, infos=tiny_llama().infos[:4]) if n == 1 else d, "stands in this part and in"),
        (lambda n, d: d.without("split.no") if n == 1 else d, "'split.no' must be an integer, found None"),
        (lambda n, d: replace(d, magic=b"GGML") if n == 2 else d, "starts with b'GGML'"),
    ],
)  # fmt: skip
def test_parts_that_disagree(tmp_path, bend, what):
    _, paths = write_parts(tmp_path, bend=bend)
    with pytest.raises(FileFormatError, match=what):
        GGUFFile.open(paths[0])
