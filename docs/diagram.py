"""Draws the states of a connection from dbpool.entry.Status.successors, as SVG, with the standard library alone.

`python docs/diagram.py` writes docs/states.svg, and so does each build of the site.
"""

from __future__ import annotations

import math
from pathlib import Path

from dbpool.entry import Status

FILE = Path(__file__).resolve().parent / "states.svg"
WIDTH, HEIGHT = 720, 440
BOX_WIDTH, BOX_HEIGHT = 132, 42
BEND = 0.13  # of an arrow's length: the two of a pair pass each other
GAP = 4  # between a box and an arrow's end

HEAD = f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">
<title>The states of a connection</title>
<style>
rect {{ fill: #f4f7fb; stroke: #5b7da8; stroke-width: 1.6 }}
text {{ font: 600 15px ui-monospace, monospace; fill: #1d2b3d; text-anchor: middle; dominant-baseline: central }}
path {{ fill: none; stroke: #7d8794; stroke-width: 1.6 }}
polygon {{ fill: #7d8794 }}
</style>
"""

Point = tuple[float, float]


def draw() -> str:
    """Return the diagram. The final states have a double frame."""
    at = _places()
    arrows = [_arrow(at[state], at[after]) for state in Status for after in state.successors if after is not state]
    loops = [_loop(at[state]) for state in Status if state in state.successors]
    boxes = [_box(state, at[state]) for state in Status]
    return HEAD + "\n".join([*arrows, *loops, *boxes]) + "\n</svg>\n"


def write() -> None:
    """Write the diagram beside this file, unless it is there already."""
    svg = draw()
    if not FILE.is_file() or FILE.read_text(encoding="utf-8") != svg:
        FILE.write_text(svg, encoding="utf-8")


def _places() -> dict[Status, Point]:
    """Place the states on an ellipse, clockwise from the left, in the order in which they are defined."""
    states = list(Status)
    turn = 2 * math.pi / len(states)
    across, down = (WIDTH - BOX_WIDTH) / 2 - 30, (HEIGHT - BOX_HEIGHT) / 2 - 30
    return {
        state: (WIDTH / 2 - across * math.cos(turn * place), HEIGHT / 2 - down * math.sin(turn * place))
        for place, state in enumerate(states)
    }


def _edge(box: Point, towards: Point) -> Point:
    """Return the point at which the line from the middle of *box* leaves it."""
    (x, y), dx, dy = box, towards[0] - box[0], towards[1] - box[1]
    reach = min(
        (BOX_WIDTH / 2 + GAP) / abs(dx) if dx else math.inf,
        (BOX_HEIGHT / 2 + GAP) / abs(dy) if dy else math.inf,
    )
    return x + dx * reach, y + dy * reach


def _arrow(start: Point, end: Point) -> str:
    # Always bent to its own left, so that the way there and the way back do not cover each other.
    middle = (
        (start[0] + end[0]) / 2 + (end[1] - start[1]) * BEND,
        (start[1] + end[1]) / 2 - (end[0] - start[0]) * BEND,
    )
    (x1, y1), (x2, y2) = _edge(start, middle), _edge(end, middle)
    curve = f"M{x1:.1f} {y1:.1f} Q{middle[0]:.1f} {middle[1]:.1f} {x2:.1f} {y2:.1f}"
    return f'<path d="{curve}"/>' + _head(middle, (x2, y2))


def _loop(box: Point) -> str:
    """Return an arrow from a state to itself, on the side away from the middle."""
    x, y = box
    out = 1 if y >= HEIGHT / 2 else -1
    edge, far = y + out * (BOX_HEIGHT / 2 + GAP), y + out * (BOX_HEIGHT / 2 + 42)
    curve = f"M{x - 22:.1f} {edge:.1f} C{x - 40:.1f} {far:.1f} {x + 40:.1f} {far:.1f} {x + 22:.1f} {edge:.1f}"
    return f'<path d="{curve}"/>' + _head((x + 40, far), (x + 22, edge))


def _head(came_from: Point, tip: Point) -> str:
    """Return the head of an arrow. Drawn by hand, because not every program turns SVG's markers the right way."""
    angle = math.atan2(tip[1] - came_from[1], tip[0] - came_from[0])
    corners = [
        tip,
        *((tip[0] - 11 * math.cos(angle + side), tip[1] - 11 * math.sin(angle + side)) for side in (0.4, -0.4)),
    ]
    return '<polygon points="' + " ".join(f"{x:.1f},{y:.1f}" for x, y in corners) + '"/>'


def _box(state: Status, at: Point) -> str:
    x, y = at[0] - BOX_WIDTH / 2, at[1] - BOX_HEIGHT / 2
    frames = [f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="7"/>']
    if not state.successors:
        frames.append(
            f'<rect x="{x + 4:.1f}" y="{y + 4:.1f}" width="{BOX_WIDTH - 8}" height="{BOX_HEIGHT - 8}" rx="4"/>'
        )
    return "".join(frames) + f'<text x="{at[0]:.1f}" y="{at[1]:.1f}">{state.name}</text>'


if __name__ == "__main__":
    write()
