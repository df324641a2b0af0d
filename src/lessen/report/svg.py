"""A small drawing surface that writes SVG: every text escaped, colours from the page's own classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

CHARACTER = 0.56  # mean width of a character, in font sizes


@dataclass(frozen=True)
class Figure:
    """A picture with its title and what to know when reading it.

    Attributes:
        table: its numbers where no other table of the page has them: the heads, then the lines.
    """

    title: str
    note: str
    picture: Markup
    table: Sequence[Sequence[str]] = ()


class Canvas:
    """A drawing of a fixed coordinate size that scales to its place.

    Args:
        width, height: in user units, which are pixels at full size.
        label: what the picture shows, for those who hear it.
    """

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height, self.label = width, height, label
        self._parts: list[str] = []

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        """Draw a line."""
        self._add(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{escape(css)}"/>')

    def rect(
        self, x: float, y: float, width: float, height: float, css: str, *, tip: str = "", opacity: float = 1
    ) -> None:
        """Draw a rectangle; `tip` shows under the pointer."""
        fade = f' fill-opacity="{opacity:.3f}"' if opacity < 1 else ""
        shape = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" rx="2"'
        self._add(f'<rect {shape} class="{escape(css)}"{fade}>{_tip(tip)}</rect>')

    def circle(self, x: float, y: float, radius: float, css: str, *, tip: str = "") -> None:
        """Draw a dot; `tip` shows under the pointer."""
        self._add(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{escape(css)}">{_tip(tip)}</circle>')

    def path(self, points: Sequence[tuple[float, float]], css: str) -> None:
        """Draw straight lines through points."""
        if points:
            steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            self._add(f'<path d="M{steps}" class="{escape(css)}"/>')

    def text(self, x: float, y: float, words: object, css: str = "", *, anchor: str = "start", turn: float = 0) -> None:
        """Write text; `anchor` is start, middle or end; `turn` is in degrees around (x, y)."""
        turned = f' transform="rotate({turn:g} {x:.1f} {y:.1f})"' if turn else ""
        css = f' class="{escape(css)}"' if css else ""
        self._add(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{css}{turned}>{escape(words)}</text>')

    def markup(self) -> Markup:
        """Return the drawing as an <svg> element."""
        head = f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.label)}">'
        return Markup(head + "".join(self._parts) + "</svg>")  # noqa: S704 (every part was escaped above)

    def _add(self, part: str) -> None:
        self._parts.append(part)


class Scale:
    """Maps values to positions, linear or logarithmic, with round ticks.

    Args:
        low, high: values at the ends.
        start, end: their positions.
    """

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool = False) -> None:
        if high <= low:
            low, high = (low / 1.5, high * 1.5) if log else (low - 0.5, high + 0.5)
        self.low, self.high, self.start, self.end, self.log = low, high, start, end, log

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        a, b, v = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return self.start + (v - a) / (b - a) * (self.end - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Return about `count` round values within the ends."""
        found = log_ticks(self.low, self.high) if self.log else []
        return found if len(found) > 1 else linear_ticks(self.low, self.high, count)


def axes(canvas: Canvas, x: Scale, y: Scale, x_text: Callable[[float], str], y_text: Callable[[float], str]) -> None:
    """Draw the ticks of both axes, each with its text, and the grid of y."""
    for value in y.ticks():
        canvas.line(x.start, y(value), x.end, y(value), "grid")
        canvas.text(x.start - 7, y(value) + 4, y_text(value), "tick", anchor="end")
    for value in x.ticks(6):
        canvas.line(x(value), y.start, x(value), y.start + 4, "rule")
        canvas.text(x(value), y.start + 17, x_text(value), "tick", anchor="middle")
    canvas.line(x.start, y.start, x.end, y.start, "rule")


def linear_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round values (steps of 1, 2 or 5 times a power of ten) from low to high."""
    rough = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times powers of ten from low to high; over wide ranges the powers alone."""
    span = math.log10(high / low)
    factors = (1,) if span > 3 else (1, 3) if span > 1.6 else (1, 2, 5)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]


def text_width(words: str, size: float = 12) -> float:
    """Return about how wide text is."""
    return len(words) * size * CHARACTER


def place_labels(
    points: Sequence[tuple[float, float]],
    words: Sequence[str],
    bounds: tuple[float, float, float, float],
    size: float = 12,
) -> list[tuple[float, float, str]]:
    """Return x, y and anchor of a label beside each point, so that labels hit neither points nor each other.

    Args:
        bounds: left, top, right, bottom that labels stay within.
    """
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in points]
    out = []
    for (x, y), text in zip(points, words, strict=True):
        wide = text_width(text, size)
        best, best_cost = (x + 11, y + 4, "start"), math.inf
        for dy in (0, -14, 14, -28, 28, -42, 42, -56, 56):
            for dx, anchor in ((11, "start"), (-11, "end"), (0, "middle")):
                if anchor == "middle" and abs(dy) < 14:
                    continue
                left = {"start": x + dx, "end": x + dx - wide, "middle": x - wide / 2}[anchor]
                box = (left, y + dy - size * 0.6, left + wide, y + dy + size * 0.6)
                cost = sum(_overlap(box, other) for other in taken) + 20 * _outside(box, bounds) + abs(dy) * 0.05
                if cost < best_cost:
                    best, best_cost, best_box = (x + dx, y + dy + size * 0.35, anchor), cost, box
        taken.append(best_box)
        out.append(best)
    return out


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def _outside(box: tuple[float, float, float, float], bounds: tuple[float, float, float, float]) -> float:
    return sum(max(0.0, d) for d in (bounds[0] - box[0], bounds[1] - box[1], box[2] - bounds[2], box[3] - bounds[3]))


def _tip(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
