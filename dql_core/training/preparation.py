"""What a run needs before its first update: data, normaliser, agent, source of batches."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch

from dql_core.algo.execution import resolve_device
from dql_core.algo.noise import RunSeeds, make_generator
from dql_core.algo.registry import make_agent
from dql_core.config import TrainConfig
from dql_core.data.checks import Finding, check_dataset
from dql_core.data.dataset import LoadedDataset, load_datasets
from dql_core.data.reward_transforms import RewardTransform, fit_rewards
from dql_core.data.sampling import make_strata, ratio_text, require_ratio
from dql_core.data.spaces import obeyed_at_once, require_environment
from dql_core.data.transitions import AS_RECORDED, BatchSampler, make_transitions, split_episodes
from dql_core.errors import ConfigError, DatasetError
from dql_core.evaluation.offline.recording import lay_out, require_rewards
from dql_core.normalize import Normalizer
from dql_core.streams import PREVIOUS_ACTION
from dql_core.training.checkpoint import Checkpoint

# Held-out transitions by which checkpoints can be told apart, at least.
FEWEST_HELD_OUT = 10
# Whole episodes are held out; where they are of different lengths, their transitions may be fewer
# than was asked for, but not by more than this.
SMALLEST_PART_OF_SHARE = 0.25
# Proposed where none are held out.
SHARES_TO_HOLD_OUT = (0.1, 0.2, 0.3, 0.4, 0.5)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """A dataset that passed the checks.

    Attributes:
        recorded: All of it, its actions within their bounds.
        learned: The episodes to learn from.
        held_out: The episodes to measure on, if any.
        findings: What is unusual about it.
    """

    recorded: LoadedDataset
    learned: LoadedDataset
    held_out: LoadedDataset | None
    findings: tuple[Finding, ...]


def load_training_data(config: TrainConfig, dataset: LoadedDataset | None = None) -> TrainingData:
    """Load the configured dataset, refuse what cannot be learned from, log what is unusual.

    Args:
        config: Names the dataset, and says how much of it is held out.
        dataset: The dataset, where it is loaded already.

    Raises:
        ConfigError: If no dataset is named, or data.ratio does not go with them.
        DatasetError: If it cannot be read or breaks a rule.
        SpecMismatchError: If several are named whose numbers mean different things.
    """
    if not config.data.datasets:
        raise ConfigError("no dataset is named; give --dataset DIR or set data.dataset")
    require_ratio(config.data, config.run.batch_size)
    recorded = dataset or load_datasets(config.data.datasets, tuple(config.data.weights))
    _require_previous_actions(recorded, config)
    dataset, findings = check_dataset(recorded, config)
    for finding in findings:
        level = logging.WARNING if finding.is_warning else logging.INFO
        _logger.log(level, "data: %s", finding.text)
    seed = RunSeeds.derive(config.run.seed).held_out
    learned, held_out = split_episodes(dataset, config.validation.held_out, seed)
    # Before anything is written.
    make_strata(learned, config.data, config.run.batch_size, config.policy.horizon)
    return TrainingData(dataset, learned, held_out, findings)


def _require_previous_actions(dataset: LoadedDataset, config: TrainConfig) -> None:
    """Refuse to leave out what the data do not have.

    Raises:
        ConfigError: If nobody observed previous actions.
    """
    share = config.data.previous_action_dropout
    if share and not dataset.spec.previous_actions:
        raise ConfigError(
            f"data.previous_action_dropout is {share:g}, and {dataset.source} has no observation "
            f"field '{PREVIOUS_ACTION}.1.…': convert with a contract that has a "
            f"'{PREVIOUS_ACTION}', or set it to 0"
        )


def require_measurable(data: TrainingData, config: TrainConfig) -> None:
    """Refuse what a new run could not measure its checkpoints by.

    Raises:
        ConfigError: If there is no such environment.
        DatasetError: If nothing can be judged by the held-out episodes.
        SpecMismatchError: If the environment's numbers are not those of the data.
    """
    require_meaningful_split(data, config.validation.held_out, config.policy.horizon)
    if data.held_out and config.validation.rule == "judge":
        require_rewards(data.held_out)
        lay_out(data.held_out, config.critic.discount)
    if config.evaluation.env:
        require_environment(config.evaluation.env, data.recorded.spec)
        for remark in obeyed_at_once(data.recorded.spec):
            _logger.warning("evaluation.env: %s", remark)


def share_to_hold_out(dataset: LoadedDataset, config: TrainConfig) -> float | None:
    """Return the smallest usual share with which policies of a run can be judged, if any."""
    seed = RunSeeds.derive(config.run.seed).held_out
    for share in SHARES_TO_HOLD_OUT:
        try:
            learned, held_out = split_episodes(dataset, share, seed)
            parts = TrainingData(dataset, learned, held_out, ())
            require_meaningful_split(parts, share, config.policy.horizon)
            if held_out is not None and len(held_out.episodes) > 1:
                require_rewards(held_out)
                return share
        except DatasetError:
            continue
    return None


def require_meaningful_split(data: TrainingData, share: float, horizon: int = 1) -> None:
    """Refuse held-out episodes by which nothing can be judged, as one that is very short.

    Args:
        data: What a run that begins learns from and measures on.
        share: Of the episodes, as it was asked for.
        horizon: Actions of a chunk, H.

    Raises:
        DatasetError: With the numbers of transitions.
    """
    if data.held_out is None:
        return
    number, total = (len(each.starts(horizon)) for each in (data.held_out, data.recorded))
    text = (
        f"{data.recorded.source}: validation.held_out={share:g} holds out {number} of {total} "
        f"transitions ({len(data.held_out.episodes)} of {len(data.recorded.episodes)} episodes)"
    )
    if number < max(FEWEST_HELD_OUT, SMALLEST_PART_OF_SHARE * share * total):
        raise DatasetError(
            f"{text}: too few to judge a checkpoint by; raise it, set it to 0, or record more "
            f"episodes"
        )
    if len(data.learned.starts(horizon)) < number:
        raise DatasetError(f"{text}, so that fewer are left to learn from: lower it")
    if max(map(len, data.learned.episodes)) < horizon:
        raise DatasetError(
            f"{text}, so that no episode is left to learn from into which a chunk of "
            f"policy.horizon: {horizon} fits: set it to 0, or lower policy.horizon"
        )


def new_run(config: TrainConfig, dataset: LoadedDataset) -> Checkpoint:
    """Build a run before its first update, seeded by ``config.run.seed``."""
    set_threads(config)
    seeds, device = RunSeeds.derive(config.run.seed), resolve_device(config.run.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.weights)
        agent = make_agent(config, dataset.spec, make_generator(seeds.updates, device))
    return Checkpoint(
        dataset.spec,
        config,
        fit_normalizer(config, dataset),
        agent,
        batches=make_generator(seeds.batches, "cpu"),
        statistics=None if config.data.normalize_observations else _measure(dataset),
    )


def set_threads(config: TrainConfig) -> None:
    """Let torch use as many threads as configured, in all of this process."""
    if config.run.num_threads:
        torch.set_num_threads(config.run.num_threads)


def make_batches(run: Checkpoint, dataset: LoadedDataset) -> BatchSampler:
    """Return the source of a run's batches, which goes on where the run is."""
    config = run.config
    table = make_transitions(
        dataset,
        run.normalizer,
        learned_rewards(config, dataset),
        n_step=config.data.n_step,
        discount=config.critic.discount,
        horizon=config.policy.horizon,
    )
    strata = make_strata(dataset, config.data, config.run.batch_size, config.policy.horizon)
    if config.data.ratio:
        _logger.info("data: %s", ratio_text(strata, config.data.datasets))
    return BatchSampler(
        table,
        config.run.batch_size,
        run.batches,
        run.device,
        strata,
        config.data.previous_action_dropout,
        dataset.spec.previous_actions,
    )


def learned_rewards(config: TrainConfig, dataset: LoadedDataset) -> RewardTransform:
    """Return what makes the critics' rewards of the recorded ones, fitted to ``dataset``."""
    return fit_rewards(dataset, config.data) if config.learns_values else AS_RECORDED


def fit_normalizer(config: TrainConfig, dataset: LoadedDataset) -> Normalizer:
    """Measure the observations of ``dataset``, or leave them raw if so configured."""
    if config.data.normalize_observations:
        return _measure(dataset)
    spec = dataset.spec
    low, high = spec.action_low.tolist(), spec.action_high.tolist()
    return Normalizer.for_actions_only(len(spec.observation), low, high)


def _measure(dataset: LoadedDataset) -> Normalizer:
    """Measure the observations of ``dataset`` that were acted on."""
    # The row after the last action is never acted on, so it does not count for mean and spread.
    rows = [episode.observations[:-1] for episode in dataset.episodes]
    last_rows = np.stack([episode.observations[-1] for episode in dataset.episodes])
    return Normalizer.fit(np.concatenate(rows), dataset.spec, also_seen=last_rows)
