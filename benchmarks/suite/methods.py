"""What learns: our agents by their configurations, and others' code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.suite.sets import TaskSet
from dql_core.config import TrainConfig
from dql_core.data.dataset import load_datasets
from dql_core.errors import ConfigError, did_you_mean
from dql_core.strict_yaml import parse, parse_assignment
from dql_core.training.derived import derive

Source = Literal["ours", "paper", "d3rlpy"]


@dataclass(frozen=True)
class Method:
    """A way to learn.

    Attributes:
        name: On the command line.
        label: In tables.
        source: Whose code learns.
        settings: Of our configuration, beyond its defaults.
        is_derived: Whether the rest is derived from the data, as `dql train` does it.
        trained_as: Name of the method whose last policies it takes; ``settings`` then are of the
            section ``selection``. Empty if it trains.
    """

    name: str
    label: str
    source: Source = "ours"
    settings: dict[str, Any] = field(default_factory=dict)
    is_derived: bool = False
    trained_as: str = ""


METHODS = {
    each.name: each
    for each in (
        Method("paper", "the paper's code", "paper"),
        Method("d3rlpy_td3_bc", "TD3+BC of d3rlpy", "d3rlpy"),
        Method("d3rlpy_iql", "IQL of d3rlpy", "d3rlpy"),
        Method("diffusion_bc", "Diffusion-BC", settings={"agent": "diffusion_bc"}),
        Method(
            "diffusion_bc_epsilon",
            "Diffusion-BC, epsilon",
            settings={"agent": "diffusion_bc", "diffusion.prediction": "epsilon"},
        ),
        Method(
            "diffusion_bc_mode",
            "Diffusion-BC, mode",
            settings={"rule": "mode", "num_candidates": 20},
            trained_as="diffusion_bc",
        ),
        Method("td3_bc", "TD3+BC", settings={"agent": "td3_bc"}),
        Method("paper_preset", "Diffusion-QL, preset: paper", settings={"preset": "paper"}),
        Method("default", "Diffusion-QL"),
        Method(
            "default_epsilon",
            "Diffusion-QL, epsilon",
            settings={
                "diffusion.prediction": "epsilon",
                "policy.max_imitation_ratio": 1.5,
                "selection.rule": "softmax",
            },
        ),
        Method(
            "default_softmax",
            "Diffusion-QL, softmax",
            settings={"rule": "softmax"},
            trained_as="default",
        ),
        Method("derived", "Diffusion-QL, derived", is_derived=True),
        Method(
            "one_step", "Diffusion-QL, one_step", settings={"policy.policy_gradient": "one_step"}
        ),
        Method("mean_flow", "Diffusion-QL, mean_flow", settings={"policy.kind": "mean_flow"}),
    )
}
# The order of tables.
ORDER = list(METHODS)


def find_method(name: str) -> Method:
    """Return a method by its name.

    Raises:
        ConfigError: If there is none.
    """
    if name not in METHODS:
        raise ConfigError(f"--method {name}: no such method{did_you_mean(name, list(METHODS))}")
    return METHODS[name]


def configuration(
    method: Method, task_set: TaskSet, overrides: Sequence[str], **run: Any
) -> TrainConfig:
    """Return the configuration of a method of ours on a set.

    Args:
        method: The method.
        task_set: The set; the paper's preset takes its limit of gradients from it.
        overrides: ``section.key=value`` each, on top.
        run: Of the section ``run``, and ``dataset``.

    Raises:
        ConfigError: If an override is wrong.
        DatasetError: If the rest is to be derived from a dataset that cannot be read.
    """
    document: dict[str, Any] = {"run": dict(run), "data": {"dataset": run.pop("dataset")}}
    document["run"].pop("dataset")
    if method.settings.get("preset") == "paper":
        clip = {"gradient_clip": task_set.gradient_clip}
        document |= {"policy": dict(clip), "critic": dict(clip)}
    assignments = [parse_assignment(each, "--override", "section.key=value") for each in overrides]
    for key, value in [*method.settings.items(), *assignments]:
        *sections, last = key.split(".")
        place = document
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    config = parse(document, TrainConfig, f"--method {method.name}", ConfigError)
    if method.is_derived:
        return derive(load_datasets(config.data.datasets), config).config
    return config
