"""Training: from a configuration and a dataset to a run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from dql_core import __version__
from dql_core.algo.execution import resolve_device
from dql_core.algo.generative_agent import untrained_remark
from dql_core.algo.ranks import Ranks, joined
from dql_core.config import RunConfig, TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.data.return_range import (
    Horizon,
    ReturnRange,
    possible_returns,
    recorded_returns,
)
from dql_core.data.reward_transforms import RewardTransform
from dql_core.errors import DqlError, OutputError
from dql_core.files import writing
from dql_core.process import Interruption
from dql_core.training.checkpoint import Checkpoint
from dql_core.training.divergence import ValueLimits
from dql_core.training.initial import trained_on
from dql_core.training.monitor import MetricsLog, Monitor
from dql_core.training.preparation import (
    TrainingData,
    learned_rewards,
    load_training_data,
    make_batches,
    new_run,
    require_measurable,
)
from dql_core.training.run_files import (
    CONFIG_FILE,
    checkpoint_folder,
    checkpoint_steps,
    update_run_info,
)
from dql_core.training.run_folder import (
    create_run_folder,
    exclusive_lock,
    fingerprint,
    forget_after,
    load_run,
    require_new,
    require_same_data,
)
from dql_core.training.saved_config import require_equal, saved_config
from dql_core.training.validation import CheckpointEvaluator, write_best

_logger = logging.getLogger(__name__)
Report = Callable[[int, Mapping[str, float]], None]


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
    config: TrainConfig,
    out: Path,
    report: Report | None = None,
    *,
    resume: bool = False,
    files: Mapping[str, str] | None = None,
    dataset: LoadedDataset | None = None,
    measured: Callable[[], None] | None = None,
) -> TrainingResult:
    """Train an agent and leave its metrics and checkpoints in ``out``.

    Args:
        config: What to train, on which dataset, for how long.
        out: The run's folder; it must not exist yet, or be empty.
        report: Called with the step and the metrics after every reading.
        resume: Continue the run in ``out``, from its last checkpoint: on the CPU it ends with
            the same bits as one that never stopped.
        files: Further texts for the folder of a new run, by the name of their file.
        dataset: What ``config`` names, where it is loaded already; a resumed run loads its own.
        measured: Called after each checkpoint but the last, once it is saved and measured.

    Raises:
        ConfigError: If ``out`` holds something already, or, to resume, a run that began with
            another configuration; if no dataset is named.
        CheckpointError: If there is no run to resume, it is damaged, or its data changed; if
            there is none to begin with.
        SpecMismatchError: If the run to begin with is of another robot.
        DatasetError: If the dataset cannot be learned from; nothing is written then.
        DqlError: If a loss is no number any more, or, where that is to stop the run, if the
            critics diverge.
        OutputError: If ``out`` cannot be written.
    """
    with joined(resolve_device(config.run.device)) as ranks:
        ranks.require_divisible(config.run.batch_size)
        ranks.require_same(f"{__version__} {config.hash()}", "their configuration or version")
        if ranks.rank:
            return _follow(config, out, ranks, dataset, resume=resume)
        with _resumable(out):
            if resume:
                begun = _resume(config, out, ranks)
            else:
                begun = _start(config, out, files or {}, dataset, ranks)
            return _train(config, out, begun, report, measured, ranks)


def _follow(
    config: TrainConfig, out: Path, ranks: Ranks, dataset: LoadedDataset | None, *, resume: bool
) -> TrainingResult:
    """Take part in the updates of a run that another process leads, and write nothing."""
    data = _loaded(config, dataset, ranks)
    if resume:
        run = load_run(out, config, data.learned)
    else:
        run = new_run(config, data.learned)
        run = trained_on(run)[0] if config.init.run else run
    agent, batches = run.agent, make_batches(run, data.learned)
    _bound_values(run, data.learned, learned_rewards(config, data.learned))
    ranks.require_same(run.step, "the checkpoint that they go on from")
    with Interruption():  # the leader says when it ends
        while ranks.all_go_on(False):
            agent.update(batches.draw())
    finished = agent.step == config.run.steps
    return TrainingResult(out, checkpoint_folder(out, agent.step), agent.step, finished)


def _loaded(config: TrainConfig, dataset: LoadedDataset | None, ranks: Ranks) -> TrainingData:
    """Load what is learned from; all processes must have the same."""
    data = load_training_data(config, dataset)
    if ranks.size > 1:  # it goes through all of them
        ranks.require_same(fingerprint(data.learned), "the episodes that they learn from")
    return data


def _train(
    config: TrainConfig,
    out: Path,
    begun: tuple[Checkpoint, TrainingData],
    report: Report | None,
    measured: Callable[[], None] | None,
    ranks: Ranks,
) -> TrainingResult:
    run, data = begun
    agent, batches = run.agent, make_batches(run, data.learned)
    ranks.require_same(run.step, "the checkpoint that they go on from")
    with (
        exclusive_lock(out),
        _leading(ranks),
        Interruption() as interruption,
        closing(MetricsLog(out, run.step)) as log,
        closing(CheckpointEvaluator(out, run, data, log)) as evaluator,
    ):
        forget_after(out, run.step)
        limits = _limit_values(out, run, data.learned) if agent.critics else None
        monitor, is_measured = Monitor(out, run, batches, log, limits), True
        while not interruption.requested:
            if _is_due(config.run, agent.step, config.run.checkpoint_every):
                monitor.save()
                if not (is_measured := evaluator.evaluate(run, interruption)):
                    break
                run.progress.since_checkpoint.reset()
                if measured and agent.step < config.run.steps:
                    measured()
            if agent.step == config.run.steps:
                break
            ranks.all_go_on(True)
            monitor.add(agent.update(batches.draw()))
            if _is_due(config.run, agent.step, config.run.log_every):
                metrics = monitor.read()
                if report:
                    report(agent.step, metrics)
                if run.progress.alarming and config.validation.on_divergence == "stop":
                    if checkpoint_steps(out):
                        write_best(out, config)
                    monitor.stop_diverged()
        checkpoint = monitor.save()
        write_best(out, config)
    finished = is_measured and agent.step == config.run.steps
    return TrainingResult(out, checkpoint, agent.step, finished)


@contextmanager
def _leading(ranks: Ranks) -> Iterator[None]:
    """Let the others end with this process, also where it fails."""
    try:
        yield
    finally:
        with suppress(DqlError):  # they have ended
            ranks.all_go_on(False)


@contextmanager
def _resumable(out: Path) -> Iterator[None]:
    """Add to the report of a full disk that the run can be resumed, if it can.

    Raises:
        OutputError: In place of what the operating system complains about.
    """
    try:
        with writing(out):
            yield
    except OutputError as cause:
        if not (out / CONFIG_FILE).is_file():
            raise
        raise OutputError(f"{cause}; then resume: dql train --resume {quote(str(out))}") from cause


def _start(
    config: TrainConfig,
    out: Path,
    files: Mapping[str, str],
    dataset: LoadedDataset | None,
    ranks: Ranks,
) -> tuple[Checkpoint, TrainingData]:
    require_new(out)
    data = _loaded(config, dataset, ranks)
    require_measurable(data, config)
    if remark := untrained_remark(config, config.run.steps):
        _logger.warning("run.steps: %s", remark)
    run = new_run(config, data.learned)
    if not config.init.run:
        create_run_folder(out, config, data, files)
        return run, data
    run, origin = trained_on(run)
    create_run_folder(out, config, data, files, (run, origin))
    return run, data


def _resume(config: TrainConfig, out: Path, ranks: Ranks) -> tuple[Checkpoint, TrainingData]:
    require_equal(out, saved_config(out), config)
    data = _loaded(config, None, ranks)
    require_same_data(out, data.recorded)
    return load_run(out, config, data.learned), data


def _limit_values(out: Path, run: Checkpoint, learned: LoadedDataset) -> ValueLimits:
    """Bound the critics' targets by what the rewards allow, and say which values are sound."""
    config = run.config
    rewards, discount = learned_rewards(config, learned), config.critic.discount
    possible = _bound_values(run, learned, rewards)
    recorded = recorded_returns(learned, rewards, discount)
    bounded = config.critic.bound_targets
    _logger.info(
        "values: the rewards allow discounted returns of %s (%s), to which targets are %sclipped; "
        "recorded are %s",
        possible,
        Horizon.of(learned),
        "" if bounded else "not ",
        recorded,
    )
    values = {"possible": vars(possible), "recorded": vars(recorded), "targets_bounded": bounded}
    update_run_info(out, returns=values)
    return ValueLimits(recorded, config.validation.divergence_factor)


def _bound_values(
    run: Checkpoint, learned: LoadedDataset, rewards: RewardTransform
) -> ReturnRange:
    """Bound the critics' targets, if there are critics, by what the rewards allow; return that."""
    critics = run.agent.critics
    possible = possible_returns(learned, rewards, run.config.critic.discount)
    if critics:
        critics.bound_targets(possible.low, possible.high)
    return possible


def _is_due(config: RunConfig, step: int, every: int) -> bool:
    return step == config.steps or (step > 0 and step % every == 0)
