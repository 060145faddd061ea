"""The panel's charts as a picture: of SVG, a JupyterLab that does not trust the notebook leaves nothing but the words.

It is dark on white, because a picture cannot know its reader's theme. Figures are drawn without pyplot, which would
keep every one of them.
"""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Mapping, Sequence

import numpy as np

from ipyrouter.notebook.rendering import COLOURS
from ipyrouter.text.amounts import dollars
from ipyrouter.types import TIERS, TierName

INCHES, DPI = (8, 2.1), 160
_COLOURS = 32  # and the shades between them and white
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}
_TIMES = ["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"]  # years to seconds


def costs(tiers: Mapping[TierName, float], times: Sequence[dt.datetime], totals: Sequence[float]) -> bytes:
    """Return a PNG of two charts: dollars per tier, and dollars spent up to each of the times (UTC)."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from PIL import Image  # matplotlib brings it

    with rc_context(_STYLE):
        figure = Figure(figsize=INCHES, dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        bars, line = figure.subplots(1, 2, width_ratios=(2, 3))
        values = [tiers.get(tier, 0.0) for tier in TIERS]
        drawn = bars.barh(TIERS, values, color=[COLOURS[tier] for tier in TIERS], height=0.6)
        bars.bar_label(drawn, [dollars(value) for value in values], padding=3)
        bars.set_title("cost per tier", loc="left", fontsize=9)
        bars.invert_yaxis()
        bars.set_xlim(0, max(values) * 1.3 or 1)
        bars.set_xticks([])
        bars.spines["bottom"].set_visible(False)
        line.set_title("spent over time (UTC)", loc="left", fontsize=9)
        line.step(times, totals, where="post", color="#1565c0")
        line.fill_between(times, totals, step="post", color="#1565c0", alpha=0.15, linewidth=0)
        line.set_ylim(0, (totals[-1] if totals else 0) * 1.1 or 1)
        line.yaxis.set_major_formatter(lambda value, _: dollars(float(f"{value:.6g}")))
        if not times:
            line.set_axis_off()
        locator = AutoDateLocator(minticks=2, maxticks=6)
        line.xaxis.set_major_locator(locator)
        line.xaxis.set_major_formatter(ConciseDateFormatter(locator, formats=_TIMES, zero_formats=_TIMES))
        canvas.draw()
        drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    written = io.BytesIO()
    drawn.quantize(_COLOURS).save(written, format="png", optimize=True)  # a fifth of what all colours would take
    return written.getvalue()
