"""`python -m applications.td train`: one agent in any Gymnasium environment, over some seeds.

    python -m applications.td train CartPole-v1 --method relative-surprise --seeds 10 --video

Each seed is a run of the bench, as those of `run`: the same command goes on after Ctrl-C, and does
nothing where all is done.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from applications.td.environment_trial import trial
from applications.td.gym_environments import GymTask, UnfitEnvironmentError, make, task_of
from applications.td.play_command import PlayOptions, check_video, record
from applications.td.training_drawing import draw_training
from applications.td.training_methods import (
    AGENTS,
    POLICY_RULES,
    Method,
    default_agent,
    rules_for,
)
from applications.td.training_run import RECENT, start, take_trained, training_domain
from sciopt.bench import Domain, Result, Run, Status, style
from sciopt.bench.cli import names_first
from sciopt.bench.figures import save_figure
from sciopt.bench.identity import InvalidRunError, device_of, pick
from sciopt.bench.progress import ProgressDisplay
from sciopt.bench.runner import run_one
from sciopt.bench.statistics import bootstrap_interval, interquartile_mean
from sciopt.bench.store import RunFolder, Store

EPISODES = 500
"""Of each seed where no limit is given."""


@dataclass(frozen=True)
class TrainOptions:
    """Who learns, how often, how long and where.

    After an environment's name, --help shows its settings, the agent's and the method's too.
    """

    agent: str = "q-learning"
    """q-learning, sarsa, expected-sarsa, q-network or actor-critic; if not given, the simplest that
    fits; --agent.<setting> changes it"""
    method: str = "relative-surprise"
    """what sets the rates: fixed, surprise, relative-surprise; for networks also adam, obgd,
    intentional, intentional-surprise; --method.<setting> changes it"""
    seeds: tuple[int, ...] = (1,)
    """how many seeds, counted from 0; or two or more seeds themselves"""
    episodes: int | None = None
    """episodes of each seed; if not given 500, or as many as --max-time-steps takes"""
    time_limit: float | None = None
    """seconds of training of each seed; the same command with more of them goes on"""
    video: bool = False
    """record three episodes of the first seed's trained agent"""
    device: str = "cpu"
    """cpu, cuda or cuda:<index>; networks this small are faster on the CPU"""
    threads: int = 1
    """CPU threads; part of the run's identity, because it changes the last bits"""
    results: Path = Path("results")
    """folder of all results"""


@dataclass(frozen=True)
class _First:
    """What decides which settings there are."""

    agent: str = ""
    method: str = TrainOptions.method
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Chosen:
    """All that the command line says."""

    options: TrainOptions
    task: GymTask
    method_name: str
    method: Method


def train(_domain: Domain, arguments: list[str]) -> None:
    """ENVIRONMENT [options]: train an agent in a Gymnasium environment, over some seeds.

    Raises:
        InvalidRunError: an environment, agent or setting that cannot work, in words.
    """
    names = names_first(arguments, ["ENVIRONMENT"], "train")
    if not names:
        tyro.cli(TrainOptions, args=arguments, prog="applications.td train ENVIRONMENT")
        return
    console = Console()
    with _in_words():
        chosen = _choose(names[0], arguments)
        options, task = chosen.options, chosen.task
        seeds = _seeds(options)
        if options.time_limit is not None and not options.time_limit > 0:
            raise InvalidRunError(f"got --time-limit {options.time_limit}; use seconds > 0")
        if options.video:
            check_video(task)
        for notice in trial(task):
            console.print(f"notice: {notice}", style="yellow", markup=False, soft_wrap=True)
        name = re.sub(r"[^A-Za-z0-9.]+", "-", task.environment)
        domain = training_domain(name, task, chosen.method_name, chosen.method)
    runs = [
        Run(
            name,
            chosen.method_name,
            _most_episodes(options, task),
            seed,
            device=options.device,
            threads=options.threads,
        )
        for seed in seeds
    ]
    store = Store(options.results)
    folders = [store.folder(domain, run) for run in runs]
    try:
        with ProgressDisplay(console, len(runs)) as display:
            for run in runs:
                run_one(domain, run, store, max_seconds=options.time_limit, watcher=display)
    except SystemExit:
        Console(stderr=True).print("terminated; the same command goes on from here")
        raise
    results = [folder.load() for folder in folders]
    console.print(_table(results, task))
    _tell_of_ends(console, results)
    kept = _keep(results, folders, chosen)
    for what, where in kept.items():
        console.print(f"{what}: {where}", soft_wrap=True, highlight=False)


@contextmanager
def _in_words() -> Iterator[None]:
    """A user's mistake ends the command in one line."""
    try:
        yield
    except UnfitEnvironmentError as error:
        raise InvalidRunError(str(error)) from error


def _choose(environment: str, arguments: Sequence[str]) -> _Chosen:
    """What is trained and how, as one flat page of the environment's own defaults.

    The page has the options, the task's settings, and --agent., --method. and --policy. ones.
    """
    asked = [argument for argument in arguments if argument not in ("-h", "--help")]
    first, _ = tyro.cli(_First, args=asked, return_unknown_args=True)
    task = task_of(environment, first.arguments)
    made = make(task)
    agent_name = first.agent or default_agent(made)
    made.close()
    agent = pick(AGENTS, agent_name, "agent")
    rule = pick(rules_for(agent), first.method, f"method of {agent_name}")
    flat: Any = tyro.conf.OmitArgPrefixes
    parts: list[tuple[str, Any, Any]] = [
        ("options", flat[TrainOptions], TrainOptions(agent=agent_name)),
        ("task", flat[GymTask], task),
        ("agent_settings", _under("agent", agent), agent),
        ("rule", _under("method", rule), rule),
    ]
    if agent_name == "actor-critic":
        policy_rule = POLICY_RULES[first.method]
        parts.append(("policy_rule", _under("policy", policy_rule), policy_rule))
    fields = [(name, kind, dataclasses.field(default=value)) for name, kind, value in parts]
    page = dataclasses.make_dataclass("Settings", fields, frozen=True)
    said: Any = tyro.cli(page, args=arguments, prog=f"applications.td train {environment}")
    method = Method(
        agent=said.agent_settings,
        rule=said.rule,
        policy_rule=getattr(said, "policy_rule", None),
    )
    return _Chosen(said.options, said.task, f"{agent_name}.{first.method}", method)


def _under(prefix: str, settings: object) -> Any:
    """The settings' class, its options beginning with a prefix."""
    return Annotated[type(settings), tyro.conf.arg(name=prefix)]


def _seeds(options: TrainOptions) -> Sequence[int]:
    """The seeds asked for, by their number or by themselves."""
    given = options.seeds
    seeds = list(range(given[0])) if len(given) == 1 else list(given)
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise InvalidRunError(
            f"got --seeds {' '.join(map(str, given))}; use how many, as --seeds 10, or two or more "
            "different ones, as --seeds 3 5 8"
        )
    return seeds


def _most_episodes(options: TrainOptions, task: GymTask) -> int:
    """The limit of episodes; an episode has a time step or more."""
    if options.episodes is not None:
        return options.episodes
    return EPISODES if task.max_time_steps is None else task.max_time_steps


def _table(results: Sequence[Result], task: GymTask) -> Table:
    """A row for each seed, and the middle of them with its interval."""
    run = results[0].run
    table = Table(title=f"{task.environment}, {run.method.replace('.', ', ')}")
    columns = "seed", "ended", "episodes", "time steps", f"last {RECENT} returns", "evaluation"
    for column in (*columns, "seconds", "time steps / s"):
        table.add_column(column, justify="right")
    recent, tested = [], []
    for result in results:
        returns = result.arrays["episode_returns"]
        time_steps, seconds = result.arrays["episode_lengths"].sum(), result.last.seconds
        recent.append(_mean(returns[-RECENT:], result))
        tested.append(_mean(result.arrays["evaluation_returns"], result))
        table.add_row(
            str(result.run.seed),
            result.status.name.lower().replace("_", " "),
            str(len(returns)),
            f"{time_steps:.0f}",
            *(f"{value:.4g}" for value in (recent[-1], tested[-1])),
            f"{seconds:.1f}",
            f"{time_steps / seconds:.0f}",
        )
    if len(results) > 1:
        table.add_section()
        middle = (_middle(np.array(values)) for values in (recent, tested))
        table.add_row("all", "", "", "", *middle, "", "")
        table.caption = (
            "all: interquartile mean over the seeds with its 95 % bootstrap interval; "
            "diverged ones count as worst"
        )
    return table


def _mean(returns: np.ndarray, result: Result) -> float:
    """The mean return; the worst there is once diverged, and no number without an episode."""
    if result.status.failed:
        return -np.inf
    return float(returns.mean()) if len(returns) else np.nan


def _middle(values: np.ndarray) -> str:
    """Interquartile mean and interval, infinite ones where too many diverged."""
    low, high = bootstrap_interval(-values[None])
    return f"{interquartile_mean(values):.4g} [{-high:.4g}, {-low:.4g}]"


def _tell_of_ends(console: Console, results: Sequence[Result]) -> None:
    """Why seeds diverged, and what goes on where time was out."""
    for result in results:
        if result.status is Status.DIVERGED:
            text = f"seed {result.run.seed} diverged: {result.reason}"
            console.print(text, style="red", markup=False, soft_wrap=True)
    if any(result.status is Status.OUT_OF_TIME for result in results):
        console.print("out of time: the same command with a larger --time-limit goes on")


def _keep(
    results: Sequence[Result], folders: Sequence[RunFolder], chosen: _Chosen
) -> dict[str, Path]:
    """Draw the figure, record the video; where they and the runs are."""
    options, first = chosen.options, folders[0].path
    title = f"{chosen.task.environment}, {chosen.method_name.replace('.', ', ')}"
    what, _, digest = first.name.rsplit(".", 2)
    stem = options.results / "figures" / "td" / f"{what}.{len(results)}-seeds.{digest}"
    with style.context():
        save_figure(draw_training(results, title), stem)
    kept = {"figure": stem.with_name(f"{stem.name}.png")}
    for result, folder in zip(results, folders, strict=True):
        if options.video and not result.status.failed:
            device = device_of(result.run)
            training = start(chosen.task, chosen.method, result.run.seed, device)
            take_trained(training, result.arrays)
            record(training, folder.path / "video", PlayOptions(episodes=3))
            kept["video"] = folder.path / "video"
            break
    return kept | {f"seed {r.run.seed}": f.path for r, f in zip(results, folders, strict=True)}
