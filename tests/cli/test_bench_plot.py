"""`forge bench model --plot`: what is drawn is what was measured, legible, and XML whatever a model is called."""

from __future__ import annotations

import itertools
import math
import random
import xml.etree.ElementTree as xml

import pytest

from forge.bench.chart import DARK, LABEL_HEIGHT, LIGHT, PLOT_HEIGHT, TOP, WIDTH, Bars, Lines, Series, document, ticks
from forge.bench.limit import Limit
from forge.bench.model import ModelRow, Test
from forge.bench.pictures import of_rows
from forge.bench.timing import Sample

pytestmark = pytest.mark.cpu

Test.__test__ = False  # pytest: it is no test of ours
SVG = "{http://www.w3.org/2000/svg}"


def drawn(*charts):
    return xml.fromstring(document("a <b> & \"c\" 'd'", charts))


def texts(root) -> dict[str, tuple[float, float]]:
    return {t.text: (float(t.get("x")), float(t.get("y"))) for t in root.iter(f"{SVG}text")}


def path(line) -> list[tuple[float, float]]:
    return [tuple(map(float, p.split(","))) for p in line.get("points").split()]


def test_points_lie_where_their_axes_say():
    lines = Lines("t", "x", "y", [Series("one", [(0, 100.0), (1000, 250.0), (4096, 50.0)])])
    root = drawn(lines)
    label = texts(root)
    ((a, b, c),) = [path(line) for line in root.iter(f"{SVG}polyline")]
    left, right = label["0"], label["4,096"]
    assert (a[0], c[0]) == (pytest.approx(left[0], abs=60), right[0])
    assert (b[0] - a[0]) / (c[0] - a[0]) == pytest.approx(1000 / 4096, abs=0.01)
    grid = [float(g.get("y1")) for g in root.iter(f"{SVG}line")]
    bottom, top = max(grid), min(grid)
    most = ticks(250.0)[-1]
    for point, value in ((a, 100), (b, 250), (c, 50)):
        assert point[1] == pytest.approx(bottom - (bottom - top) * value / most, abs=0.1)
    assert f"{most:,g}" in label and {"t", "x", "y", "one"} <= set(label)


def test_equal_factors_are_equally_far_apart():
    root = drawn(Lines("t", "x", "y", [Series("s", [(1, 1.0), (4, 2.0), (16, 3.0), (64, 4.0)])], doubling=True))
    ((a, b, c, d),) = [path(line) for line in root.iter(f"{SVG}polyline")]
    assert b[0] - a[0] == pytest.approx(c[0] - b[0], abs=0.2) == pytest.approx(d[0] - c[0], abs=0.2)
    assert {"1", "2", "32", "64"} <= set(texts(root))


@pytest.mark.parametrize("least", [0.0, 4.9])
def test_labels_cover_neither_each_other_nor_leave_the_plot(least):
    chance = random.Random(1)
    for count in (1, 2, 7, 12):
        ends = [least + chance.random() * 0.1 for _ in range(count)]
        series = [Series(f"series {i}", [(1, 5.0), (2, end)], colour=i) for i, end in enumerate(ends)]
        root = drawn(Lines("t", "x", "y", series))
        at = sorted(y for text, (_, y) in texts(root).items() if text.startswith("series "))
        assert len(at) == count and all(b - a >= LABEL_HEIGHT - 0.2 for a, b in itertools.pairwise(at))
        assert at[0] >= TOP and at[-1] < TOP + PLOT_HEIGHT


@pytest.mark.parametrize("binary", [False, True])
def test_ticks_are_few_and_round_and_hold_every_value(binary):
    chance = random.Random(2)
    for most in (1e-9, 0.3, 1, 7, 64, 65536, *(10 ** chance.uniform(-6, 9) for _ in range(200))):
        found = ticks(most, binary=binary)
        step = found[1]
        assert found[0] == 0 and found[-1] >= most * (1 - 1e-9) and 2 <= len(found) <= 9
        assert found[-1] - step < most, "no more than one behind the largest value"
        digits = step / 10 ** math.floor(math.log10(step))
        assert math.log2(step) % 1 == 0 if binary else any(abs(digits - d) < 1e-9 for d in (1, 2, 2.5, 5))
    assert ticks(0) == [0, 1]


def test_a_bar_is_filled_by_its_share():
    long = "linear(" + "bf16[1,512], " * 9 + ")"
    root = drawn(Bars("b", "l", [("one", 4.0, 0.25, "4 us"), (long, 1.0, 3.0, "1 us")]))
    sizes = [float(r.get("width")) for r in root.iter(f"{SVG}rect") if r.get("class") != "ground"]
    assert sizes == [pytest.approx(4 * sizes[2], abs=0.2), pytest.approx(sizes[0] / 4, abs=0.1), sizes[2], sizes[2]]
    assert all(0 < x < WIDTH for x, _ in texts(root).values()) and long not in texts(root)


def test_colours_are_those_of_a_light_ground_and_of_a_dark_one():
    text = document("t", [Lines("t", "x", "y", [Series("s", [(1, 1.0), (2, 2.0)])])])
    light, dark = text.split("@media (prefers-color-scheme:dark)")
    assert LIGHT[0] in light and DARK[0] in dark.split("</style>")[0] and DARK[0] not in light
    assert xml.fromstring(text).find(f"{SVG}title").text == "t"


def _row(rate, limit, graph=None, **test):
    return ModelRow(Test(**test), (rate,), Limit(limit, "memory"), graph and Sample((graph,)))


def test_rows_are_drawn_over_what_they_differ_in():
    rows = [_row(s * 10.0, s * 20.0, 1 / 11, gen=8, seqs=s, depth=d) for d in (0, 64) for s in (4, 1, 2)]
    charts = of_rows([*rows, _row(900.0, 1000.0, prompt=8)])
    over_seqs, *over_depth = charts
    assert over_seqs.doubling and [s.name for s in over_seqs.series if not s.faint] == ["tg8", "tg8 @ d64"]
    assert over_seqs.series[0].points == [(1, 10.0), (2, 20.0), (4, 40.0)]
    assert over_seqs.series[1].faint and over_seqs.series[1].points == [(s, pytest.approx(11.0 * s)) for s in (1, 2, 4)]
    assert [[s.name for s in c.series] for c in over_depth] == [
        [name, f"{name}, captured graph", f"{name}, limit"] for name in ("tg8 x4", "tg8", "tg8 x2")
    ]
    assert over_depth[0].series[0].points == [(0, 40.0), (64, 40.0)] and over_depth[0].series[2].points[0] == (0, 80.0)
    (bars,) = of_rows([_row(900.0, 1000.0, prompt=8), _row(10.0, 40.0, gen=8)])
    assert [(name, filled) for name, _, filled, _ in bars.rows] == [("pp8", 0.9), ("tg8", 0.25)]
    drawn(*charts, bars)


def test_the_command_draws_rows_and_steps(forge, tiny_model, tmp_path):
    file = tmp_path / "rows.svg"
    flags = ("--target", "cpu", "-r", "1", "--plot", file)
    assert forge("bench", "model", tiny_model, "-p", "0", "-n", "3", "--seqs", "1,2", "-d", "0,8", *flags).code == 0
    shown = texts(xml.parse(file).getroot())
    assert {"Generation: sequences at a time", "Generation: depth of the context", "tg3 @ d8"} <= set(shown)
    assert forge("bench", "model", tiny_model, "-p", "8", "--breakdown", *flags).code == 0
    shown = texts(xml.parse(file).getroot())
    assert {"A step of one token at a context of 8", "A step of 8 tokens at a context of 8", "linear"} <= set(shown)


def test_a_file_that_cannot_be_written_is_known_before_anything_is_measured(forge, tiny_model, tmp_path):
    (tmp_path / "folder.svg").mkdir()
    for file, words in ((tmp_path / "no" / "a.svg", "in a folder there is"), (tmp_path / "a.png", "ends in .svg")):
        result = forge("bench", "model", tiny_model, "-p", "8", "-n", "0", "-r", "1", "--plot", file)
        assert result.code == 2 and words in result.err and not result.out and "tokens/s" not in result.err
    result = forge("bench", "model", tiny_model, "-p", "8", "-n", "0", "-r", "1", "--plot", tmp_path / "folder.svg")
    assert result.code == 2 and "cannot be written" in result.err
