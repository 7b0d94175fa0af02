"""Draws the serving figures: reads JSON from standard input, writes SVG. Runs in the environment `plot`.

The same figures make the same file: no date in it, and names that do not change.
"""

import io
import json
import sys
from collections.abc import Mapping
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

_COLOURS: Final = {"sealed": "#0b5fa5", "unsealed": "#8dbbe0", "infinity": "#d1731b", "fastapi": "#9a9a9a"}
_GREY: Final = "#555555"
_WIDTH: Final = 0.2
_STYLE: Final = {"svg.hashsalt": "serving", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}


def draw(figures: Mapping[str, Any]) -> bytes:
    """Return the drawing: tokens a second on the left, latency on the right, grouped by load."""
    mpl.rcParams.update(_STYLE)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    speed, latency = figure.subplots(1, 2)
    for axes, title in ((speed, "Tokens per second"), (latency, "Latency, ms: median, and a line up to p99")):
        axes.set_title(title, loc="left")
        axes.set_xticks(range(len(figures["points"])), [point.replace(", ", ",\n") for point in figures["points"]])
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.15)
    latency.set_yscale("log")
    for number, (name, label) in enumerate(figures["names"].items()):
        places = [
            group + (number - (len(figures["names"]) - 1) / 2) * _WIDTH for group in range(len(figures["points"]))
        ]
        bars = speed.bar(places, figures["tokens_per_second"][name], 0.92 * _WIDTH, color=_COLOURS[name], label=label)
        speed.bar_label(bars, fmt="{:,.0f}", fontsize=7, rotation=90, padding=3, color=_GREY)
        latency.vlines(places, figures["p50_ms"][name], figures["p99_ms"][name], color=_COLOURS[name])
        latency.plot(places, figures["p50_ms"][name], "o", color=_COLOURS[name])
    figure.legend(*speed.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(draw(json.load(sys.stdin)))
