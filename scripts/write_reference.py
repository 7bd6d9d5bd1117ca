"""Writes the pages of docs/reference that the code alone decides.

``python scripts/write_reference.py`` writes docs/reference/training.md, every key of a training
configuration, and docs/reference/rewards.md, what a reward function receives and which ones come
with the package. Both are made of the docstrings and types of the code;
tests/core/test_reference_pages.py holds them to it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dql_core import rewards
from dql_core.config import TrainConfig
from dql_core.data_config import InfoName, Weight
from dql_core.presets import PRESETS
from dql_core.spec import FieldSpec, LoggedEpisode, PolicySpec

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")
_ENTRY = re.compile(r"(\w+): (.*)")
_TOP = {
    "agent": "What learns: `diffusion_ql` as in the paper, `diffusion_bc`, which imitates only, "
    "or `td3_bc` (arXiv 2106.06860).",
    "preset": "`paper` sets the keys below, unless the file says otherwise.",
}
_KEYS = "| key | values | default | meaning |\n| --- | --- | --- | --- |"
_TRAINING_HEAD = f"""# The training configuration

Every key of the yaml file that `dql train` reads, with its default; a file states only what
differs. `--set section.key=value` overrides one. An unknown key, or a value out of range, is
refused. What a healthy run looks like: [reading a training run](../explanation/training.md). Why
some defaults differ from the paper's code: [deviations](../explanation/deviations.md).

This page is written by `python scripts/write_reference.py` from `dql_core/config.py` and
`dql_core/data_config.py`.

## Top level

{_KEYS}"""
_REWARDS_HEAD = """# Reward functions and predicates

A contract's [`reward`](contract.md#reward-function), its [predicates](contract.md#predicate) and
`dql relabel` name a Python function as `module:function`. It is called with a whole episode, as
`function(episode, **arguments)`, and returns an array of shape (T,): a finite number for each of
the T transitions, or for a predicate a bool. What it returns for step t belongs to the transition
from `observations[t]` by `actions[t]` to `observations[t + 1]`.

```python
# A module my_task, found with PYTHONPATH=. before the command; in the contract:
# reward: {function: "my_task:smooth", arguments: {joint: elbow}}
import numpy as np

from dql_core.rewards import LoggedEpisode


def smooth(episode: LoggedEpisode, *, joint: str, scale: float = 1.0) -> np.ndarray:
    return -scale * np.abs(np.diff(episode.observation(joint)))
```

This page is written by `python scripts/write_reference.py` from `dql_core/spec.py` and
`dql_core/rewards/functions.py`.

## What a function receives
"""
_KINDS: dict[Any, str] = {bool: "true, false", int: "integer", float: "number", str: "text"}
_KINDS[tuple[str, ...]] = "list of texts"
_KINDS[tuple[Weight, ...]] = "list of numbers above 0"
_KINDS[dict[InfoName, Weight]] = "mapping of names to numbers above 0"
_YIELDS_REWARDS = (
    "distance_to_goal",
    "action_cost",
    "success_bonus",
    "outcome",
    "joint_limit_penalty",
)
_YIELDS_FLAGS = ("within_distance", "outside_bounds")


def pages() -> dict[Path, str]:
    """Return the text of each page by its path."""
    return {
        FOLDER / "training.md": "\n".join(_training()) + "\n",
        FOLDER / "rewards.md": "\n".join(_rewards()) + "\n",
    }


def _training() -> Iterator[str]:
    yield _TRAINING_HEAD
    for name, text in _TOP.items():
        yield _row(name, TrainConfig.model_fields[name], text)
    yield ""
    for name, field in TrainConfig.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            yield from _section(name, model)
    yield "## preset: paper\n\nThe paper's code in these keys, which `preset: paper` sets:\n"
    yield "| key | value |\n| --- | --- |"
    for section, values in PRESETS["paper"].items():
        for key, value in values.items():
            yield f"| `{section}.{key}` | `{_yaml(value)}` |"


def _section(name: str, model: type[BaseModel]) -> Iterator[str]:
    summary, meanings = _documented(model, "Attributes")
    yield f"## {name}\n\n{summary}\n\n{_KEYS}"
    if missing := model.model_fields.keys() - meanings.keys():
        raise LookupError(f"{model.__name__} does not document {sorted(missing)}")
    for key, field in model.model_fields.items():
        yield _row(key, field, meanings[key])
    yield ""


def _row(key: str, field: FieldInfo, meaning: str) -> str:
    default = _yaml(field.get_default(call_default_factory=True))
    cells = f"`{key}`", _values(field), f"`{default}`", meaning.replace("|", "\\|")
    return f"| {' | '.join(cells)} |"


def _values(field: FieldInfo) -> str:
    """Return what a key may be, in words."""
    kinds = [each for each in _alternatives(field.annotation) if each is not NoneType]
    texts = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            texts.append(", ".join(f"`{value}`" for value in get_args(kind)))
        else:
            texts.append(_KINDS[kind])
    texts[-1] += _limits(field)
    return ", ".join(texts + ["null"] * (NoneType in _alternatives(field.annotation)))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _limits(field: FieldInfo) -> str:
    words = {"ge": "from", "gt": "above", "le": "to", "lt": "below"}
    found = [
        f"{word} {getattr(rule, name):,}".removesuffix(".0")
        for name, word in words.items()
        for rule in field.metadata
        if getattr(rule, name, None) is not None
    ]
    patterns = [rule.pattern for rule in field.metadata if getattr(rule, "pattern", None)]
    found += [f"`{pattern}`".replace("|", "\\|") for pattern in patterns]
    return f", {' '.join(found)}" if found else ""


def _yaml(value: Any) -> str:
    """Return a value as it stands in a yaml file."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, tuple):
        return str(list(value))
    return "''" if value == "" else str(value)


def _documented(thing: Any, section: str) -> tuple[str, dict[str, str]]:
    """Return what comes before the sections of a docstring, and a section's entries by name."""
    before: list[str] = []
    entries: dict[str, str] = {}
    current, name = "", ""
    for line in inspect.getdoc(thing).splitlines():  # type: ignore[union-attr]  # lint demands one
        if found := _SECTION.match(line):
            current, name = found[1], ""
        elif not current:
            before.append(line)
        elif current == section and (entry := _ENTRY.match(line.removeprefix("    "))):
            name, entries[entry[1]] = entry[1], entry[2]
        elif current == section and name and line.strip():
            entries[name] += " " + line.strip()
    marks = {key: text.replace("``", "`") for key, text in entries.items()}
    return "\n".join(before).strip().replace("``", "`"), marks


def _rewards() -> Iterator[str]:
    yield _REWARDS_HEAD
    yield from _class(LoggedEpisode, "episode")
    yield "The arrays are read-only. The name of a field that is not there is refused.\n"
    yield from _class(PolicySpec, "episode.spec")
    yield from _class(FieldSpec, "a field of the spec")
    yield "## Rewards that come with the package\n"
    yield "What costs is negative, so that weights are positive.\n"
    for name in _YIELDS_REWARDS:
        yield from _function(name)
    yield "## Predicates that come with the package\n"
    for name in _YIELDS_FLAGS:
        yield from _function(name)


def _class(kind: type, title: str) -> Iterator[str]:
    summary, attributes = _documented(kind, "Attributes")
    yield f"### {title}\n\n{summary}\n\n| attribute | meaning |\n| --- | --- |"
    for name, meaning in attributes.items():
        yield f"| `{name}` | {meaning} |"
    if kind is LoggedEpisode:
        for name, method in vars(kind).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                summary, _ = _documented(method, "Args")
                yield f"| `{name}{_signature(method)}` | {summary} |"
        yield "| `len(episode)` | Number of transitions, T. |"
    yield ""


def _signature(method: Callable[..., Any]) -> str:
    return f"({', '.join(list(inspect.signature(method).parameters)[1:])})"


def _function(name: str) -> Iterator[str]:
    function = getattr(rewards, name)
    summary, arguments = _documented(function, "Args")
    yield f"### dql_core.rewards:{name}\n\n{summary}\n"
    yield "| argument | default | meaning |\n| --- | --- | --- |"
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        empty = parameter.default is inspect.Parameter.empty
        default = "required" if empty else f"`{_yaml(parameter.default)}`"
        yield f"| `{parameter.name}` | {default} | {arguments[parameter.name]} |"
    yield ""


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
