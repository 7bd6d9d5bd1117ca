"""A configuration that is derived from the data: each choice is a value and its reason.

One rule after the other looks at the data and at what is settled by then. What the user states
goes before every rule. The constants are what can be changed by measuring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import yaml

from dql_core.algo.generative_agent import MUCH_UNTRAINED, untrained_share
from dql_core.algo.noise import RunSeeds
from dql_core.config import DETERMINISTIC_AGENTS, TrainConfig
from dql_core.data.checks import (
    SMALLEST_REWARD,
    are_equal,
    check_dataset,
    equal_text,
    require_finite,
    reward_range,
)
from dql_core.data.dataset import LoadedDataset
from dql_core.data.return_range import ReturnRange, recorded_returns
from dql_core.data.reward_transforms import fit_rewards
from dql_core.data.transitions import split_episodes
from dql_core.errors import ConfigError, DatasetError, visible
from dql_core.strict_yaml import parse
from dql_core.training.preparation import (
    FEWEST_HELD_OUT,
    TrainingData,
    require_meaningful_split,
)

DERIVED_FILE = "derived.yaml"
# Below either, values of actions that nobody recorded cannot be trusted; of many episodes, which
# are then short, they can.
FEW_EPISODES, FEW_TRANSITIONS, MANY_EPISODES = 50, 10_000, 200
# How often each transition is learned from, within bounds of the updates; where no value leads
# the policy, more of it overfits few episodes (docs/explanation/benchmarks.md).
PASSES, PASSES_OF_IMITATION = 600, 200
LEAST_STEPS, MOST_STEPS = 5_000, 100_000
# A batch has at most this share of the transitions, within bounds.
BATCH_SHARE = 1 / 8
SMALLEST_BATCH, LARGEST_BATCH = 64, 256
CHECKPOINTS = 10
# Episodes from which on a share of them is held out.
HELD_OUT_SHARES = ((100, 0.05), (30, 0.1))
# A discount looks 1 / (1 - discount) steps ahead: half an episode, within bounds.
LOOKS_AHEAD_OF_EPISODE = 0.5
FEWEST_STEPS_AHEAD, STEPS_AHEAD, MOST_STEPS_AHEAD = 10, 100, 300
SECONDS_AHEAD = 2.0
# Sizes of recorded discounted returns that critics learn well.
SMALLEST_RETURN, LARGEST_RETURN = 1.0, 100.0
# Below it, networks are half as wide.
WIDE_FROM_TRANSITIONS = 2_000
NARROW, WIDE = 128, 256


@dataclass(frozen=True)
class Choice:
    """One key of a configuration.

    Attributes:
        key: ``section.key``, or the key of the top.
        value: Its value, as yaml has it.
        reason: Why, in a few words.
    """

    key: str
    value: Any
    reason: str

    @property
    def text(self) -> str:
        """Its value as yaml."""
        text: str = yaml.safe_dump(self.value, default_flow_style=True, width=math.inf)
        return text.removesuffix("\n").removesuffix("\n...")

    def __str__(self) -> str:
        """Return it as one line."""
        return visible(f"{self.key}: {self.text} ({self.reason})")


@dataclass(frozen=True)
class Derivation:
    """A configuration and where its values come from.

    Attributes:
        config: The configuration.
        choices: What a rule was asked for, in the configuration's order.
        stated: What else was stated.
        data: The data in a few words.
    """

    config: TrainConfig
    choices: tuple[Choice, ...]
    stated: tuple[Choice, ...]
    data: str

    def to_yaml(self) -> str:
        """Return it as a file for `dql train`, each key with its reason; the rest are defaults."""
        lines = [
            f"# Derived by 'dql train' from {self.data}.",
            "# Change what you know better, and train again: dql train FILE. Keys that are left",
            "# out have their defaults.",
        ]
        section = ""
        for choice in _in_order([*self.choices, *self.stated]):
            *sections, key = choice.key.split(".")
            if sections and sections[0] != section:
                section = sections[0]
                lines.append(f"{section}:")
            indent = "  " if sections else ""
            lines.append(f"{indent}{key}: {choice.text}  # {visible(choice.reason)}")
        return "\n".join(lines) + "\n"


def derive(dataset: LoadedDataset, stated: TrainConfig) -> Derivation:
    """Derive what is not stated.

    Args:
        dataset: What is learned from.
        stated: Only what is set in it counts as stated; a preset's keys are set by it.

    Raises:
        ConfigError: If what is stated does not go with what the data needs.
        DatasetError: If the data cannot be learned from so.
    """
    require_finite(dataset)
    document = stated.model_dump(mode="json", exclude_unset=True)
    given = _flat(document)
    if stated.policy.horizon > 1:
        given.pop("data.n_step", None)  # whose only possible value came with the horizon
    choices: dict[str, Choice] = {}
    for rule in RULES:
        config = parse(document, TrainConfig, "--set", ConfigError)
        for choice in rule(Known(dataset, config, frozenset(given))):
            if choice.key in given:
                choices[choice.key] = Choice(choice.key, given[choice.key], "as stated")
                continue
            choices[choice.key] = choice
            *sections, key = choice.key.split(".")
            place = document.setdefault(sections[0], {}) if sections else document
            place[key] = choice.value
    config = parse(document, TrainConfig, "--set", ConfigError)
    _require_learnable(dataset, config)
    return Derivation(
        config=config,
        choices=_in_order(choices.values()),
        stated=tuple(
            Choice(key, value, "as stated") for key, value in given.items() if key not in choices
        ),
        data=f"{visible(dataset.source)}: {_amount(Known(dataset, stated, frozenset()))}",
    )


@dataclass(frozen=True)
class Known:
    """What a rule goes by.

    Attributes:
        dataset: The data.
        config: What is settled by now; the rest are defaults.
        stated: Keys that no rule changes.
    """

    dataset: LoadedDataset
    config: TrainConfig
    stated: frozenset[str]

    @cached_property
    def lengths(self) -> list[int]:
        """Transitions of each episode, the shortest first."""
        return sorted(len(episode) for episode in self.dataset.episodes)

    @cached_property
    def num_transitions(self) -> int:
        """Transitions of all episodes."""
        return sum(self.lengths)

    @cached_property
    def rewards(self) -> tuple[float, float]:
        """The smallest and the largest reward."""
        return reward_range(self.dataset)

    @property
    def shortage(self) -> str:
        """Why the data is too little for values of actions that it does not have; else empty."""
        if len(self.lengths) < FEW_EPISODES:
            return f"fewer than {FEW_EPISODES} episodes"
        if self.num_transitions < FEW_TRANSITIONS and len(self.lengths) < MANY_EPISODES:
            return f"fewer than {FEW_TRANSITIONS:,} transitions and {MANY_EPISODES} episodes"
        return ""

    @property
    def is_stochastic(self) -> bool:
        """Whether the policy makes actions of noise, so that there are candidates."""
        return self.config.agent not in DETERMINISTIC_AGENTS

    @property
    def only_imitates(self) -> bool:
        """Whether no value leads the policy."""
        config = self.config
        return self.is_stochastic and not (config.learns_values and config.policy.eta)


def _agent(known: Known) -> Iterator[Choice]:
    low, high = known.rewards
    if not are_equal(low, high):
        yield Choice("agent", "diffusion_ql", f"rewards of {low:.4g} to {high:.4g}")
    elif low == high == 0:
        yield Choice("agent", "diffusion_bc", "every reward is 0: there is only imitation")
    else:
        all_ = equal_text(low, high)
        why = f"every reward is {all_}: values would say little more than how long episodes last"
        yield Choice("agent", "diffusion_bc", why)


def _guidance(known: Known) -> Iterator[Choice]:
    """Decide how far the values may lead the policy away from what was recorded."""
    config, stated = known.config, known.stated
    if not config.learns_values or not known.is_stochastic:
        return
    if known.shortage and not _asks_for_guidance(config, stated):
        few = "only the values of recorded actions can be known"
        yield Choice("critic.kind", "expectile", f"{known.shortage}: {few}")
        yield Choice("policy.eta", 0.0, "so the policy only imitates")
        yield Choice(
            "selection.rule",
            "first",
            "values of so little data may rank actions badly; see what "
            "'dql export --selection greedy --candidates 20' makes of them in simulation",
        )
        if "selection.rule" not in stated:
            yield Choice("selection.num_candidates", 1, "none is ranked")
    else:
        usual = TrainConfig()
        enough = (
            f"{_counted(len(known.lengths), 'episode')}, {known.num_transitions:,} transitions"
        )
        why = "guidance was asked for" if known.shortage else enough
        yield Choice("critic.kind", usual.critic.kind, why)
        yield Choice("policy.eta", usual.policy.eta, "so the values lead the policy")


def _asks_for_guidance(config: TrainConfig, stated: frozenset[str]) -> bool:
    """Return whether something is stated that means nothing unless the values lead the policy."""
    policy, critic = config.policy, config.critic
    if critic.max_q_samples > 1 or ("critic.kind" in stated and critic.kind == "policy"):
        return True
    if "policy.eta" in stated:
        return policy.eta > 0
    is_limited = "policy.max_imitation_ratio" in stated and policy.max_imitation_ratio is not None
    return is_limited or policy.policy_gradient == "one_step" or config.preset is not None


def _n_step(known: Known) -> Iterator[Choice]:
    if (horizon := known.config.policy.horizon) > 1:
        yield Choice("data.n_step", 1, f"a chunk has {horizon} steps already")


def _batch_size(known: Known) -> Iterator[Choice]:
    largest = max(known.num_transitions * BATCH_SHARE, 1.0)
    size = min(max(2 ** int(math.log2(largest)), SMALLEST_BATCH), LARGEST_BATCH)
    usual = "as usual" if size == LARGEST_BATCH else f"{LARGEST_BATCH} would be many"
    yield Choice("run.batch_size", size, f"of {known.num_transitions:,} transitions: {usual}")


def _steps(known: Known) -> Iterator[Choice]:
    number, batch = known.num_transitions, known.config.run.batch_size
    passes = PASSES_OF_IMITATION if known.only_imitates else PASSES
    wanted = 1000 * math.ceil(passes * number / batch / 1000)
    steps = min(max(wanted, LEAST_STEPS), MOST_STEPS)
    times = _rounded(steps * batch / number)
    yield Choice("run.steps", steps, f"{number:,} transitions: about {times:,} times each")


def _weights(known: Known) -> Iterator[Choice]:
    config = known.config
    if (share := untrained_share(config, config.run.steps)) > MUCH_UNTRAINED:
        why = f"after so few updates {share:.0%} of the average is untrained"
        yield Choice("selection.weights", "online", why)


def _checkpoint_every(known: Known) -> Iterator[Choice]:
    every = max(known.config.run.steps // CHECKPOINTS, 1)
    count = math.ceil(known.config.run.steps / every)
    yield Choice("run.checkpoint_every", every, f"{count} checkpoints to choose from")


def _held_out(known: Known) -> Iterator[Choice]:
    count, key = len(known.lengths), "validation.held_out"
    share = next((share for least, share in HELD_OUT_SHARES if count >= least), 0.0)
    number = round(share * count)
    if not share:
        yield Choice(key, 0.0, f"{_counted(count, 'episode')}: too few to learn without some")
    elif why := _needed(known, number):
        yield Choice(key, 0.0, why)
    else:
        yield Choice(key, share, f"{number} of {count} episodes, to measure on")


def _discount(known: Known) -> Iterator[Choice]:
    if not known.config.learns_values:
        return
    rate, length = known.dataset.spec.rate_hz, float(np.median(known.lengths))
    most = min(max(STEPS_AHEAD, SECONDS_AHEAD * rate), MOST_STEPS_AHEAD)
    steps = max(min(LOOKS_AHEAD_OF_EPISODE * length, most), FEWEST_STEPS_AHEAD)
    discount = round(1 - 1 / steps, 3)
    ahead = 1 / (1 - discount)
    at_rate = f" at {rate:g} Hz" if rate else ""
    seconds = f" ({ahead / rate:.2g} s)" if rate else ""
    yield Choice(
        "critic.discount",
        discount,
        f"episodes of {length:g} steps{at_rate}: looks {ahead:.0f} steps{seconds} ahead",
    )


def _reward_scale(known: Known) -> Iterator[Choice]:
    config = known.config
    if not config.learns_values:
        return
    unscaled = config.data.model_copy(update={"reward_scale": 1.0})
    rewards = fit_rewards(known.dataset, unscaled)
    recorded = recorded_returns(known.dataset, rewards, config.critic.discount)
    largest = max(abs(recorded.low), abs(recorded.high))
    if math.isinf(largest):
        low, high = known.rewards
        raise DatasetError(
            f"{known.dataset.source}: rewards of {low:.4g} to {high:.4g} are too large to add "
            f"up: scale them where they are recorded"
        )
    if largest >= SMALLEST_REWARD:
        scale = _power_of_ten(largest)
        learned = ReturnRange(scale * recorded.low, scale * recorded.high)
        as_learned = "" if scale == 1 else f", {learned} as learned"
        yield Choice("data.reward_scale", scale, f"discounted returns of {recorded}{as_learned}")


def _widths(known: Known) -> Iterator[Choice]:
    width = WIDE if known.num_transitions >= WIDE_FROM_TRANSITIONS else NARROW
    than = "at least" if width == WIDE else "fewer than"
    why = f"{than} {WIDE_FROM_TRANSITIONS:,} transitions"
    yield Choice("policy.width", width, why)
    if known.config.learns_values:
        yield Choice("critic.width", width, why)


# Each sees what those before it have chosen.
RULES: tuple[Callable[[Known], Iterator[Choice]], ...] = (
    _agent,
    _guidance,
    _n_step,
    _batch_size,
    _steps,
    _weights,
    _checkpoint_every,
    _held_out,
    _discount,
    _reward_scale,
    _widths,
)


def _amount(known: Known) -> str:
    episodes = _counted(len(known.lengths), "episode")
    return f"{episodes}, {_counted(known.num_transitions, 'transition')}"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _needed(known: Known, number: int) -> str:
    """Return why not any ``number`` of the episodes can be held out, or nothing if they can.

    They are enough to measure on, half of their share of the transitions, at least, so that no
    seed of the split is refused; and they leave enough to learn from, and rewards that differ.
    """
    lengths, total = known.lengths, known.num_transitions
    fewest, most = sum(lengths[:number]), sum(lengths[-number:])
    if most > total / 2:
        return "a few episodes have most transitions: all are needed"
    if fewest < max(FEWEST_HELD_OUT, number / len(lengths) * total / 2):
        return f"the {number} shortest episodes have {fewest} transitions: too few to measure on"
    low, high = known.rewards
    episodes = known.dataset.episodes
    larger = sum(bool(episode.rewards.max() > low) for episode in episodes)
    smaller = sum(bool(episode.rewards.min() < high) for episode in episodes)
    if known.config.learns_values and min(larger, smaller) <= number:
        than = f"above {low:.4g}" if larger <= smaller else f"below {high:.4g}"
        only = _counted(min(larger, smaller), "episode")
        return f"rewards {than} in {only} only: all are needed"
    return ""


def _require_learnable(dataset: LoadedDataset, config: TrainConfig) -> None:
    """Refuse what a run would refuse.

    Raises:
        DatasetError: If the data cannot be learned from.
    """
    checked, _ = check_dataset(dataset, config)
    share, seed = config.validation.held_out, RunSeeds.derive(config.run.seed).held_out
    require_meaningful_split(
        TrainingData(checked, *split_episodes(checked, share, seed), ()),
        share,
        config.policy.horizon,
    )


def _power_of_ten(largest: float) -> float:
    """Return the factor nearest to 1 that brings ``largest`` between the usual sizes."""
    if largest > LARGEST_RETURN:
        return float(f"1e{-math.ceil(math.log10(largest / LARGEST_RETURN))}")
    if largest < SMALLEST_RETURN:
        return float(f"1e{math.ceil(math.log10(SMALLEST_RETURN / largest))}")
    return 1.0


def _rounded(number: float) -> int:
    """Return two digits of a number, as a whole one of at least 1."""
    return max(int(float(f"{number:.2g}")), 1)


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections of keys as keys ``section.key``."""
    flat: dict[str, Any] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": each for key, each in value.items()}
        else:
            flat[name] = value
    return flat


def _in_order(choices: Any) -> tuple[Choice, ...]:
    """Return choices in the order of the configuration's keys."""
    order = list(_flat(TrainConfig().model_dump()))
    return tuple(sorted(choices, key=lambda choice: order.index(choice.key)))
