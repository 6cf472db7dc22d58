"""`python -m applications.td play`: a trained agent at work, in numbers or on a video.

python -m applications.td play results/runs/td/CartPole-v1.q-network.obgd.0.1a2b3c --video
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import tyro
from gymnasium.wrappers import RecordVideo
from rich.console import Console
from rich.table import Table

from applications.td.environment_wrappers import VisibleFrames
from applications.td.gym_environments import GymTask, UnfitEnvironmentError, make, quiet
from applications.td.training_methods import AGENTS, POLICY_RULES, Method, rules_for
from applications.td.training_run import Training, start, take_trained
from sciopt.bench import Domain, Run
from sciopt.bench.cli import names_first
from sciopt.bench.identity import InvalidRunError, device_of
from sciopt.bench.store import RunFolder

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class PlayOptions:
    """How often and how the agent plays."""

    episodes: int = 5
    """episodes played"""
    seed: int = 1
    """of the episodes; they are others than those of the run's own evaluation, which has its own"""
    policy: Literal["greedy", "exploring"] = "greedy"
    """the action thought best, or the policy that explores"""
    video: bool = False
    """record each episode as an mp4 in the run's folder"""


def play(_domain: Domain, arguments: list[str]) -> None:
    """RUN_FOLDER [options]: play with the agent that a run of `train` made, or record it.

    Raises:
        InvalidRunError: a folder without such a run, or a video that cannot be made.
    """
    names = names_first(arguments, ["RUN_FOLDER"], "play")
    options = tyro.cli(PlayOptions, args=arguments, prog="applications.td play RUN_FOLDER")
    if options.episodes < 1:
        raise InvalidRunError(f"got --episodes {options.episodes}; use 1 or more")
    folder = Path(names[0])
    try:
        training = trained(folder)
        if options.video:
            check_video(training.task)
            returns = record(training, folder / "video", options)
        else:
            environment = make(training.task)
            greedy = options.policy == "greedy"
            returns = training.play(environment, options.episodes, options.seed, greedy=greedy)
    except UnfitEnvironmentError as error:
        raise InvalidRunError(str(error)) from error
    table = Table("episode", "return", title=f"{training.task.environment}, {options.policy}")
    for number, episode_return in enumerate(returns):
        table.add_row(str(number), f"{episode_return:g}")
    table.add_section()
    table.add_row("mean", f"{np.mean(returns):.6g}")
    console = Console()
    console.print(table)
    if options.video:
        console.print(f"videos: {folder / 'video'}", soft_wrap=True, highlight=False)


def trained(folder: Path) -> Training:
    """A training as a run's folder has it: at its end, or at its last checkpoint.

    Raises:
        InvalidRunError: there is no run of `train` in the folder, or nothing of it that is whole.
    """
    try:
        spec = json.loads((folder / "spec.json").read_text())
        task = _settings(GymTask(environment=""), spec["problem"])
        method = _method(spec["run"]["method"], spec["method"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRunError(
            f"{folder} holds no run of `train` ({type(error).__name__}: {error}); give a folder as "
            "`train` names them, results/runs/td/<environment>.<agent>.<method>.<seed>.<hash>"
        ) from error
    run = Run(**spec["run"])
    training = start(task, method, run.seed, device_of(run))
    kept = RunFolder(folder, run, spec)
    if (folder / "result.json").exists():
        take_trained(training, kept.load().arrays)
        return training
    checkpoint, _ = kept.load_checkpoint()
    if checkpoint is None:
        raise InvalidRunError(
            f"{folder} holds neither a result nor a checkpoint yet; train on, the first one is "
            "written after ten seconds or at Ctrl-C"
        )
    training.load_state_dict(checkpoint["solver"])
    return training


def _method(name: str, written: Mapping[str, Any]) -> Method:
    """The method as it was written, `name` being <agent>.<rule>."""
    agent_name, _, rule_name = name.partition(".")
    agent = AGENTS[agent_name]
    policy_rule = written["policy_rule"]
    return Method(
        agent=_settings(agent, written["agent"]),
        rule=_settings(rules_for(agent)[rule_name], written["rule"]),
        policy_rule=policy_rule and _settings(POLICY_RULES[rule_name], policy_rule),
    )


def _settings(settings: Settings, written: Mapping[str, Any]) -> Settings:
    """Settings of the same class with the values written; JSON knows no tuples."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in written.items()}
    return dataclasses.replace(settings, **values)  # pyright: ignore[reportArgumentType]


def check_video(task: GymTask) -> None:
    """Refuse, before anything is trained, a video that could not be made.

    Raises:
        InvalidRunError: moviepy is not installed, or the environment draws no pictures.
    """
    if importlib.util.find_spec("moviepy") is None:
        raise InvalidRunError(
            "a video needs moviepy, which is not installed; get it by: pip install -c "
            'constraints.txt -e ".[video]"'
        )
    environment = make(task)
    modes = environment.metadata.get("render_modes") or []
    environment.close()
    if "rgb_array" not in modes:
        raise InvalidRunError(
            f"{task.environment} cannot be recorded: it draws {', '.join(modes) or 'nothing'}, and "
            "a video needs rgb_array; leave out --video"
        )


def record(training: Training, folder: Path, options: PlayOptions) -> list[float]:
    """Play and write each episode to `folder` as mp4; the returns."""
    with quiet():
        environment = RecordVideo(
            VisibleFrames(make(training.task, render_mode="rgb_array")),
            str(folder),
            episode_trigger=lambda _: True,
            name_prefix=options.policy,
        )
        greedy = options.policy == "greedy"
        return training.play(environment, options.episodes, options.seed, greedy=greedy)
