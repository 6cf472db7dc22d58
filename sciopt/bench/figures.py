"""A figure's files: SVG, PNG, PDF and, as CSV, every number plotted."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PathCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

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

    A band's outline is given vertex by vertex, a bar by two opposite corners, an image by the
    centres of its cells; `value` is what colours an image or points.
    """
    for artist in (*axes.lines, *axes.collections, *axes.patches, *axes.images):
        series = str(artist.get_label())
        kind, points, values = _drawn(artist)
        for (x, y), value in zip(points, values, strict=True):
            yield series, kind, float(x), float(y), value


def _drawn(artist: Artist) -> tuple[str, np.ndarray, Sequence[float | str]]:
    """Kind, points (n, 2) and values (n) of an artist."""
    match artist:
        case Line2D():
            kind, points = "line", artist.get_xydata()
        case PathCollection():
            kind, points = "points", np.asarray(artist.get_offsets())
            if (values := artist.get_array()) is not None:
                return kind, np.asarray(points, dtype=float), np.asarray(values).tolist()
        case Rectangle():
            kind, points = "bar", artist.get_bbox().get_points()
        case AxesImage() | QuadMesh():
            return "image", *_cells(_centres(artist), artist.get_array())
        case Collection():  # bands, error bars, contour lines: their outlines
            outlines = [np.asarray(path.vertices) for path in artist.get_paths()]
            kind, points = "outline", np.concatenate([np.empty((0, 2)), *outlines])
        case Patch():
            kind, points = "outline", artist.get_patch_transform().transform_path(artist.get_path())
            points = points.vertices
        case _:
            raise TypeError(
                f"{artist} cannot be written as CSV; draw lines, points, bars or images"
            )
    points = np.asarray(points, dtype=float)
    return kind, points, [""] * len(points)


def _centres(image: AxesImage | QuadMesh) -> np.ndarray:
    """The centres (rows, columns, 2) of an image's cells, in data coordinates."""
    if isinstance(image, QuadMesh):
        corners = np.asarray(image.get_coordinates(), dtype=float)
        return (corners[:-1, :-1] + corners[1:, 1:]) / 2
    rows, columns = image.get_size()
    left, right, bottom, top = image.get_extent()
    first, last = (top, bottom) if image.origin == "upper" else (bottom, top)
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = first + (np.arange(rows) + 0.5) * (last - first) / rows
    return np.stack(np.meshgrid(x, y), axis=-1)


def _cells(centres: np.ndarray, values: Any) -> tuple[np.ndarray, Sequence[float | str]]:
    """Points and values of an image's cells, row by row; a colour is its channels in words."""
    filled = np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)
    channels = filled.reshape(centres.shape[0] * centres.shape[1], -1)
    written = [" ".join(f"{v:g}" for v in cell) for cell in channels]
    return centres.reshape(-1, 2), channels[:, 0].tolist() if channels.shape[1] == 1 else written
