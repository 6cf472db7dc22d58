import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from drifter import DRIFTER, Walker

from sciopt.bench import Result, Run, Status, identity, runner
from sciopt.bench.identity import InvalidRunError, run_id
from sciopt.bench.runner import Silent, curve_steps, run_one
from sciopt.bench.store import Condition, Store

RUN = Run("drift", "walk", max_steps=200, seed=1)


class Notes(Silent):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def note(self, message: str) -> None:
        self.messages.append(message)


def do(run: Run, folder: Path, **options: object) -> Result:
    store = Store(folder)
    run_one(DRIFTER, run, store, **options)  # pyright: ignore[reportArgumentType]
    return store.folder(DRIFTER, run).load()


def path_of(run: Run, folder: Path) -> Path:
    return Store(folder).folder(DRIFTER, run).path


def assert_same_outcome(one: Result, other: Result) -> None:
    assert [(r.step, dict(r.metrics)) for r in one.records] == [
        (r.step, dict(r.metrics)) for r in other.records
    ]
    np.testing.assert_array_equal(one.arrays["position"], other.arrays["position"])
    assert (one.status, one.reason) == (other.status, other.reason)


def signal_in_step(monkeypatch: pytest.MonkeyPatch, number: int, which: signal.Signals) -> None:
    """Send this process a signal while a walker takes its step of that number."""
    step = Walker.step

    def step_with_signal(walker: Walker) -> object:
        if walker.count + 1 == number:
            os.kill(os.getpid(), which)
        return step(walker)

    monkeypatch.setattr(Walker, "step", step_with_signal)


def test_curve_points_are_log_spaced_with_first_and_last() -> None:
    steps = curve_steps(10_000)
    assert steps[0] == 1 and steps[-1] == 10_000
    assert 45 <= len(steps) <= 60
    ratios = np.diff(np.log([s for s in steps if s > 100]))
    np.testing.assert_allclose(ratios, np.log(10_000) / 59, rtol=0.05)
    assert curve_steps(1) == [1]
    assert curve_steps(3) == [1, 2, 3]


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    first = do(RUN, tmp_path)
    before = Walker.steps_taken
    second = do(RUN, tmp_path)
    assert Walker.steps_taken == before
    assert_same_outcome(first, second)
    assert first.status is Status.STEP_LIMIT
    assert first.last.step == 200


def test_the_clock_stands_still_during_evaluation_and_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(problem: object, solver: Walker) -> dict[str, float]:
        time.sleep(0.05)
        return {"distance": 0.0}

    monkeypatch.setitem(DRIFTER.__dict__, "evaluate", slow)
    result = do(Run("drift", "walk", 10, overrides={"method.pause": 0.01}), tmp_path)
    seconds = [record.seconds for record in result.records]
    assert seconds == sorted(seconds)
    # Ten steps of at least 10 ms; ten evaluations of 50 ms would make it more than 0.6 s.
    assert 0.1 <= seconds[-1] < 0.4


def test_divergence_is_an_outcome_with_step_and_reason(tmp_path: Path) -> None:
    result = do(Run("drift", "walk", 200, overrides={"problem.diverges_at": 20}), tmp_path)
    assert result.status is Status.DIVERGED
    assert "distance is nan at step 20" in result.reason or "nan at step 21" in result.reason
    assert np.isnan(result.last.metrics["distance"])
    lines = (path_of(result.run, tmp_path) / "curve.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["metrics"]["distance"] is None


def test_a_solver_that_ends_itself_says_why(tmp_path: Path) -> None:
    result = do(Run("drift", "walk", 200, overrides={"method.ends_at": 33}), tmp_path)
    assert (result.status, result.reason) == (Status.CONVERGED, "walked far enough")
    assert result.last.step == 33


def test_the_time_limit_ends_a_run(tmp_path: Path) -> None:
    run = Run("drift", "walk", 1000, overrides={"method.pause": 0.02})
    result = do(run, tmp_path, max_seconds=0.2)
    assert result.status is Status.OUT_OF_TIME
    assert 2 <= result.last.step <= 11


def test_a_run_cut_by_a_time_limit_goes_on_under_a_larger_one(tmp_path: Path) -> None:
    run = Run("drift", "walk", 600, overrides={"method.pause": 0.0005})
    cut = do(run, tmp_path, max_seconds=0.25)
    assert 10 < cut.last.step < 600
    assert cut.status is Status.OUT_OF_TIME
    before = Walker.steps_taken
    assert do(run, tmp_path, max_seconds=0.25).last.step == cut.last.step
    assert Walker.steps_taken == before
    assert_same_outcome(do(run, tmp_path), do(run, tmp_path / "whole"))
    assert Walker.steps_taken - before == 2 * 600 - cut.last.step


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_uses_the_threads_it_names(threads: int, tmp_path: Path) -> None:
    if (os.cpu_count() or 1) < threads:
        pytest.skip("too few cores")
    before = torch.get_num_threads()
    Walker.threads_seen.clear()
    do(Run("drift", "walk", 3, threads=threads), tmp_path)
    # A library begun with fewer threads (OMP_NUM_THREADS) cannot be given more than it had.
    for torchs, largest in Walker.threads_seen:
        assert torchs == threads
        assert largest <= threads
    assert torch.get_num_threads() == before


TOGETHER = """
import sys
from pathlib import Path
from drifter import DRIFTER
from sciopt.bench import Run
from sciopt.bench.runner import run_one
from sciopt.bench.store import Store
run = Run("drift", "walk", 100, overrides={"method.pause": 0.01})
run_one(DRIFTER, run, Store(Path(sys.argv[1])))
from drifter import Walker
print(Walker.steps_taken)
"""


def test_two_processes_on_one_run_do_it_once(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", TOGETHER, str(tmp_path)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    taken = sorted(int(process.communicate()[0]) for process in both)
    assert taken == [0, 100]
    run = Run("drift", "walk", 100, overrides={"method.pause": 0.01})
    assert Store(tmp_path).folder(DRIFTER, run).condition() is Condition.DONE


def test_a_state_that_could_not_be_loaded_again_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Walker, "state_dict", lambda walker: {"count": np.float64(1.0)})
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(TypeError, match="float"):
        do(RUN, tmp_path)


@pytest.mark.parametrize("after", [1, 57, 58, 199])
def test_a_run_stopped_by_a_signal_goes_on_from_there(
    after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = do(RUN, tmp_path / "whole")
    signal_in_step(monkeypatch, after, signal.SIGTERM)
    with pytest.raises(SystemExit) as exit_info:
        do(RUN, tmp_path / "parts")
    assert exit_info.value.code == 143
    monkeypatch.undo()
    before = Walker.steps_taken
    written = json.loads((path_of(RUN, tmp_path / "parts") / "spec.json").read_text())
    assert written["domain"] == "drifter"
    state, _ = Store(tmp_path / "parts").folder(DRIFTER, RUN).load_checkpoint()
    assert state is not None
    resumed = do(RUN, tmp_path / "parts")
    assert Walker.steps_taken - before == 200 - after
    assert_same_outcome(uninterrupted, resumed)
    seconds = [record.seconds for record in resumed.records]
    assert seconds == sorted(seconds)
    assert next(r.seconds for r in resumed.records if r.step > after) > state["seconds"] > 0
    assert resumed.start_seconds == state["start_seconds"]


def test_a_signal_in_the_step_that_ends_a_run_stops_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("drift", "walk", 50, overrides={"method.ends_at": 20})
    signal_in_step(monkeypatch, 20, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        do(run, tmp_path)
    assert Store(tmp_path).folder(DRIFTER, run).condition() is Condition.DONE


def test_a_run_of_a_library_starts_again_after_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("drift", "walk", 50, overrides={"method.resumable": False})
    whole = do(run, tmp_path / "whole")
    signal_in_step(monkeypatch, 21, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        do(run, tmp_path / "parts")
    monkeypatch.undo()
    assert_same_outcome(whole, do(run, tmp_path / "parts"))


KILLED = """
import sys
from pathlib import Path
from drifter import DRIFTER
from sciopt.bench import Run, runner
from sciopt.bench.store import Store
runner.CHECKPOINT_SECONDS = 0.0
runner.SHOW_SECONDS = 0.002
store = Store(Path(sys.argv[1]))
print("ready", flush=True)
for seed in range(6):
    run = Run("drift", "walk", 300, seed, overrides={"method.pause": 0.0005})
    runner.run_one(DRIFTER, run, store)
    print("done", seed, flush=True)
"""


def test_kill_9_at_random_times_loses_nothing_reported_as_done(tmp_path: Path) -> None:
    runs = [
        Run("drift", "walk", 300, seed, overrides={"method.pause": 0.0005}) for seed in range(6)
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    generator = np.random.default_rng(0)
    store = Store(tmp_path / "killed")
    done: set[int] = set()
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(store.root)],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(generator.uniform(0.02, 0.5))
        process.kill()
        done |= {int(line.split()[1]) for line in process.stdout.read().splitlines()}
        process.wait()
        process.stdout.close()
        for seed in done:
            assert store.folder(DRIFTER, runs[seed]).condition() is Condition.DONE
    before = Walker.steps_taken
    for run in runs:
        assert_same_outcome(do(run, store.root), do(run, tmp_path / "whole"))
    assert Walker.steps_taken - before < 2 * 6 * 300


def test_the_latest_checkpoint_survives_damage_to_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = do(RUN, tmp_path / "whole")
    monkeypatch.setattr(runner, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(runner, "SHOW_SECONDS", 0.0)
    signal_in_step(monkeypatch, 101, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        do(RUN, tmp_path / "parts")
    monkeypatch.undo()
    checkpoints = sorted(path_of(RUN, tmp_path / "parts").glob("checkpoint-*.pt"))
    assert len(checkpoints) == 2
    content = bytearray(checkpoints[-1].read_bytes())
    content[len(content) // 2] ^= 1
    checkpoints[-1].write_bytes(content)
    notes = Notes()
    assert_same_outcome(whole, do(RUN, tmp_path / "parts", watcher=notes))
    assert any(checkpoints[-1].name in message for message in notes.messages)


@pytest.mark.parametrize("harm", ["truncated", "emptied", "flipped", "removed"])
@pytest.mark.parametrize(
    "name", ["spec.json", "environment.json", "curve.jsonl", "arrays.npz", "result.json"]
)
def test_a_damaged_file_is_named_and_the_run_done_again(
    name: str, harm: str, tmp_path: Path
) -> None:
    if (name, harm) == ("result.json", "removed"):
        pytest.skip("without a result the run simply is not finished")
    first = do(RUN, tmp_path)
    file = path_of(RUN, tmp_path) / name
    content = bytearray(file.read_bytes())
    if harm == "removed":
        file.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"truncated": content[:middle], "emptied": b"", "flipped": flipped}[harm])
    notes = Notes()
    before = Walker.steps_taken
    again = do(RUN, tmp_path, watcher=notes)
    assert Walker.steps_taken - before == 200
    assert_same_outcome(first, again)
    assert any(str(file) in message for message in notes.messages)
    assert len(list(path_of(RUN, tmp_path).parent.glob("*.damaged-*"))) == 1


def test_a_run_made_by_other_source_is_stale_and_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(RUN, tmp_path)
    monkeypatch.setattr("sciopt.bench.store.fingerprint", lambda domain: "other")
    assert Store(tmp_path).folder(DRIFTER, RUN).condition() is Condition.STALE
    notes, before = Notes(), Walker.steps_taken
    do(RUN, tmp_path, watcher=notes)
    assert Walker.steps_taken - before == 200
    assert "other source" in notes.messages[0]
    assert Store(tmp_path).folder(DRIFTER, RUN).condition() is Condition.DONE


def test_everything_that_decides_a_result_is_in_the_identity() -> None:
    variants = [
        RUN,
        Run("drift", "walk", 201, 1),
        Run("drift", "walk", 200, 2),
        Run("drift", "walk", 200, 1, {"problem.drift": 0.2}),
        Run("drift", "walk", 200, 1, {"method.pause": 1.0}),
        Run("drift", "walk", 200, 1, device="cuda"),
        Run("drift", "walk", 200, 1, threads=2),
    ]
    assert len({run_id(DRIFTER, run) for run in variants}) == len(variants)


def test_overrides_that_change_nothing_are_the_same_run() -> None:
    same = [RUN, Run("drift", "walk", 200, 1, {"problem.drift": 0.1, "method.pause": 0})]
    assert len({run_id(DRIFTER, run) for run in same}) == 1
    whole = [Run("drift", "walk", 9, 1, {"problem.drift": drift}) for drift in (5, 5.0)]
    assert len({run_id(DRIFTER, run) for run in whole}) == 1


def test_overrides_are_applied_together(tmp_path: Path) -> None:
    # Each alone is refused by the settings; both together are fine.
    both = {"problem.lowest": 2.0, "problem.drift": 3.0}
    assert do(Run("drift", "walk", 2, overrides=both), tmp_path).last.step == 2
    with pytest.raises(InvalidRunError, match="lowest"):
        do(Run("drift", "walk", 2, overrides={"problem.lowest": 2.0}), tmp_path)


@pytest.mark.parametrize(
    ("file", "matters"),
    [
        ("lib/rule.py", True),
        ("lib/rates/noise.py", True),
        ("room/solve.py", True),
        ("room/table.npz", True),
        ("lib/bench/report.py", False),
        ("room/reference/claims.py", True),
        ("room/claims/__init__.py", False),
        ("room/claims/first.py", False),
        ("room/drawing.py", False),
        ("room/__main__.py", False),
        ("room/README.md", False),
    ],
)
def test_the_fingerprint_is_of_what_can_change_a_number(
    file: str, matters: bool, tmp_path: Path
) -> None:
    names = ["lib/rule.py", "lib/rates/noise.py", "lib/bench/report.py", "room/README.md"]
    names += ["room/solve.py", "room/reference/claims.py", "room/drawing.py", "room/__main__.py"]
    names += ["room/claims/__init__.py", "room/claims/first.py", "room/table.npz"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")

    def hashed() -> str:
        identity._fingerprint.cache_clear()
        data, without_effect = (tmp_path / "room/table.npz",), ("claims", "drawing")
        return identity._fingerprint(tmp_path / "lib", tmp_path / "room", without_effect, data)

    before = hashed()
    assert hashed() == before
    (tmp_path / file).write_text("after")
    assert (hashed() != before) is matters


def test_the_fingerprint_names_the_packages_that_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity._fingerprint.cache_clear()
    before = identity._fingerprint(tmp_path, tmp_path, (), ())
    monkeypatch.setattr(identity, "package_versions", lambda: {"torch": "0.1"})
    identity._fingerprint.cache_clear()
    assert identity._fingerprint(tmp_path, tmp_path, (), ()) != before
    identity._fingerprint.cache_clear()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (Run("drfit", "walk", 5), "did you mean 'drift'"),
        (Run("drift", "wlak", 5), "did you mean 'walk'"),
        (Run("drift", "walk", 5, overrides={"method.pose": 1}), "did you mean 'method.pause'"),
        (Run("drift", "walk", 5, overrides={"problem.drift": -1.0}), "drift is -1.0"),
        (Run("drift", "walk", 5, overrides={"problem.drift": 2e6}), "fits no method"),
        (Run("drift", "walk", 0), "max_steps is 0"),
        (Run("drift", "walk", 5, seed=-1), "seed -1"),
        (Run("drift", "walk", 5, device="gpu"), "unknown device 'gpu'"),
        (Run("drift", "walk", 5, device="meta"), "'meta' is not supported"),
        (Run("drift", "walk", 5, threads=10**6), "threads 1000000"),
        (Run("drift", "walk", 10**20), "max_steps is 1"),
        (Run("drift", "walk", 5, overrides={"problem.drift": "far"}), "drift"),
        (Run("drift", "walk", 5, overrides={"method.ends_at": {1, 2}}), "written as JSON"),
    ],
)
def test_a_run_that_cannot_start_says_what_to_do(run: Run, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRunError, match=message):
        do(run, tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRunError, match="torch finds none here"):
        do(Run("drift", "walk", 5, device="cuda"), tmp_path)


def test_a_pickle_bomb_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    import hashlib
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'exploded'}",)

    folder = Store(tmp_path).folder(DRIFTER, RUN)
    folder.begin()
    content = pickle.dumps(Bomb(), protocol=2)
    digest = hashlib.sha256(content).hexdigest()[:16]
    (folder.path / f"checkpoint-{5:012d}-{digest}.pt").write_bytes(content)
    with pytest.raises(pickle.UnpicklingError):
        do(RUN, tmp_path)
    assert not (tmp_path / "exploded").exists()
