"""Training: from a configuration and a dataset to a run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dql_core.algo.agent import make_agent
from dql_core.config import TrainConfig
from dql_core.data.batches import BatchSampler
from dql_core.data.checks import check_dataset
from dql_core.data.dataset import LoadedDataset, load_dataset
from dql_core.data.findings import Finding
from dql_core.data.rewards import fit_rewards
from dql_core.data.transitions import AS_RECORDED, make_transitions
from dql_core.errors import ConfigError
from dql_core.normalize import Normalizer
from dql_core.training.checkpoint import Checkpoint, save_checkpoint
from dql_core.training.interruption import Interruption
from dql_core.training.metrics import LossAverage, MetricsLog, require_finite_losses
from dql_core.training.run_folder import create_run_folder, require_free
from dql_core.training.seeding import RunSeeds, make_generator, resolve_device

Report = Callable[[int, Mapping[str, float]], None]
Tell = Callable[[Finding], None]


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        run: The run's folder.
        checkpoint: The last checkpoint's folder.
        step: Updates taken.
        finished: False if the run was interrupted.
    """

    run: Path
    checkpoint: Path
    step: int
    finished: bool


def train(
    config: TrainConfig, out: Path, report: Report | None = None, tell: Tell | None = None
) -> TrainingResult:
    """Train an agent and leave its metrics and checkpoints in ``out``.

    Args:
        config: What to train, on which dataset, for how long.
        out: The run's folder; it must not exist yet, or be empty.
        report: Called with the step and the metrics after every reading.
        tell: Called with each finding on the dataset before training starts.

    Raises:
        ConfigError: If ``out`` holds something already, or no dataset is named.
        DatasetError: If the dataset cannot be learned from; nothing is written then.
        DqlError: If a loss is no number any more.
    """
    require_free(out)
    dataset, findings = load_training_data(config)
    if tell:
        for finding in findings:
            tell(finding)
    create_run_folder(out, config, dataset, findings)
    run, batches = prepare(config, dataset)
    agent, average = run.agent, LossAverage()
    with Interruption() as interruption, MetricsLog(out) as log:
        while agent.step < config.run.steps and not interruption.requested:
            average.add(agent.update(batches.draw()))
            last = agent.step == config.run.steps
            if last or agent.step % config.run.log_every == 0:
                means = average.read()
                require_finite_losses(agent.step, means)
                metrics = log.write(agent.step, means)
                if report:
                    report(agent.step, metrics)
            if not last and agent.step % config.run.checkpoint_every == 0:
                save_checkpoint(out, run)
        checkpoint = save_checkpoint(out, run)
    return TrainingResult(out, checkpoint, agent.step, agent.step == config.run.steps)


def load_training_data(config: TrainConfig) -> tuple[LoadedDataset, tuple[Finding, ...]]:
    """Load the configured dataset and refuse what cannot be learned from.

    Returns:
        The dataset, and what is odd about it.

    Raises:
        ConfigError: If no dataset is named.
        DatasetError: If it cannot be read or breaks a rule.
    """
    if not config.data.dataset:
        raise ConfigError("no dataset is named; give --dataset DIR or set data.dataset")
    return check_dataset(load_dataset(config.data.dataset), config)


def prepare(config: TrainConfig, dataset: LoadedDataset) -> tuple[Checkpoint, BatchSampler]:
    """Build everything a run needs, seeded by ``config.run.seed``.

    Returns:
        The run before its first update, and the source of its batches.
    """
    if config.run.num_threads:
        torch.set_num_threads(config.run.num_threads)
    seeds, device = RunSeeds.derive(config.run.seed), resolve_device(config.run.device)
    normalizer = fit_normalizer(config, dataset)
    learns_values = config.agent != "diffusion_bc"
    table = make_transitions(
        dataset,
        normalizer,
        fit_rewards(dataset, config.data) if learns_values else AS_RECORDED,
        n_step=config.data.n_step,
        discount=config.critic.discount,
    )
    batch_generator = make_generator(seeds.batches, "cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.weights)
        agent = make_agent(config, dataset.spec, make_generator(seeds.updates, device))
    run = Checkpoint(dataset.spec, config, normalizer, agent, batch_generator)
    return run, BatchSampler(table, config.run.batch_size, batch_generator, device)


def fit_normalizer(config: TrainConfig, dataset: LoadedDataset) -> Normalizer:
    """Measure the observations of ``dataset``, or leave them raw if so configured."""
    low, high = dataset.spec.action_low, dataset.spec.action_high
    if not config.data.normalize_observations:
        return Normalizer.for_actions_only(
            len(dataset.spec.observation), low.tolist(), high.tolist()
        )
    # The row after the last action is never acted on, so it does not count.
    rows = [episode.observations[:-1] for episode in dataset.episodes]
    return Normalizer.fit(np.concatenate(rows), low, high)
