"""A figure's files: SVG, PNG, PDF and, as CSV, every number plotted."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

# Dates in the files would make equal figures differ.
UNDATED: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None},
    ".png": {},
    ".pdf": {"CreationDate": None},
}


def save_figure(figure: Figure, stem: Path) -> str:
    """Write `stem`.svg, .png, .pdf and .csv; returns the SVG's text."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    for suffix, metadata in UNDATED.items():
        figure.savefig(f"{stem}{suffix}", metadata=metadata)
    with Path(f"{stem}.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["panel", "title", "series", "kind", "x", "y", "value"])
        for panel, axes in enumerate(figure.axes, start=1):
            for row in plotted_numbers(axes):
                table.writerow([panel, axes.get_title(), *row])
    return Path(f"{stem}.svg").read_text()


def plotted_numbers(axes: Axes) -> Iterator[tuple[str, str, float, float, float | str]]:
    """Rows (series, kind, x, y, value) of all data drawn: lines, bands, points, bars, images.

    A band's outline is given vertex by vertex; `value` is an image's colour value.
    """
    for artist in (*axes.lines, *axes.collections, *axes.patches, *axes.images):
        series = str(artist.get_label())
        kind, points, values = _drawn(artist)
        for (x, y), value in zip(points, values, strict=True):
            yield series, kind, float(x), float(y), value


def _drawn(artist: Artist) -> tuple[str, np.ndarray, list[float] | list[str]]:
    """Kind, points (n, 2) and values (n) of an artist."""
    match artist:
        case Line2D():
            kind, points = "line", artist.get_xydata()
        case PathCollection():
            kind, points = "points", np.asarray(artist.get_offsets())
        case Rectangle():
            middle = artist.get_x() + artist.get_width() / 2
            kind, points = "bar", np.array([[middle, artist.get_y() + artist.get_height()]])
        case QuadMesh() | AxesImage():
            values = np.ma.filled(np.ma.asarray(artist.get_array(), dtype=float), np.nan)
            rows, columns = np.indices(values.shape[:2])
            points = np.stack([columns.ravel(), rows.ravel()], axis=1)
            return "image", points, values.ravel().tolist()
        case Collection():  # bands, error bars, contour lines: their outlines
            outlines = [np.asarray(path.vertices) for path in artist.get_paths()]
            kind, points = "outline", np.concatenate([np.empty((0, 2)), *outlines])
        case _:
            kind, points = type(artist).__name__, np.empty((0, 2))
    points = np.asarray(points, dtype=float)
    return kind, points, [""] * len(points)
