"""Figures of one solution: the unknowns, their error, the residual and how the training went.

Each is a pure function of a `Solution`. One coordinate makes lines, two a map; of more, the first
two are shown and the others held at the middle of the region, as the title says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from applications.pinn.solution import Solution
from sciopt.bench.style import new_figure

POINTS = {1: 801, 2: 161}
"""Values of each coordinate shown, for one coordinate and for more."""
COLUMNS = 3
DECADES = 6
"""Of a logarithmic scale below its largest value."""
CURVES = {
    "relative_l2_error": "relative L2 error",
    "loss": "loss on the points trained on",
    "held_out_loss": "loss on points held out",
}
SETTINGS = {"damping": "damping", "lr": "learning rate"}


@dataclass(frozen=True)
class Section:
    """The grid that is shown: coordinates with many values, and with one."""

    shown: Mapping[str, np.ndarray]
    held: Mapping[str, float]

    @property
    def suffix(self) -> str:
        """Where the other coordinates are held, in words."""
        if not self.held:
            return ""
        return "\nat " + ", ".join(f"{name} = {value:.3g}" for name, value in self.held.items())

    def points(self) -> np.ndarray:
        """All points of it."""
        grid = np.meshgrid(*self.shown.values(), *self.held.values(), indexing="ij")
        return np.stack([axis.ravel() for axis in grid], axis=1)

    def shape(self) -> list[int]:
        """The number of values of each coordinate shown."""
        return [len(values) for values in self.shown.values()]


def figures_of(solution: Solution) -> dict[str, Figure]:
    """All figures there can be of a solution, by the names of their files."""
    figures = {"solution": draw_solution(solution), "residual": draw_residual(solution)}
    if solution.reference is not None:
        figures["error"] = draw_error(solution)
    if solution.records:
        figures["training"] = draw_training(solution)
    return figures


def draw_solution(solution: Solution) -> Figure:
    """The unknowns; for one coordinate beside the reference solution."""
    section = _section(solution)
    found = solution.predict(section.points())
    reference = solution.reference
    figure, panels = _panels(len(found))
    for axes, (name, values) in zip(panels, found.items(), strict=True):
        axes.set_title(f"{_title(solution)}: {name}{section.suffix}")
        if len(section.shown) == 1:
            axes.plot(*section.shown.values(), values, label="network")
            if reference is not None:
                axes.plot(*reference.axes.values(), reference.values[name], label="reference")
                axes.legend()
            axes.set_ylabel(f"{name} (dimensionless)")
            _label(axes, solution, section)
        else:
            _map(figure, axes, solution, section, values, f"{name} (dimensionless)")
    return figure


def draw_error(solution: Solution) -> Figure:
    """The distance from the reference solution, on its own grid."""
    reference = solution.reference
    if reference is None:
        raise ValueError(f"{type(solution.problem).__name__} has no reference solution")
    names = list(reference.axes)
    axes_shown = {name: np.asarray(reference.axes[name]) for name in names[:2]}
    middle = {name: len(reference.axes[name]) // 2 for name in names[2:]}
    held = {name: float(reference.axes[name][k]) for name, k in middle.items()}
    known = {name: value[..., *middle.values()] for name, value in reference.values.items()}
    if names[-1] in axes_shown:
        trained = axes_shown[names[-1]] <= solution.reached
        axes_shown[names[-1]] = axes_shown[names[-1]][trained]
        known = {name: value[..., trained] for name, value in known.items()}
    section = Section(axes_shown, held)
    found = solution.predict(section.points())
    figure, panels = _panels(len(found))
    for axes, (name, values) in zip(panels, found.items(), strict=True):
        axes.set_title(f"{_title(solution)}: error of {name}{section.suffix}")
        error = np.abs(values - known[name].ravel())
        _logarithmic(
            figure, axes, solution, section, error, f"|{name} - reference| (dimensionless)"
        )
    return figure


def draw_residual(solution: Solution) -> Figure:
    """What the equations leave, and the points at which they were trained last."""
    section = _section(solution)
    residual = np.abs(solution.residual(section.points()))
    figure, panels = _panels(residual.shape[1])
    count = len(solution.points)
    for number, (axes, values) in enumerate(zip(panels, residual.T, strict=True), start=1):
        which = f"residual of equation {number}" if residual.shape[1] > 1 else "residual"
        axes.set_title(f"{_title(solution)}: {which}{section.suffix}")
        _logarithmic(figure, axes, solution, section, values, "|residual| (dimensionless)")
        points = solution.points[:, : len(section.shown)]
        label = f"{count} collocation points{', projected' if section.held else ''}"
        label += ", elsewhere by symmetry" if solution.problem.symmetry else ""
        if len(section.shown) == 1:
            ground = np.full(len(points), axes.get_ylim()[0])
            axes.scatter(points[:, 0], ground, marker="|", color="black", lw=0.4, label=label)
        else:
            size = float(np.clip(2000 / count, 0.7, 4.0))
            axes.scatter(*points.T, s=size, color="cyan", linewidths=0, label=label)
        axes.set_xlabel(f"{axes.get_xlabel()}\n{label}")
    return figure


def draw_training(solution: Solution) -> Figure:
    """Error and losses against seconds and steps; damping or learning rate on the right."""
    figure, panels = new_figure(1, 2, panel=(4.2, 3.3))
    recorded = {name for record in solution.records for name in record.metrics}
    settings = {name: label for name, label in SETTINGS.items() if name in recorded}
    handles: list[Any] = []
    for axes, x in zip(panels, ("seconds", "step"), strict=True):
        handles = list(_curves(axes, solution, CURVES, x))
        axes.set_title(f"{_title(solution)}: training")
        axes.set(yscale="log", ylabel="error and losses (dimensionless)")
        if settings:
            right = axes.twinx()
            right.spines["right"].set_visible(True)
            right.grid(visible=False)
            handles += _curves(right, solution, settings, x, color="grey", linewidth=0.9)
            right.set(yscale="log", ylabel=f"{' or '.join(settings.values())}\n(dimensionless)")
    panels[0].set_xlabel("training time (seconds)")
    panels[1].set(xlabel="steps", xscale="log")
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _curves(
    axes: Axes, solution: Solution, names: Mapping[str, str], x: str, **style: Any
) -> Iterator[Any]:
    """One line for each metric that was recorded."""
    for name, label in names.items():
        records = [record for record in solution.records if name in record.metrics]
        if records:
            places = [getattr(record, x) for record in records]
            values = [record.metrics[name] for record in records]
            yield from axes.plot(places, values, label=label, **style)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each of so many quantities."""
    columns = min(count, COLUMNS)
    figure, axes = new_figure(math.ceil(count / columns), columns, panel=(4.2, 3.2))
    panels = np.atleast_1d(axes).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _section(solution: Solution) -> Section:
    """The grid on which solution and residual are shown."""
    problem = solution.problem
    names = list(problem.region)
    count = POINTS[min(len(names), 2)]
    shown = {}
    for name in names[:2]:
        low, high = problem.region[name]
        high = solution.reached if name == names[-1] else high
        shown[name] = np.linspace(low, high, count)
        if name in problem.layers():
            position, width = problem.layers()[name]
            first, last = (np.arcsinh((end - position) / width) for end in (low, high))
            inside = position + width * np.sinh(np.linspace(first, last, count))
            shown[name] = np.unique(np.concatenate([shown[name], inside.clip(low, high)]))
    return Section(shown, {name: sum(problem.region[name]) / 2 for name in names[2:]})


def _label(axes: Axes, solution: Solution, section: Section) -> None:
    """Names and ends of the coordinates shown; a layer at zero makes a logarithmic one."""
    sides = (axes.set_xlabel, axes.set_xlim), (axes.set_ylabel, axes.set_ylim)
    for (name, values), (set_label, set_ends) in zip(section.shown.items(), sides, strict=False):
        set_label(f"{name} (dimensionless)")
        position, width = solution.problem.layers().get(name, (math.inf, math.inf))
        if position == values[0] == 0 and width < values[-1] / 1000:
            set_scale = axes.set_xscale if set_label == axes.set_xlabel else axes.set_yscale
            set_scale("symlog", linthresh=width)
        set_ends(values[0], values[-1])


def _title(solution: Solution) -> str:
    return type(solution.problem).__name__


def _map(
    figure: Figure,
    axes: Axes,
    solution: Solution,
    section: Section,
    values: np.ndarray,
    label: str,
    **style: Any,
) -> None:
    """Colours on the section's grid, with their scale."""
    grid = values.reshape(section.shape()).T
    mesh = axes.pcolormesh(*section.shown.values(), grid, rasterized=True, **style)
    axes.grid(visible=False)
    figure.colorbar(mesh, ax=axes, label=label)
    _label(axes, solution, section)


def _logarithmic(
    figure: Figure, axes: Axes, solution: Solution, section: Section, values: np.ndarray, label: str
) -> None:
    """Values of at least zero, over six decades and no more."""
    largest = float(values.max()) or np.finfo(float).tiny
    values = np.maximum(values, largest * 10.0**-DECADES)
    if len(section.shown) == 1:
        axes.plot(*section.shown.values(), values)
        axes.set(yscale="log", ylabel=label)
        _label(axes, solution, section)
    else:
        norm = LogNorm(float(values.min()), float(values.max()) * (1 + 1e-9))
        _map(figure, axes, solution, section, values, label, norm=norm, cmap="magma")
