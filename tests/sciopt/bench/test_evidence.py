import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from drifter import DRIFTER, Walker
from matplotlib.figure import Figure

from sciopt.bench import Record, Result, Run, Status, style
from sciopt.bench.evidence import gather, is_complete, present
from sciopt.bench.figures import save_figure
from sciopt.bench.report import write_report
from sciopt.bench.runner import Silent, run_one
from sciopt.bench.store import Store


def test_a_claim_runs_only_what_is_missing_and_leaves_verdict_and_figure(tmp_path: Path) -> None:
    store = Store(tmp_path)
    claim = DRIFTER.claims["it-moves"]
    run_one(DRIFTER, claim.runs[0], store)
    assert not is_complete(DRIFTER, "it-moves", store)
    before = Walker.steps_taken
    evidence = gather(DRIFTER, "it-moves", store, Silent())
    assert Walker.steps_taken - before == 100
    assert is_complete(DRIFTER, "it-moves", store)
    for suffix in (".svg", ".png", ".pdf", ".csv", ".json"):
        assert Path(f"{evidence.stem}{suffix}").stat().st_size > 100
    verdict = json.loads(Path(f"{evidence.stem}.json").read_text())
    assert verdict["numbers"] == dict(evidence.verdict.numbers)


def test_the_csv_holds_every_number_plotted(tmp_path: Path) -> None:
    figure = Figure()
    left, right, third = figure.subplots(1, 3)
    third.pcolormesh([10.0, 20.0, 30.0], [0.0, 1.0], [[5.0, 6.0]])
    third.set_title("mesh")
    left.scatter([7.0], [9.0], c=[0.25], label="coloured")
    left.hist([0.5, 0.6], bins=[0.0, 1.0], histtype="step", label="histogram")
    left.plot([1.0, 2.0], [3.5, 4.5], label="a line")
    left.fill_between([1.0, 2.0], [3.0, 4.0], [5.0, 6.0])
    left.scatter([7.0], [8.0], label="points")
    left.bar([3.0], [9.0])
    right.imshow(np.array([[1.5, 2.5], [3.5, 4.5]]))
    right.set_title("map")
    save_figure(figure, tmp_path / "figure")
    rows = list(csv.DictReader((tmp_path / "figure.csv").read_text().splitlines()))
    line = [(float(r["x"]), float(r["y"])) for r in rows if r["series"] == "a line"]
    assert line == [(1.0, 3.5), (2.0, 4.5)]
    outline = {(float(r["x"]), float(r["y"])) for r in rows if r["kind"] == "outline"}
    assert {(1.0, 3.0), (2.0, 4.0), (1.0, 5.0), (2.0, 6.0)} <= outline
    assert [(float(r["x"]), float(r["y"])) for r in rows if r["series"] == "points"] == [(7.0, 8.0)]
    bar = [(float(r["x"]), float(r["y"])) for r in rows if r["kind"] == "bar"]
    assert bar == [(pytest.approx(2.6), 0.0), (pytest.approx(3.4), 9.0)]
    cells = {
        title: [
            (float(r["x"]), float(r["y"]), float(r["value"])) for r in rows if r["title"] == title
        ]
        for title in ("map", "mesh")
    }
    assert cells["map"] == [(0.0, 0.0, 1.5), (1.0, 0.0, 2.5), (0.0, 1.0, 3.5), (1.0, 1.0, 4.5)]
    assert cells["mesh"] == [(15.0, 0.5, 5.0), (25.0, 0.5, 6.0)]
    assert {r["value"] for r in rows if r["series"] == "coloured"} == {"0.25"}
    steps = {(float(r["x"]), float(r["y"])) for r in rows if r["series"] == "histogram"}
    assert {(0.0, 2.0), (1.0, 2.0)} <= steps


def test_equal_figures_give_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with style.context():
            figure, axes = style.new_figure()
            axes.plot([1, 2], [3, 4], label="line")
            axes.legend()
            save_figure(figure, tmp_path / name)
    for suffix in (".svg", ".png", ".pdf", ".csv"):
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()


def test_curves_show_the_median_and_a_failure_as_infinite() -> None:
    def result(seed: int, values: list[float], status: Status = Status.STEP_LIMIT) -> Result:
        records = [Record(i + 1, i + 1.0, {"error": v}) for i, v in enumerate(values)]
        return Result(Run("p", "m", 3, seed), status, "", records, {}, 0.0)

    _, axes = style.new_figure()
    results = [result(0, [3.0, 2.0, 1.0]), result(1, [5.0, 4.0, 3.0]), result(2, [4.0, 9.0])]
    style.plot_curves(axes, results, "error", x="step")
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [4.0, 4.0, 3.0]
    results[1] = result(1, [5.0, 4.0], Status.DIVERGED)
    style.plot_curves(axes, results, "error", x="step")
    assert np.asarray(axes.lines[1].get_ydata()).tolist() == [4.0, 9.0, 9.0]


def test_a_figure_of_failed_runs_on_log_axes_can_be_saved(tmp_path: Path) -> None:
    results = [
        Result(
            Run("p", "m", 3, seed),
            Status.DIVERGED,
            "",
            [Record(k, float(k), {"error": 1.0}) for k in range(1, 2 + seed)],
            {},
            0.0,
        )
        for seed in range(3)
    ]
    figure, axes = style.new_figure()
    style.plot_curves(axes, results, "error", x="step")
    axes.set_yscale("log")
    save_figure(figure, tmp_path / "figure")
    assert (tmp_path / "figure.svg").exists()


class Page(HTMLParser):
    """Collects visible text and everything the page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.fetched, self.tags = "", [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.fetched.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_one_page_with_sentence_verdict_numbers_and_command(tmp_path: Path) -> None:
    evidence = gather(DRIFTER, "it-moves", Store(tmp_path), Silent())
    file = write_report(tmp_path / "report.html", [evidence], [("td", "later", "Not yet.")])
    page = Page()
    page.feed(file.read_text())
    assert page.fetched == []
    assert "svg" in page.tags and "b" not in page.tags
    text = re.sub(r"\s+", " ", page.text)
    assert "The walker moves <b>away</b> & drifts." in text
    assert "holds: it moved" in text
    assert "python -m applications.drifter claim it-moves" in text
    assert f"distance{evidence.verdict.numbers['distance']:.6g}" in text
    assert "python -m applications.td claim later" in text
    assert "3 runs, 0 diverged" in text


def test_a_stale_figure_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    gather(DRIFTER, "it-moves", store, Silent())
    monkeypatch.setattr("sciopt.bench.store.fingerprint", lambda domain: "other")
    evidence = present(DRIFTER, "it-moves", store)
    assert evidence.stale
    file = write_report(tmp_path / "report.html", [evidence], [])
    assert "the source has changed since" in file.read_text()
