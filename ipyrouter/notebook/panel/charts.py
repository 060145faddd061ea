"""The panel's charts as a picture: of SVG, a JupyterLab that does not trust the notebook leaves nothing but the words.

It is dark on white, because a picture cannot know its reader's theme; a rule beside it (figures.py) turns it over where
that is dark. Figures are drawn without pyplot, which would keep every one of them.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ipyrouter.notebook.rendering import COLOURS
from ipyrouter.types import TIERS, TierName

INCHES, DPI = (8, 2.1), 140
_COLOURS = 16  # and the shades between them and white
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
_TIMES = ["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]  # years to seconds


@dataclass(frozen=True)
class Series:
    """What the charts show: their titles, a value per tier and its words, and the sum up to each of the times (UTC)."""

    title: str
    title_over_time: str
    tiers: Mapping[TierName, float]
    times: Sequence[dt.datetime]
    totals: Sequence[float]
    words: Callable[[float], str]


def draw(series: Series) -> bytes:
    """Return a PNG of two charts: a bar per tier, and the sum over time."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from PIL import Image  # matplotlib brings it

    with rc_context(_STYLE):
        figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        bars, line = figure.subplots(1, 2, width_ratios=(2, 3))
        values = [series.tiers.get(tier, 0.0) for tier in TIERS]
        drawn = bars.barh(TIERS, values, color=[COLOURS[tier] for tier in TIERS], height=0.6)
        bars.bar_label(drawn, [series.words(value) for value in values], padding=3)
        bars.set_title(series.title, loc="left", fontsize=9)
        bars.invert_yaxis()
        bars.set_xlim(0, max(values) * 1.3 or 1)
        bars.set_xticks([])
        bars.spines["bottom"].set_visible(False)
        line.set_title(series.title_over_time, loc="left", fontsize=9)
        times, totals = _with_ends(series)
        line.step(times, totals, where="post", color="#1565c0")
        line.fill_between(times, totals, step="post", color="#1565c0", alpha=0.15, linewidth=0)
        line.set_ylim(0, (series.totals[-1] if series.totals else 0) * 1.1 or 1)
        line.yaxis.set_major_formatter(lambda value, _: series.words(float(f"{value:.6g}")))
        if not series.times:
            line.set_axis_off()
        locator = AutoDateLocator(minticks=2, maxticks=6)
        line.xaxis.set_major_locator(locator)
        line.xaxis.set_major_formatter(ConciseDateFormatter(locator, formats=_TIMES, zero_formats=_TIMES))
        canvas.draw()
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    written = io.BytesIO()
    # A fifth of what all colours would take. By what they cover: the usual way leaves out that of a small bar.
    drawn.quantize(_COLOURS, Image.Quantize.MAXCOVERAGE).save(written, format="png", optimize=True)
    return written.getvalue()


def _with_ends(series: Series) -> tuple[list[dt.datetime], list[float]]:
    """Return the sums with a moment before the first and one behind the last: a single one would be no line."""
    if not series.times:
        return [], []
    first, last = series.times[0], series.times[-1]
    pad = (last - first) / 50 or dt.timedelta(seconds=30)
    return [first - pad, *series.times, last + pad], [0.0, *series.totals, series.totals[-1]]
