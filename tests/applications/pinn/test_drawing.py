"""The numbers in the figures of a solution, against the solution and the reference."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection, QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from applications.pinn.drawing import (
    draw_error,
    draw_residual,
    draw_solution,
    draw_training,
    figures_of,
)
from applications.pinn.methods import GaussNewton
from applications.pinn.problems import (
    BoundaryLayer,
    Convection,
    KuramotoSivashinsky,
    Poisson5D,
    Robertson,
)
from applications.pinn.solution import Solution
from applications.pinn.solve import Solver
from sciopt.bench import Record, style
from sciopt.bench.figures import save_figure

QUICK = GaussNewton(hidden=(5,), condition_points=16, slab_steps=1)
RECORDS = [
    Record(1, 0.1, {"relative_l2_error": 0.5, "loss": 2.0, "held_out_loss": 3.0, "lr": 0.1}),
    Record(4, 0.3, {"relative_l2_error": 0.2, "loss": 1.0, "held_out_loss": 2.5, "damping": 9.0}),
    Record(9, 0.8, {"relative_l2_error": 0.1, "loss": 0.1, "held_out_loss": 0.2, "damping": 3.0}),
]


def solution_of(problem: Any, steps: int = 1) -> Solution:
    solver = Solver(problem, QUICK, 0, torch.device("cpu"))
    for _ in range(steps):
        solver.step()
    return dataclasses.replace(Solution.of(solver), records=RECORDS)


def drawn(axes: Axes, kind: type[Any]) -> Any:
    (found,) = (artist for artist in axes.collections if isinstance(artist, kind))
    return found


def centres(axes: Axes) -> tuple[np.ndarray, np.ndarray]:
    """Points and colours of a map."""
    mesh = drawn(axes, QuadMesh)
    corners = np.asarray(mesh.get_coordinates())
    middle = (corners[1:, 1:] + corners[:-1, 1:] + corners[1:, :-1] + corners[:-1, :-1]) / 4
    return middle.reshape(-1, 2), np.asarray(mesh.get_array()).ravel()


def test_maps_show_the_solution_its_error_and_its_residual_point_by_point() -> None:
    problem = Convection()
    solution = solution_of(problem)
    with style.context():
        shown, error, residual = (
            draw(solution) for draw in (draw_solution, draw_error, draw_residual)
        )
    points, colours = centres(shown.axes[0])
    found = solution.predict(points.clip([0, 0], [2 * np.pi, 1]))["u"]
    np.testing.assert_allclose(colours, found, atol=0.05 * np.ptp(found))
    points, colours = centres(error.axes[0])
    places = points.clip([0, 0], [2 * np.pi, 1])
    exact = np.sin(places[:, 0] - 30 * places[:, 1])
    expected = np.abs(solution.predict(places)["u"] - exact)
    inside = (np.abs(points - places) < 1e-12).all(axis=1)
    np.testing.assert_allclose(colours[inside], expected[inside], atol=1e-5)
    points, colours = centres(residual.axes[0])
    inside = (points >= 0).all(axis=1) & (points <= [2 * np.pi, 1]).all(axis=1)
    expected = np.abs(solution.residual(points[inside])[:, 0])
    floor = 1e-6 * expected.max() * 1.01
    np.testing.assert_allclose(colours[inside], np.maximum(expected, floor), rtol=1e-3, atol=floor)
    trained = drawn(residual.axes[0], PathCollection)
    np.testing.assert_array_equal(trained.get_offsets(), solution.points)
    assert isinstance(drawn(error.axes[0], QuadMesh).norm, LogNorm)
    assert f"{len(solution.points)} collocation points" in residual.axes[0].get_xlabel()
    for figure, label in ((shown, "u"), (error, "|u - reference|"), (residual, "|residual|")):
        axes, scale = figure.axes
        assert (axes.get_ylabel(), axes.get_title()[:10]) == ("t (dimensionless)", "Convection")
        assert scale.get_ylabel() == f"{label} (dimensionless)"


def test_one_coordinate_is_lines_beside_the_reference() -> None:
    solution = solution_of(BoundaryLayer())
    with style.context():
        (axes,) = draw_solution(solution).axes
        (error,) = draw_error(solution).axes
        (residual,) = draw_residual(solution).axes
    network, reference = axes.lines
    x, u = network.get_data()
    np.testing.assert_array_equal(u, solution.predict(x)["u"])
    # Half of the values lie in the stretched coordinate, so that the layer at x = 1 is seen.
    assert np.sum(np.asarray(x) > 0.99) > 100
    x, u = (np.asarray(values) for values in reference.get_data())
    width = BoundaryLayer().width
    expected = x - (np.exp((x - 1) / width) - np.exp(-1 / width)) / -np.expm1(-1 / width)
    np.testing.assert_allclose(u, expected, atol=1e-13)
    legend = axes.get_legend()
    assert legend and [text.get_text() for text in legend.get_texts()] == ["network", "reference"]
    x, difference = (np.asarray(values) for values in error.lines[0].get_data())
    expected = np.abs(solution.predict(x)["u"] - expected)
    np.testing.assert_allclose(difference, expected, atol=1e-6 * expected.max())
    assert error.get_yscale() == residual.get_yscale() == "log"
    offsets = np.asarray(drawn(residual, PathCollection).get_offsets())
    np.testing.assert_array_equal(offsets[:, 0], solution.points[:, 0])


def test_more_coordinates_are_a_section_named_in_the_title() -> None:
    solution = solution_of(Poisson5D())
    with style.context():
        figures = {name: figure.axes[0] for name, figure in figures_of(solution).items()}
    for name in ("solution", "error", "residual"):
        assert figures[name].get_title().endswith("\nat x3 = 0.5, x4 = 0.5, x5 = 0.5")
    points, colours = centres(figures["solution"])
    inside = (points >= 0).all(axis=1) & (points <= 1).all(axis=1)
    whole = np.pad(points[inside], ((0, 0), (0, 3)), constant_values=0.5)
    np.testing.assert_allclose(colours[inside], solution.predict(whole)["u"], atol=1e-9)
    points, colours = centres(figures["error"])
    places = points.clip(0, 1)
    whole = np.pad(places, ((0, 0), (0, 3)), constant_values=0.5)
    exact = np.cos(np.pi * whole).sum(axis=1)
    np.testing.assert_allclose(colours, np.abs(solution.predict(whole)["u"] - exact), atol=0.3)
    assert "projected" in figures["residual"].get_xlabel()


def test_several_unknowns_have_panels_and_a_layer_at_zero_a_logarithmic_axis() -> None:
    solution = solution_of(Robertson())
    with style.context():
        figure = draw_solution(solution)
    assert [axes.get_title() for axes in figure.axes] == [
        "Robertson: y1",
        "Robertson: y2",
        "Robertson: y3",
    ]
    for axes, name in zip(figure.axes, ("y1", "y2", "y3"), strict=True):
        t, y = axes.lines[0].get_data()
        np.testing.assert_array_equal(y, solution.predict(t)[name])
        assert axes.get_xscale() == "symlog"
        assert axes.get_xlim() == (0.0, 1e5)


def test_time_that_was_not_reached_is_not_shown() -> None:
    solution = solution_of(KuramotoSivashinsky(), steps=2)
    with style.context():
        for figure in (draw_solution(solution), draw_error(solution), draw_residual(solution)):
            points, _ = centres(figure.axes[0])
            assert points[:, 1].max() < 0.21
            assert figure.axes[0].get_ylim()[1] <= solution.reached


def test_training_shows_every_curve_against_seconds_and_steps() -> None:
    with style.context():
        figure = draw_training(solution_of(BoundaryLayer()))
    seconds, steps, right_of_seconds, right_of_steps = figure.axes
    for axes, right, x in (
        (seconds, right_of_seconds, [0.1, 0.3, 0.8]),
        (steps, right_of_steps, [1, 4, 9]),
    ):
        curves = [line.get_data() for line in axes.lines]
        expected = [(0.5, 0.2, 0.1), (2.0, 1.0, 0.1), (3.0, 2.5, 0.2)]
        for (places, values), numbers in zip(curves, expected, strict=True):
            np.testing.assert_array_equal(places, x)
            np.testing.assert_array_equal(values, numbers)
        damping, lr = (line.get_data() for line in right.lines)
        np.testing.assert_array_equal(damping, [x[1:], (9.0, 3.0)])
        np.testing.assert_array_equal(lr, [x[:1], (0.1,)])
        assert right.get_ylabel() == "damping or learning rate\n(dimensionless)"
        assert axes.get_yscale() == right.get_yscale() == "log"
    assert (seconds.get_xlabel(), steps.get_xlabel()) == ("training time (seconds)", "steps")
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 5


def test_figures_are_those_that_can_be_drawn(tmp_path: Path) -> None:
    solution = solution_of(BoundaryLayer())
    assert set(figures_of(solution)) == {"solution", "error", "residual", "training"}

    @dataclasses.dataclass(frozen=True)
    class Unknown(BoundaryLayer):
        def exact(self, x: Any) -> Any:
            return None

    alone = dataclasses.replace(solution, problem=Unknown(), records=())
    assert set(figures_of(alone)) == {"solution", "residual"}
    with pytest.raises(ValueError, match="Unknown has no reference solution"):
        draw_error(alone)


@pytest.mark.parametrize("draw", [draw_solution, draw_error, draw_residual, draw_training])
def test_nothing_is_cut_off_and_every_number_is_written(draw: Any, tmp_path: Path) -> None:
    with style.context():
        figure: Figure = draw(solution_of(Convection()))
        save_figure(figure, tmp_path / "figure")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    width, height = figure.bbox.size
    for axes in figure.axes:
        box = axes.get_tightbbox(canvas.get_renderer())
        assert box is not None
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1
    rows = (tmp_path / "figure.csv").read_text().splitlines()
    on_lines = sum(len(np.asarray(line.get_xdata())) for a in figure.axes for line in a.lines)
    if draw is draw_training:
        assert len(rows) == 1 + on_lines == 1 + 2 * (3 * 3 + 3)
    else:
        assert len(rows) > 1 + np.size(drawn(figure.axes[0], QuadMesh).get_array())
