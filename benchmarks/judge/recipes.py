"""Trainings whose checkpoints are judged: good ones, short ones, and bad ones made on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.judge.splits import ARM, Part
from benchmarks.suite.methods import Method
from dql_core.errors import ConfigError
from dql_core.strict_yaml import read_yaml
from dql_ros.config_files import installed_config

# Beside the defaults: the cheaper gradient, and rewards of a few units for a step.
_QUICK: dict[str, Any] = {"policy.policy_gradient": "one_step", "data.reward_scale": 0.1}
_OF_CRITICS = ("critic.", "data.", "policy.policy_gradient", "policy.eta")


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        name: Of its run.
        settings: Beside those that all trainings on the set have.
        steps: Updates of the checkpoints that are judged, ascending; the last one ends it.
        part: What it learns from.
    """

    name: str
    settings: dict[str, Any]
    steps: tuple[int, ...]
    part: Part = "learned"


@dataclass(frozen=True)
class Variant:
    """A checkpoint that chooses among its candidates in another way.

    Attributes:
        name: Of the policy.
        recipe: Whose checkpoint.
        position: Which of its checkpoints.
        selection: What differs in the section ``selection``.
    """

    name: str
    recipe: str
    position: int
    selection: dict[str, Any] = field(default_factory=dict)


def _unlimited(eta: float) -> dict[str, Any]:
    """Return settings by which guidance may leave the data behind."""
    return {"agent": "diffusion_ql", "policy.eta": eta, "policy.max_imitation_ratio": None}


RECIPES = (
    Recipe("bc", {"agent": "diffusion_bc"}, (500, 3_000, 12_000)),
    Recipe("ql", {"agent": "diffusion_ql"}, (1_000, 4_000, 8_000, 12_000)),
    Recipe("ql_eta3", _unlimited(3.0), (1_000, 3_000, 6_000)),
    Recipe("ql_eta100", _unlimited(100.0), (1_000, 3_000)),
    Recipe("ql_negated", {"agent": "diffusion_ql"}, (1_000, 3_000), "negated"),
    Recipe("td3_bc", {"agent": "td3_bc", "policy.learning_rate": 1e-3}, (500, 3_000, 12_000)),
)
VARIANTS = (
    Variant("ql_untrained_critics", "ql", -1, {"critics": "untrained", "rule": "greedy"}),
    Variant("ql_first", "ql", -1, {"rule": "first", "num_candidates": 1}),
    Variant("ql_greedy_early", "ql", 0, {"rule": "greedy"}),
)


def method(recipe: Recipe, set_name: str) -> Method:
    """Return a recipe as a method of the suite, which makes configurations of them."""
    settings = _arm_settings() if set_name == ARM else dict(_QUICK)
    agent = recipe.settings["agent"]
    if agent == "diffusion_bc":  # which has no critics
        settings = {
            key: value for key, value in settings.items() if not key.startswith(_OF_CRITICS)
        }
    elif agent == "td3_bc":
        settings.pop("policy.policy_gradient", None)
    return Method(recipe.name, recipe.name, settings=settings | recipe.settings)


def _arm_settings() -> dict[str, Any]:
    """Return the demo's own settings, flat; how long they are trained is the recipes'."""
    document = read_yaml(installed_config("train/scara.yaml"), ConfigError)
    sections = {name: keys for name, keys in document.items() if isinstance(keys, dict)}
    flat = {
        f"{name}.{key}": value for name, keys in sections.items() for key, value in keys.items()
    }
    return {key: value for key, value in flat.items() if key != "run.steps"}
