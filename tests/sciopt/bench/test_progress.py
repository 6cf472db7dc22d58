"""What a user sees while runs are under way, on a terminal and elsewhere."""

import io
from pathlib import Path

from drifter import DRIFTER
from rich.console import Console

from sciopt.bench import Record, Run
from sciopt.bench.progress import ProgressDisplay
from sciopt.bench.runner import Silent, curve_steps, run_one
from sciopt.bench.store import Store

RUN = Run("drift", "walk", max_steps=30)


class Points(Silent):
    def __init__(self) -> None:
        self.points: list[Record] = []

    def point(self, record: Record) -> None:
        self.points.append(record)


def test_a_watcher_is_told_each_point_of_the_curve(tmp_path: Path) -> None:
    points, store = Points(), Store(tmp_path)
    run_one(DRIFTER, RUN, store, watcher=points)
    assert [record.step for record in points.points] == curve_steps(30)
    assert points.points == store.folder(DRIFTER, RUN).load().records


def test_a_terminal_shows_the_metrics_of_the_last_point() -> None:
    screen = io.StringIO()
    with ProgressDisplay(Console(file=screen, force_terminal=True, width=100), 1) as display:
        display.begin("drifter")
        display.point(Record(7, 0.1, {"held_out_loss": 1.25e-9, "damping": 3.0}))
        display.step(9, 30)
    assert "step 7: held out loss 1.25e-09, damping 3" in screen.getvalue()


def test_elsewhere_a_run_is_one_line(tmp_path: Path) -> None:
    screen = io.StringIO()
    with ProgressDisplay(Console(file=screen, width=100), 1) as display:
        run_one(DRIFTER, RUN, Store(tmp_path), watcher=display)
    lines = screen.getvalue().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("[1/1] drifter drift walk seed 0: done in")
