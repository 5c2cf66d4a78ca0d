"""Bands: series drawn with the eighths of a block, as rows of (text, style). No terminal in this file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

Series = Sequence[Optional[float]]
Segment = tuple[str, str]
EIGHTHS = " ▁▂▃▄▅▆▇█"
BANDS = ("used", "connecting", "idle")  # from the bottom


def binned(length: int, width: int, span: int) -> list[range]:
    """Return for each column which of *length* values it stands for, the newest last; *width* columns hold *span*."""
    each = max(1, -(-span // max(1, width)))
    ends = range(length, 0, -each)
    return [range(max(0, end - each), end) for end in ends][::-1]


def fullest(values: dict[str, list[float | None]], columns: list[range]) -> list[tuple[float, ...]]:
    """Return for each column the bands at the moment when the most were in use."""
    found = []
    for column in columns:
        moments = [tuple(_at(values[name], index) for name in BANDS) for index in column]
        found.append(max(moments, key=lambda moment: (moment[0], sum(moment))))
    return found


def stacked(moments: Sequence[tuple[float, ...]], most: float, width: int, height: int) -> list[list[Segment]]:
    """Return *height* rows, the top one first: bands on each other, *most* at the upper edge."""
    rows: list[list[Segment]] = []
    for row in range(height - 1, -1, -1):
        line = [(" ", "")] * (width - len(moments))
        line += [_cell(moment, row, most, height) for moment in moments]
        rows.append(_joined(line))
    return rows


def _cell(moment: tuple[float, ...], row: int, most: float, height: int) -> Segment:
    """Return one character: the lower band, as high as it reaches in this row, on the colour of the one above."""
    scale = 8 * height / most if most > 0 else 0.0
    reached, edges = 0.0, []
    for name, value in zip(BANDS, moment):
        reached += value
        edges.append((name, round(reached * scale) - 8 * row))
    present = [(name, edge) for name, edge in edges if edge > 0]
    if not present:
        return " ", ""
    lower, edge = present[0]
    if edge >= 8:
        return "█", lower
    above = next((name for name, top in present[1:] if top > edge), None)
    return EIGHTHS[edge], lower if above is None else f"{lower} on {above}"


def line(values: Series, width: int, span: int) -> str:
    """Return one row: the highest of each column, the highest of all as a full block; a dot where there is none."""
    peaks = [_peak(values, column) for column in binned(len(values), width, span)]
    most = max([each for each in peaks if each is not None], default=0.0)
    return "".join(_block(each, most) for each in peaks).rjust(width)


def _block(value: float | None, most: float) -> str:
    if value is None:
        return "·"
    if value <= 0 or most <= 0:
        return "▁" if value <= 0 else "█"
    return EIGHTHS[min(8, max(2, round(8 * value / most)))]


def _peak(values: Series, column: range) -> float | None:
    return max([each for each in (values[index] for index in column) if each is not None], default=None)


def _at(values: Series, index: int) -> float:
    return (values[index] or 0.0) if index < len(values) else 0.0


def _joined(segments: list[Segment]) -> list[Segment]:
    """Put neighbours of the same style together."""
    found: list[Segment] = []
    for text, style in segments:
        if found and found[-1][1] == style:
            found[-1] = (found[-1][0] + text, style)
        else:
            found.append((text, style))
    return found
