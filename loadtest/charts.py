"""Several charts below one another in one SVG file that needs no script and no network."""

from __future__ import annotations

import math
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pygal
from pygal.graph.graph import Graph
from pygal.style import Style

# pygal leaves a finder for its map plugins that Python 3.11 warns of at each import that fails, and 3.12 ignores.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]

WIDTH = 1000
_GAP = 16
_BARS = 40
_SVG = "http://www.w3.org/2000/svg"

# Colours that people with any form of colour blindness tell apart (Okabe and Ito).
_COLOURS = ("#0072b2", "#e69f00", "#d55e00", "#009e73", "#cc79a7")


def options(title: str, height: int, **more: Any) -> dict[str, Any]:
    """The arguments of a pygal chart of this project: same style and width, no script, nothing that moves."""
    style = Style(
        background="#ffffff",
        plot_background="#ffffff",
        colors=_COLOURS,
        font_family="system-ui, sans-serif",
        title_font_size=18,
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=13,
        guide_stroke_color="#dddddd",
        major_guide_stroke_color="#dddddd",
        guide_stroke_dasharray="0",
        major_guide_stroke_dasharray="0",
        transition="none",
    )
    return {
        "title": title,
        "width": WIDTH,
        "height": height,
        "style": style,
        "js": (),
        "legend_at_bottom": True,
        "legend_at_bottom_columns": 5,
        "truncate_legend": -1,
        "truncate_label": -1,
        "include_x_axis": True,
        "max_scale": 6,
        "show_minor_x_labels": False,
        "stroke_style": {"width": 2},
        **more,
    }


def histogram(title: str, times: Mapping[float, int]) -> pygal.Bar:
    """Bars of one width for the number of each time; the last one has all above the 99th percentile, which would
    otherwise make the others narrow.
    """
    width = _bar_width(_upper_limit(times) / _BARS)
    bars = Counter({0: 0})
    for time, number in times.items():
        bars[int(time / width)] += number
    regular = int(_upper_limit(times) / width) + 1
    labels = [f"{index * width:g}" for index in range(regular)] + [f"over {regular * width:g}"]
    numbers = [bars[index] for index in range(regular)]
    chart = pygal.Bar(
        **options(title, 340, show_legend=False, spacing=0),
        x_labels=labels,
        x_labels_major=[*labels[:-1:5], labels[-1]],
    )
    chart.add(title, [*numbers, bars.total() - sum(numbers)])
    return chart


def _upper_limit(times: Mapping[float, int]) -> float:
    remaining = 0.99 * sum(times.values())
    for time in sorted(times):
        remaining -= times[time]
        if remaining <= 0:
            return time or 1.0
    return 1.0


def _bar_width(at_least: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(width for width in (power, 2 * power, 5 * power, 10 * power) if width >= at_least)


def write(title: str, charts: Sequence[Graph], file: Path) -> None:
    """Writes the charts to `file` whole or not at all; its directory is made."""
    ET.register_namespace("", _SVG)
    top = _GAP
    root = ET.Element(f"{{{_SVG}}}svg", {"width": str(WIDTH), "role": "img"})
    ET.SubElement(root, f"{{{_SVG}}}title").text = title
    # Viewers with a dark background would hide the labels.
    ET.SubElement(root, f"{{{_SVG}}}rect", {"width": "100%", "height": "100%", "fill": "#ffffff"})
    for chart in charts:
        drawing = ET.fromstring(chart.render())  # noqa: S314  pygal's own output
        # The configuration of pygal's own script, which is left out.
        for parent in [*drawing.iter()]:
            for script in parent.findall(f"{{{_SVG}}}script"):
                parent.remove(script)
        height = int(chart.config.height)
        drawing.attrib |= {"y": str(top), "width": str(WIDTH), "height": str(height)}
        root.append(drawing)
        top += height + _GAP
    root.attrib |= {"height": str(top), "viewBox": f"0 0 {WIDTH} {top}"}
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.new")
    ET.ElementTree(root).write(new, encoding="utf-8", xml_declaration=True)
    new.replace(file)
