"""What is drawn is what was given, stacked and labelled so that it can be read."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import Collection
from matplotlib.text import Annotation

from applications.portfolio.backtest import Backtest, walk_forward
from applications.portfolio.drawing import draw_allocation, draw_backtest, draw_frontier
from sciopt.bench import style

NAMES = [f"A{k:02d}" for k in range(14)]
RANDOM = np.random.default_rng(3)


def heights(area: Collection) -> np.ndarray:
    return np.concatenate([np.asarray(path.vertices)[:, 1] for path in area.get_paths()])


def test_labels_cover_neither_each_other_nor_the_points() -> None:
    assets = pd.DataFrame(
        {
            "volatility": RANDOM.uniform(0.2, 0.25, 14),
            "return": RANDOM.uniform(0.05, 0.08, 14),
            "weight": [0.5, 0.5, *[0.0] * 12],
        },
        NAMES,
    )
    frontier = pd.DataFrame({"volatility": [0.18, 0.2, 0.24], "return": [0.05, 0.07, 0.08]})
    with style.context():
        figure = draw_frontier(frontier, assets, (0.2, 0.07), "least variance")
    (axes,) = figure.axes
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(labels) > 7
    extents = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in combinations(extents, 2))
    points = 100 * assets[["volatility", "return"]].to_numpy()
    pixels = axes.transData.transform(points)
    assert not any(extent.contains(*pixel) for extent in extents for pixel in pixels)
    held, other = axes.collections
    np.testing.assert_allclose(np.asarray(held.get_offsets()), points[:2])
    np.testing.assert_allclose(np.asarray(other.get_offsets()), points[2:])


def test_areas_along_the_frontier_add_up_to_everything_invested() -> None:
    weights = pd.DataFrame(RANDOM.dirichlet(np.ones(14), 5), columns=NAMES)
    with style.context():
        figure = draw_allocation(weights, np.linspace(0.1, 0.3, 5), 0.2)
    (axes,) = figure.axes
    *named, rest = axes.collections
    assert len(named) == 9
    assert rest.get_label() == "5 others"
    assert heights(rest).max() == pytest.approx(100)


def test_short_positions_are_stacked_below_zero() -> None:
    weights = pd.DataFrame([[1.3, -0.1, -0.2], [0.5, 0.2, 0.3]], columns=list("XYZ"))
    with style.context():
        figure = draw_allocation(weights, np.array([0.1, 0.2]), 0.2)
    (axes,) = figure.axes
    found = np.concatenate([heights(area) for area in axes.collections])
    assert found.min() == pytest.approx(-30)
    assert found.max() == pytest.approx(130)


def test_a_backtest_shows_wealth_drawdown_and_turnover_of_each_strategy() -> None:
    values = 0.01 * RANDOM.standard_normal((300, 3))
    returns = pd.DataFrame(values, pd.bdate_range("2020-01-01", periods=300), list("XYZ"))
    tests = {
        name: Backtest.of(
            list(walk_forward(returns, lambda p, h, w=w: np.array(w), window=50, every=21)), "XYZ"
        )
        for name, w in {"equal weight": [1 / 3] * 3, "first": [1.0, 0.0, 0.0]}.items()
    }
    with style.context():
        figure = draw_backtest(tests, 0.001)
    wealth, drawdown, turnover = figure.axes
    for number, test in enumerate(tests.values()):
        wanted = (test.wealth(), 100 * test.drawdown(), 100 * test.turnover[1:])
        for axes, values in zip((wealth, drawdown, turnover), wanted, strict=True):
            np.testing.assert_allclose(np.asarray(axes.lines[number].get_ydata()), values)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(tests)
