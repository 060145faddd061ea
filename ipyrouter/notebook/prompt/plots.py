"""Figures of matplotlib and plotly in words: titles, axes, limits, and their series with the numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_POINTS = 50  # of a series
_SERIES = 20


def describe_figure(figure: Any) -> str:
    """Return a matplotlib figure in words: titles, axes, limits, and its series with their numbers."""
    lines = []
    title = getattr(figure, "get_suptitle", str)()
    if title:
        lines.append(f"figure: title {title!r}")
    for number, axes in enumerate(figure.get_axes(), 1):
        lines.append(f"axes {number}: title {axes.get_title()!r}, x {axes.get_xlabel()!r}, y {axes.get_ylabel()!r}")
        lines.append(f"  x from {axes.get_xlim()[0]:g} to {axes.get_xlim()[1]:g}, y from {axes.get_ylim()[0]:g}")
        lines[-1] += f" to {axes.get_ylim()[1]:g}; {axes.get_xscale()} by {axes.get_yscale()}"
        for side in ("x", "y"):
            ticks = [label.get_text() for label in getattr(axes, f"get_{side}ticklabels")()]
            if any(re.search(r"[^\W\d_]", tick) for tick in ticks):  # numbers stand in the limits already
                lines.append(f"  {side} ticks: {', '.join(ticks[:_POINTS])}")
        lines += [f"  {line}" for line in _series(axes)]
    return "\n".join(lines) or "no axes"


def _series(axes: Any) -> list[str]:
    """Return a line for each series of an axes, with its numbers."""
    lines = []
    for line in axes.get_lines()[:_SERIES]:
        points = list(zip(line.get_xdata(), line.get_ydata(), strict=False))
        lines.append(f"line{_label(line)}: {len(points):,} points: {_points(points)}")
    bars = set()
    for container in axes.containers[:_SERIES]:
        patches = [patch for patch in getattr(container, "patches", ()) if hasattr(patch, "get_height")]
        bars |= set(patches)
        points = [_bar(patch, getattr(container, "orientation", None)) for patch in patches]
        if points:
            lines.append(f"bars{_label(container)}: {len(points):,}: {_points(points)}")
    for collection in axes.collections[:_SERIES]:
        offsets = collection.get_offsets() if hasattr(collection, "get_sizes") else ()
        if len(offsets):
            points = [tuple(point) for point in offsets]
            lines.append(f"points{_label(collection)}: {len(points):,}: {_points(points)}")
        else:
            lines.append(f"{type(collection).__name__}{_label(collection)}, {len(collection.get_paths()):,} shapes")
    for image in axes.images[:_SERIES]:
        array = image.get_array()
        lines.append(f"image of {' × '.join(map(str, array.shape))} values from {array.min():g} to {array.max():g}")
    rest = [patch for patch in axes.patches if patch not in bars]
    if rest:
        lines.append(f"{len(rest):,} other shapes: {', '.join(sorted({type(patch).__name__ for patch in rest}))}")
    texts = [text.get_text() for text in axes.texts if text.get_text().strip()]
    if texts:
        lines.append(f"text in it: {'; '.join(texts[:_POINTS])}")
    return lines


def _label(artist: Any) -> str:
    """Return a series' label after a blank; nothing where it has none but matplotlib's own, as in "_child0"."""
    label = str(artist.get_label())
    return f" {label!r}" if label and not label.startswith("_") else ""


def _bar(patch: Any, orientation: str | None) -> tuple[float, float]:
    """Return where a bar stands, and how long it is."""
    if orientation == "horizontal":
        return patch.get_y() + patch.get_height() / 2, patch.get_width()
    return patch.get_x() + patch.get_width() / 2, patch.get_height()


def _points(points: Sequence[Any]) -> str:
    """Return points in words: all of few, evenly chosen ones of many, the first and last among them."""
    if len(points) > _POINTS:
        step = (len(points) - 1) / (_POINTS - 1)
        some = [points[round(place * step)] for place in range(_POINTS)]
        return f"{_POINTS} of them: {_points(some)}"
    return ", ".join("(" + ", ".join(map(_number, point)) + ")" for point in points)


def _number(value: Any) -> str:
    try:
        return f"{float(value):.6g}"
    except (TypeError, ValueError):
        return str(value)[:40]


def describe_plotly(figure: Any) -> str:
    """Return a plotly figure in words: title, axes, and its traces with their numbers."""
    layout = figure.layout
    title, across, up = (getattr(part.title, "text", None) for part in (layout, layout.xaxis, layout.yaxis))
    lines = [f"title {title or ''!r}, x {across or ''!r}, y {up or ''!r}"]
    for trace in figure.data[:_SERIES]:
        columns = [getattr(trace, name, None) for name in ("x", "y")]
        if trace.type == "pie":
            columns = [trace.labels, trace.values]
        known = [column for column in columns if column is not None]
        points = list(zip(*known, strict=False)) if known else []
        lines.append(f"{trace.type} {trace.name or ''!r}: {len(points):,} points: {_points(points)}")
    return "\n".join(lines)
