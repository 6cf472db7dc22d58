"""Where the rules' settings live in a parameter group: under torch's names, to be scheduled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from torch import Tensor

from sciopt.rule import Direction, Rate, Rule, check_range

Key = tuple[str, int | None]
"""Where a setting lives in a parameter group: its key, and its place if that holds a tuple."""

RuleT = TypeVar("RuleT", Direction, Rate)


def setting_keys(rules: Sequence[Rule]) -> list[dict[str, Key]]:
    """Each rule's settings by field: the torch key, prefixed by the rule where that is taken."""
    taken: set[Key] = set()
    keys: list[dict[str, Key]] = []
    for rule in rules:
        of_rule: dict[str, Key] = {}
        for each in fields(rule):
            place = each.metadata.get("key", (each.name, None))
            if place is None:
                continue
            if place in taken:
                place = (f"{type(rule).__name__}.{each.name}", None)
            if place in taken:
                raise ValueError(f"a composition can hold one {type(rule).__name__}, got two")
            taken.add(place)
            of_rule[each.name] = place
        keys.append(of_rule)
    return keys


def settings_of(rules: Sequence[Rule], keys: Sequence[Mapping[str, Key]]) -> dict[str, Any]:
    """The rules' settings as a parameter group holds them.

    Tuples are pairs, and a place that no rule reads is zero: betas[0] without momentum.
    """
    settings: dict[str, Any] = {}
    for rule, of_rule in zip(rules, keys, strict=True):
        for name, (key, place) in of_rule.items():
            if place is None:
                settings[key] = getattr(rule, name)
            else:
                values = list(settings.get(key, (0.0, 0.0)))
                values[place] = getattr(rule, name)
                settings[key] = tuple(values)
    return settings


def with_settings(rule: RuleT, keys: Mapping[str, Key], group: Mapping[str, Any]) -> RuleT:
    """The rule with the group's settings, which it checks."""
    settings = {
        name: group[key] if place is None else group[key][place]
        for name, (key, place) in keys.items()
    }
    return replace(rule, **settings)


def checked(group: dict[str, Any]) -> dict[str, Any]:
    """The group, once the settings that belong to no rule are in range."""
    lr = group["lr"]
    if isinstance(lr, Tensor) and lr.ndim != 0:
        raise ValueError(f"a tensor lr must have no axes, got shape {tuple(lr.shape)}")
    check_range("lr", float(lr))
    if len(betas := group.get("betas", (0.0, 0.0))) != 2:
        raise ValueError(f"betas must be two numbers, got {betas!r}")
    check_range("weight_decay", group["weight_decay"])
    return group
