"""Settings of a problem or method that are dataclasses of settings themselves."""

from dataclasses import dataclass, field, replace

import pytest
from toy import TOY

from sciopt.bench import Run
from sciopt.bench.cli import RunOptions, choose
from sciopt.bench.identity import InvalidRunError, resolve, run_id


@dataclass(frozen=True)
class Inner:
    """A rule."""

    memory: float = 0.5
    clip: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.memory <= 1:
            raise ValueError(f"got memory = {self.memory}")


@dataclass(frozen=True)
class Outer:
    """A method with a rule."""

    rule: Inner = field(default_factory=Inner)
    lr: float = 0.1


DOMAIN = replace(TOY, methods={"nested": Outer()})
PROBLEM = next(iter(DOMAIN.problems))


def run(**overrides: object) -> Run:
    return Run(PROBLEM, "nested", 3, overrides={f"method.{k}": v for k, v in overrides.items()})


def test_a_nested_setting_is_overridden_alone():
    _, method = resolve(DOMAIN, run(**{"rule.memory": 1, "lr": 0.2}))
    assert method == Outer(Inner(memory=1.0), lr=0.2)
    assert isinstance(method.rule.memory, float)


def test_a_nested_setting_decides_which_run_it_is():
    assert run_id(DOMAIN, run(**{"rule.clip": 3})) != run_id(DOMAIN, run())
    assert run_id(DOMAIN, run(**{"rule.clip": 2})) == run_id(DOMAIN, run())


def test_wrong_nested_settings_are_named():
    with pytest.raises(InvalidRunError, match=r"method\.rule\.memry.*method\.rule\.memory"):
        resolve(DOMAIN, run(**{"rule.memry": 0.1}))
    with pytest.raises(InvalidRunError, match=r"got memory = 2"):
        resolve(DOMAIN, run(**{"rule.memory": 2.0}))


def test_the_command_line_changes_nested_settings_by_dotted_names():
    problem = DOMAIN.problems[PROBLEM]
    _, overrides = choose(
        RunOptions(), problem, Outer(), ["--method.rule.memory", "0.75", "--method.lr", "0.1"], "x"
    )
    assert overrides == {"method.rule.memory": 0.75}
