"""The space of a sweep: which keys of a configuration are tried, and with which values.

Also what a trial's own file says of its values, and of how it ended.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    StrictFloat,
    StrictInt,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from dql_core.config import TrainConfig, changed_config
from dql_core.documents import file_within, read_json
from dql_core.errors import CheckpointError, ConfigError
from dql_core.strict_yaml import StrictModel, parse, problems_in, read_yaml

STEPS = "run.steps"
TRIAL_FILE = "trial.json"
# Where a number between two others is looked at: at one that is hardly whole if it need not be.
BETWEEN = (3 - math.sqrt(5)) / 2
Value = bool | int | float | str | None
Parameters = Mapping[str, Value]
_KEY = re.compile(r"[\w.]+")
# Keys that say nothing of how well a configuration learns, or what is measured: all trials have
# those of the configuration.
_FIXED = {
    "preset": "its keys are settled: search these",
    "run.seed": "it decides which episodes are held out, and the best of several seeds is luck",
    "run.num_threads": "each trial has one thread",
    "run.device": "each trial is a task of one processor or GPU",
    "data.dataset": "trials are compared on the same data",
    "init.run": "trials begin alike",
    "validation": "it decides what is measured",
    "evaluation": "it decides what is measured",
}
# Keys that change the unit of what trials are compared by, or what its errors are taken from.
_RULERS = {
    "judge": ("critic.discount",),
    "td_error": (
        *("agent", "policy.horizon", "data.n_step", "data.reward_scale"),
        "data.reward_transform",
        *("data.reward_boundaries", "critic.kind", "critic.expectile", "critic.discount"),
        *("critic.max_q_samples", "critic.bound_targets", "critic.lower_bound"),
    ),
    "value_error": (
        *("policy.horizon", "data.reward_scale", "data.reward_transform"),
        *("data.reward_boundaries", "critic.discount"),
    ),
    "mean_return": (),
}


def _number(value: Any) -> Any:
    """Return what yaml takes for a text and a user for a number: 1e-4 needs a point there."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


class Range(StrictModel):
    """Numbers that a key may be: integers if both ends are.

    Attributes:
        low: The smallest.
        high: The largest.
        log: Whether the same factor is the same distance, as for learning rates.
        step: Distance between two of them; any number within the ends without it.
    """

    low: StrictInt | StrictFloat
    high: StrictInt | StrictFloat
    log: bool = False
    step: StrictInt | StrictFloat | None = None

    @field_validator("low", "high", "step", mode="before")
    @classmethod
    def _as_number(cls, value: Any) -> Any:
        return _number(value)

    @model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if not (self.low < self.high and math.isfinite(self.high - self.low)):
            raise ValueError("low must be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs a low above 0, and no step")
        if self.step is not None:
            if not self.step > 0:
                raise ValueError("step must be above 0")
            steps = (self.high - self.low) / self.step
            if not 0.5 < steps < math.inf or abs(steps - round(steps)) > 1e-6 * steps:
                raise ValueError("high must be a number of steps above low")
            if self.is_integer and not isinstance(self.step, int):
                raise ValueError("the step between integers is an integer")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether its numbers are integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Value, ...]:
        """Its ends."""
        return self.low, self.high

    def holds(self, value: Value) -> bool:
        """Whether a value is a number within."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    @property
    def values(self) -> tuple[Value, ...] | None:
        """All its numbers; ``None`` if it has any between two of them."""
        if self.step is None and not self.is_integer:
            return None
        step = self.step or 1
        count = round((self.high - self.low) / step) + 1
        # As Optuna makes them, to the bit.
        return tuple(self.low + number * step for number in range(min(count, 10_000)))


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        keys: ``section.key`` of the training configuration, and what it may be: a range, or one
            of several values.
    """

    keys: Mapping[str, Range | tuple[Value, ...]]

    @classmethod
    def read(cls, path: Path, base: TrainConfig) -> Space:
        """Read a space from yaml: ``{low, high, log, step}`` or a list of values for each key.

        Args:
            path: The file.
            base: The configuration whose keys these are.

        Raises:
            ConfigError: Naming the key and the rule that it breaks; also if no configuration
                with one of its ends or values keeps the rules, whatever the other keys are.
        """
        document = {str(key): each for key, each in read_space(path).items()}
        for key, each in document.items():
            _require_searchable(key, base, f"{path}: {key}")
            _require_key(key, each, str(path))
        space = cls({key: _read_values(each, f"{path}: {key}") for key, each in document.items()})
        for key in space.keys:
            for value in space.samples(key):
                space.require_possible(key, value, base, str(path))
        return space

    def samples(self, key: str) -> tuple[Value, ...]:
        """Return the values of a key, or the ends of its range and a number between."""
        values = self.keys[key]
        if not isinstance(values, Range):
            return values
        if values.is_integer or values.step:
            return values.ends
        return *values.ends, values.low + BETWEEN * (values.high - values.low)

    def require_possible(self, key: str, value: Value, base: TrainConfig, where: str) -> None:
        """Refuse a value with which no configuration keeps the rules.

        Another key's value may be needed: each of these is tried.
        """
        try:
            changed_config(base, assignments({key: value}))
        except ConfigError as cause:
            others = (
                {other: each, key: value}
                for other in self.keys
                if other != key
                for each in self.samples(other)
            )
            if not any(invalid(base, parameters) == "" for parameters in others):
                raise ConfigError(f"{where}: {str(cause).removeprefix('--set ')}") from cause

    def holds(self, parameters: Parameters) -> bool:
        """Whether these are values of it, one for each key."""
        return parameters.keys() == self.keys.keys() and all(
            values.holds(parameters[key])
            if isinstance(values, Range)
            else parameters[key] in values
            for key, values in self.keys.items()
        )

    def configurations(self, most: int) -> list[dict[str, Value]] | None:
        """Return all that there are if they are at most so many, else ``None``."""
        choices = [
            values.values if isinstance(values, Range) else values for values in self.keys.values()
        ]
        if any(each is None for each in choices):
            return None
        found = list(islice(product(*(each or () for each in choices)), most + 1))
        if len(found) > most:
            return None
        return [dict(zip(self.keys, each, strict=True)) for each in found]

    def most_steps(self, base: TrainConfig) -> int:
        """Return the updates of the longest trial."""
        if STEPS not in self.keys:
            return base.run.steps
        return max(steps_of(base, {STEPS: value}) for value in self.samples(STEPS))


class TrialDocument(StrictModel):
    """What ``trial.json`` says.

    Attributes:
        parameters: Its values.
        pruned: Whether it was ended early, since others were better.
        failure: Why it failed; empty if it did not.
    """

    parameters: dict[str, Value]
    pruned: bool = False
    failure: str = ""

    @classmethod
    def read(cls, folder: Path) -> TrialDocument:
        """Read that of a trial's folder.

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        path = file_within(folder, TRIAL_FILE, CheckpointError)
        document = read_json(path, CheckpointError)
        return parse(document, cls, f"{path}: damaged", CheckpointError)


def read_space(path: Path) -> dict[str, Any]:
    """Return what a file says of a space, which is not looked at yet.

    Raises:
        ConfigError: If it cannot be read, or names no key.
    """
    return read_yaml(path, ConfigError, "policy.eta: [0.1, 1.0]")


def _require_key(key: str, value: Any, where: str) -> None:
    """Refuse what is no key of a configuration, and a section in the place of its keys."""
    *sections, last = key.split(".")
    document: dict[str, Any] = {last: None}
    for section in reversed(sections):
        document = {section: document}
    for problem in problems_in(document, TrainConfig):
        if problem.startswith("unknown key"):
            raise ConfigError(f"{where}: {problem}")
    if isinstance(getattr(TrainConfig(), key, None), StrictModel):
        inner = next(iter(value.items()), None) if isinstance(value, dict) else None
        line = f"{key}.{inner[0]}: {_flow(inner[1])}" if inner else f"{key}.KEY: [0.1, 1.0]"
        raise ConfigError(f"{where}: {key}: is a section: write {line}")


def _flow(value: Any) -> str:
    """Return a value as yaml in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _read_values(value: Any, where: str) -> Range | tuple[Value, ...]:
    kind: TypeAdapter[Any] = TypeAdapter(Range if isinstance(value, dict) else tuple[Value, ...])
    if isinstance(value, list):
        value = [_number(each) for each in value]
    try:
        values = kind.validate_python(value)
    except ValidationError as cause:
        first = cause.errors()[0]
        place = "".join(f".{part}" for part in first["loc"] if part not in ("int", "float"))
        raise ConfigError(
            f"{where}{place}: {first['msg'].removeprefix('Value error, ')}; write "
            f"{{low: 0.1, high: 1.0, log: true}}, or a list of values"
        ) from cause
    if isinstance(values, tuple):
        if len(set(values)) < max(2, len(values)):  # 1, 1.0 and true are one value
            raise ConfigError(f"{where}: must be different values, two or more")
        if not all(math.isfinite(each) for each in values if isinstance(each, float)):
            raise ConfigError(f"{where}: must be finite values")
    return values  # type: ignore[no-any-return]


def _require_searchable(key: str, base: TrainConfig, where: str) -> None:
    """Refuse a key by which trials could not be compared, and what only resembles one."""
    if not _KEY.fullmatch(key):
        raise ConfigError(f"{where!r}: is no key: write section.key, without blanks and signs")
    for fixed, reason in _FIXED.items():
        if key == fixed or key.startswith(f"{fixed}."):
            raise ConfigError(f"{where}: cannot be searched: {reason}")
    rule = rule_of(base)
    if key in _RULERS[rule]:
        by_judge = "" if key in _RULERS["judge"] else "--set validation.rule=judge or "
        raise ConfigError(
            f"{where}: cannot be searched with validation.rule={rule}, whose figures it changes "
            f"by itself: leave it out, or compare trials by {by_judge}--eval-env"
        )


def assignments(parameters: Parameters) -> list[str]:
    """Return the values of a trial as ``section.key=value`` each."""
    return [f"{key}={json.dumps(value)}" for key, value in parameters.items()]


def invalid(base: TrainConfig, parameters: Parameters) -> str:
    """Return why a configuration with these values breaks a rule; empty if it does not."""
    try:
        changed_config(base, assignments(parameters))
    except ConfigError as cause:
        return str(cause).removeprefix("--set ")
    return ""


def steps_of(base: TrainConfig, parameters: Parameters) -> int:
    """Return the updates of a trial."""
    return int(float(str(parameters.get(STEPS, base.run.steps))))


def rule_of(config: TrainConfig) -> str:
    """Return what decides among trials: one of `ValidationConfig.rule`, or ``mean_return``."""
    return "mean_return" if config.evaluation.env else config.validation.rule


def compared(
    base: TrainConfig, *, is_stated: bool, to_hold_out: float | None = None
) -> TrainConfig:
    """Return a configuration whose trials can be compared: by the judge if nothing else is said.

    Args:
        base: The configuration that the trials change.
        is_stated: Whether its `validation.rule` is what the user asked for.
        to_hold_out: A share of its episodes that could be held out; ``None`` if they are too few.

    Raises:
        ConfigError: If its rule is a loss of the training, or no episodes are held out.
    """
    if base.evaluation.env:
        return base
    if base.validation.held_out == 0:
        remedy = (
            f"add --set validation.held_out={to_hold_out:g}"
            if to_hold_out
            else "there are too few to hold some out: record more"
        )
        raise ConfigError(
            f"trials are compared on held-out episodes, and none are held out: {remedy}, or roll "
            f"trials out with --eval-env ID"
        )
    if base.validation.rule == "bc_loss":
        if is_stated:
            raise ConfigError(
                "--set validation.rule=bc_loss: is the loss of each training, by which trials "
                "cannot be compared: set it to judge, td_error or value_error, or give --eval-env"
            )
        return changed_config(base, ["validation.rule=judge"])
    return base
