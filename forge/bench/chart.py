"""Charts as SVG: lines over an axis, and bars; in light and dark, as the reader's system has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 820, 84, 190, 56, 58  # of a chart, and of what stands around its plot
PLOT_HEIGHT, BAR, GAP = 260, 18, 8
LABEL_HEIGHT = 15
LONGEST_NAME = 44  # characters of a bar's name that are shown
# Colours of series, apart for eyes that confuse red and green too: Okabe and Ito's, lighter on a dark ground.
LIGHT = ("#0072b2", "#d55e00", "#008a66", "#b4538a", "#7a6400", "#4b5fc7")
DARK = ("#56b4e9", "#f0915a", "#2fc39b", "#e29bc4", "#e0c04c", "#9db0ff")
_GROUND = {"light": ("#ffffff", "#1f2328", "#59636e", "#e3e6ea"), "dark": ("#16181d", "#e6e8eb", "#9aa4af", "#30353d")}


@dataclass(frozen=True)
class Series:
    """A line through points (x, y), x ascending. What another one is held against is `faint`, in the other's colour."""

    name: str
    points: Sequence[tuple[float, float]]
    faint: bool = False
    colour: int = 0


@dataclass(frozen=True)
class Lines:
    """Series over one axis, from y = 0. With `doubling` equal distances on the x axis are equal factors."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    doubling: bool = False

    @property
    def height(self) -> int:
        return TOP + PLOT_HEIGHT + BOTTOM

    def draw(self) -> list[str]:
        points = [p for s in self.series for p in s.points]
        lowest, highest = min(x for x, _ in points), max(x for x, _ in points)
        rows = ticks(max(y for _, y in points))
        columns = _doublings(lowest, highest) if self.doubling else ticks(highest, binary=True)
        begin, end = self._at(columns[0]), max(self._at(columns[-1]), self._at(highest))
        width = WIDTH - LEFT - RIGHT

        def place(x: float, y: float) -> tuple[float, float]:
            across = (self._at(x) - begin) / ((end - begin) or 1)
            return LEFT + across * width, TOP + PLOT_HEIGHT * (1 - y / rows[-1])

        drawn = [_text(LEFT, 26, self.title, "title")]
        drawn += [_text(16, TOP + PLOT_HEIGHT / 2, self.y_label, "muted", anchor="middle", turned=True)]
        drawn += [_text(LEFT + width / 2, self.height - 14, self.x_label, "muted", anchor="middle")]
        for y in rows:
            at = place(lowest, y)[1]
            drawn.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + width}" y1="{at:.1f}" y2="{at:.1f}"/>')
            drawn.append(_text(LEFT - 8, at + 4, f"{y:,g}", "muted", anchor="end"))
        for x in columns:
            drawn.append(_text(place(x, 0)[0], TOP + PLOT_HEIGHT + 18, f"{x:,g}", "muted", anchor="middle"))
        ends: list[tuple[float, Series]] = []
        for each in self.series:
            placed = [place(x, y) for x, y in each.points]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            kind = f"c{each.colour % len(LIGHT)}"
            drawn.append(f'<polyline class="line {kind}{" faint" if each.faint else ""}" points="{path}"/>')
            if not each.faint:
                drawn += [f'<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in placed]
            ends.append((placed[-1][1], each))
        for at, each in _apart(ends):
            drawn.append(_text(LEFT + width + 12, at + 4, each.name, f"c{each.colour % len(LIGHT)} named"))
        return drawn

    def _at(self, x: float) -> float:
        return math.log2(x) if self.doubling else x


@dataclass(frozen=True)
class Bars:
    """A bar a row: (name, length, the part of it that is filled, 0 to 1, what is written behind it)."""

    title: str
    legend: str
    rows: Sequence[tuple[str, float, float, str]]

    @property
    def height(self) -> int:
        return TOP + 22 + len(self.rows) * (BAR + GAP) + 20

    def draw(self) -> list[str]:
        names = 12 + 7 * max((min(len(name), LONGEST_NAME) for name, *_ in self.rows), default=0)
        width = WIDTH - names - 210
        longest = max((length for _, length, *_ in self.rows), default=0) or 1
        drawn = [_text(12, 26, self.title, "title"), _text(12, 48, self.legend, "muted")]
        for i, (name, length, filled, told) in enumerate(self.rows):
            y = TOP + 14 + i * (BAR + GAP)
            whole = width * length / longest
            shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
            drawn.append(_text(names, y + 13, shown, "", anchor="end"))
            for kind, size in (("rest", whole), ("full", whole * min(max(filled, 0.0), 1.0))):
                drawn.append(f'<rect class="{kind}" x="{names + 8}" y="{y}" width="{size:.1f}" height="{BAR}" rx="2"/>')
            drawn.append(_text(names + 16 + whole, y + 13, told, "muted"))
        return drawn


def document(title: str, charts: Sequence[Lines | Bars]) -> str:
    """An SVG of charts, one below the other, under a title."""
    top, body = 44, [_text(12, 26, title, "muted")]
    for chart in charts:
        body.append(f'<g transform="translate(0 {top})">')
        body += chart.draw()
        body.append("</g>")
        top += chart.height
    size = f'width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>\n<title>{escape(title)}</title>'
    ground = f'<rect class="ground" width="{WIDTH}" height="{top}"/>'
    return "\n".join([head, f"<style>{_style()}</style>", ground, *body, "</svg>\n"])


def ticks(most: float, *, binary: bool = False) -> list[float]:
    """Round numbers from 0 to at least `most`, four to eight of them; in powers of two if `binary`."""
    if most <= 0:
        return [0.0, 1.0]
    base = 2.0 if binary else 10.0
    step = base ** math.floor(math.log(most / 4, base))
    factors = (1.0, 2.0) if binary else (1.0, 2.0, 2.5, 5.0, 10.0)
    step = next(step * f for f in factors if most / (step * f) <= 6 or f == factors[-1])
    return [step * i for i in range(math.ceil(most / step - 1e-9) + 1)]


def _doublings(lowest: float, highest: float) -> list[float]:
    first, last = math.floor(math.log2(lowest)), math.ceil(math.log2(highest) - 1e-9)
    return [2.0**i for i in range(first, max(last, first + 1) + 1)]


def _apart(ends: Sequence[tuple[float, Series]]) -> list[tuple[float, Series]]:
    """Labels at the ends of lines, moved down until none covers another, and up where they would leave the plot."""
    placed = sorted(ends, key=lambda end: end[0])
    at = [y for y, _ in placed]
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + LABEL_HEIGHT)
    if at:
        at[-1] = min(at[-1], TOP + PLOT_HEIGHT - 8.0)  # above the numbers of the axis
    for i in range(len(at) - 2, -1, -1):
        at[i] = min(at[i], at[i + 1] - LABEL_HEIGHT)
    return list(zip(at, (each for _, each in placed), strict=True))


def _text(x: float, y: float, text: str, kind: str, *, anchor: str = "start", turned: bool = False) -> str:
    rotated = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{rotated}>{escape(text)}</text>'


def _style() -> str:
    """Shapes once, and colours for a light ground and a dark one."""
    shapes = (
        "text{font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}"
        ".line{fill:none;stroke-width:2}.faint{stroke-width:1.5;stroke-dasharray:5 4}.named{stroke:none}"
    )
    return shapes + _colours("light", LIGHT) + f"@media (prefers-color-scheme:dark){{{_colours('dark', DARK)}}}"


def _colours(mode: str, series: Sequence[str]) -> str:
    ground, ink, muted, grid = _GROUND[mode]
    found = f".ground{{fill:{ground}}}text{{fill:{ink}}}.muted{{fill:{muted}}}.grid{{stroke:{grid}}}"
    found += f".rest{{fill:{series[0]};fill-opacity:.35}}.full{{fill:{series[0]}}}"
    lines = (f".line.c{i}{{stroke:{c}}}.dot.c{i},.named.c{i}{{fill:{c}}}" for i, c in enumerate(series))
    return found + "".join(lines)
