"""What is measured of checkpoints, on held-out episodes and by rollouts; which is the best."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dql_core.algo.agent import Agent
from dql_core.algo.critics import Critics
from dql_core.algo.noise import NoiseSource, RunSeeds, make_generator
from dql_core.config import TrainConfig, ValidationConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.data.reward_transforms import RewardTransform, discounted_returns
from dql_core.data.transitions import Batch, BatchSampler, make_transitions
from dql_core.errors import CheckpointError, counted
from dql_core.evaluation.offline.fitted_q import FittingSettings
from dql_core.evaluation.offline.judging import Candidate, estimate_worths, finite
from dql_core.evaluation.offline.verdict import WORDS
from dql_core.evaluation.rollout import ParallelRollouts
from dql_core.evaluation.statistics import estimate_mean_of_clusters, rank_correlation
from dql_core.files import write_text
from dql_core.normalize import Normalizer
from dql_core.process import Interruption
from dql_core.training.action_bounds import AT_BOUNDS, ActionBounds
from dql_core.training.checkpoint import Checkpoint
from dql_core.training.monitor import MetricsLog
from dql_core.training.preparation import TrainingData, learned_rewards
from dql_core.training.run_files import (
    BEST_FILE,
    RESTORE,
    VALIDATION_FILE,
    append_record,
    checkpoint_name,
    checkpoint_steps,
    last_healthy_step,
    read_records,
)

_logger = logging.getLogger(__name__)
# More transitions would sharpen the errors little and take time from every checkpoint.
MAX_TRANSITIONS = 10_000
ROWS_AT_ONCE = 1024
# Of a checkpoint during the training; `dql judge` spends more.
QUICK_FIT = FittingSettings(warm_up=1_000, updates=3_000, transitions=4_000)
Record = Mapping[str, Any]


class CheckpointEvaluator:
    """Measures checkpoints on held-out episodes and in an environment, where there are any.

    Args:
        out: The run's folder.
        run: The run.
        data: What it learns from and what is held out.
        log: Whose clock stops meanwhile, and whose curves show the measures.
    """

    def __init__(self, out: Path, run: Checkpoint, data: TrainingData, log: MetricsLog) -> None:
        self._out, self._log = out, log
        self._held_out: HeldOut | None = None
        self._judged_by = data.held_out if run.config.validation.rule == "judge" else None
        if data.held_out:
            rewards = learned_rewards(run.config, data.learned)
            self._held_out = HeldOut(
                run.config, data.held_out, run.normalizer, rewards, run.device
            )
        self._action_bounds = ActionBounds(run, data)
        self._rollouts: ParallelRollouts | None = None
        if run.config.evaluation.env:
            wanted = run.config.evaluation
            self._rollouts = ParallelRollouts(wanted.env, run.spec, wanted.episodes, wanted.seed)

    def close(self) -> None:
        """Close the environments."""
        if self._rollouts:
            self._rollouts.close()

    def evaluate(self, run: Checkpoint, interruption: Interruption) -> bool:
        """Measure a checkpoint that was just saved, unless it was measured before.

        Args:
            run: The run at that checkpoint.
            interruption: If it is requested, the checkpoint is measured when the run goes on.

        Returns:
            Whether it is measured.
        """
        records = self._out / VALIDATION_FILE
        if any(record["step"] == run.step for record in read_records(records)):
            return True
        with self._log.clock_stopped():
            record = self._measure(run, lambda: interruption.requested)
        if record is None:
            return False
        append_record(records, record)
        write_best(self._out, run.config)
        curves = _curves(record)
        self._log.curves(run.step, curves)
        if curves:
            line = ", ".join(f"{name} {value:.4g}" for name, value in curves.items())
            words = line.replace("_", " ").replace("held out", "held-out")
            _logger.info("step %d: %s", run.step, words)
        return True

    def _measure(self, run: Checkpoint, stop: Callable[[], bool]) -> dict[str, Any] | None:
        sums = run.progress.since_checkpoint
        record: dict[str, Any] = {"step": run.step, "imitation": sums.means()["imitation"]}
        if self._held_out:
            record |= self._held_out.measure(run.agent)
            record["measured_on"] = self._held_out.size
            if self._held_out.intervals:
                record["errors_ci95"] = self._held_out.intervals
        if self._judged_by:
            judged = judge_checkpoint(run, self._judged_by, stop)
            if judged is None:
                return None
            record["judged"] = judged
        record |= self._action_bounds.measure(run)
        if self._rollouts:
            result = self._rollouts.run(run.policy(), stop)
            if result is None:
                return None
            record["online"] = result.to_json()
        return record


def _curves(record: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of a record that are worth a curve, by name."""
    curves = {name: record[name] for name in record if name.startswith("held_out")}
    if (floor := record.get("judged", {}).get("floor")) is not None:
        curves["judged_floor"] = floor
    for name in ("mean_return", "success_rate"):
        if name in record.get("online", {}):
            curves[f"online_{name}"] = record["online"][name]
    return curves | {name: record[name] for name in AT_BOUNDS if name in record}


class _StopJudgingError(Exception):
    """Somebody asked for the end meanwhile."""


def judge_checkpoint(
    run: Checkpoint, held_out: LoadedDataset, stop: Callable[[], bool] = lambda: False
) -> dict[str, Any] | None:
    """Judge a checkpoint by fitted Q evaluation, as `dql judge` does with a longer fit.

    Args:
        run: The run at that checkpoint.
        held_out: Episodes that it did not learn from. All checkpoints are judged with equal
            networks and batches.
        stop: Asked on the way; if it says yes, the judgement is given up.

    Returns:
        The ``verdict``, the ``value`` with its interval, its ``difference`` from what was
        recorded, the ``floor`` that one can count on of it, the ``far_share``, and the ``doubts``
        for which there is none of these. ``None`` if it was given up.
    """

    def heed(_stage: str, _share: float) -> None:
        if stop():
            raise _StopJudgingError

    policy = run.policy()
    candidate = Candidate(
        name=checkpoint_name(run.step),
        policy=policy,
        spec=run.spec,
        num_candidates=policy.choice.num_candidates,
        statistics=None,
        facts={},
    )
    seed = RunSeeds.derive(run.config.run.seed).held_out
    discount = run.config.critic.discount
    try:
        worths = estimate_worths([candidate], held_out, discount, QUICK_FIT, seed, heed)
    except _StopJudgingError:
        return None
    (worth,) = worths.policies
    found = worth.to_json()
    kept = ("verdict", "value", "difference", "far_share", "doubts")
    judged: dict[str, Any] = finite({key: found[key] for key in kept} | {"floor": worth.floor})
    return judged


class HeldOut:
    """Held-out transitions and their returns; all checkpoints are measured with equal noise.

    Args:
        config: The training configuration.
        dataset: The held-out episodes.
        normalizer: Fitted to the training data.
        rewards: Fitted to the training data.
        device: Where the networks are.

    Attributes:
        size: How many ``transitions`` of how many ``episodes`` they are.
        intervals: 95 % intervals of the errors that were measured last, by their names: what
            other episodes could have given. An end that is not known is ``None``.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: LoadedDataset,
        normalizer: Normalizer,
        rewards: RewardTransform,
        device: str,
    ) -> None:
        discount, horizon = config.critic.discount, config.policy.horizon
        table = make_transitions(
            dataset,
            normalizer,
            rewards,
            n_step=config.data.n_step,
            discount=discount,
            horizon=horizon,
        )
        self._device = device
        self._seed = RunSeeds.derive(config.run.seed).held_out
        shuffled = np.random.default_rng(self._seed).permutation(len(table))
        chosen = np.sort(shuffled[:MAX_TRANSITIONS])
        batches = BatchSampler(table, len(chosen), torch.Generator(), device)
        self._batch = batches.take(torch.as_tensor(chosen))
        steps = dataset.starts(horizon)[chosen]
        self._returns, self._tail_weights = _returns(dataset, rewards, discount, steps)
        self._tails, ends = _ends(dataset, steps)
        self.size = {"transitions": len(chosen), "episodes": len(ends)}
        self.intervals: dict[str, list[float | None]] = {}
        self._end_observations = torch.as_tensor(table.observations[ends], device=device)

    @torch.no_grad()
    def measure(self, agent: Agent) -> dict[str, float]:
        """Measure an agent.

        Returns:
            ``held_out_imitation``: mean imitation loss; ``held_out_imitation_alone``: that of the
            twin that only imitates, where one limits the guidance. With values also
            ``held_out_td_error``: mean squared difference of the critics from their targets;
            ``held_out_value_error``: mean absolute difference of what the critics say together
            from the return that followed; and ``held_out_value_rank``: Spearman's correlation of
            these two. Where an episode was truncated, the target critics' value of its last
            observation replaces what would have followed.
        """
        noise = dataclasses.replace(
            agent.noise, generator=make_generator(self._seed, self._device)
        )
        sums: dict[str, Tensor] = {}
        values, td_errors = [], []
        for batch in _split(self._batch):
            drawn = noise.draw(len(batch.reward))
            errors = {"held_out_imitation": agent.imitation_loss(batch, drawn)}
            if (alone := agent.lone_imitation_loss(batch, drawn)) is not None:
                errors["held_out_imitation_alone"] = alone
            if agent.critics:
                sample = agent.target_sampler
                target, _ = agent.critics.targets(batch, sample, drawn.target)
                q_values = agent.critics.online(batch.observation, batch.action)  # (E, B)
                squared = (q_values - target).square()
                errors["held_out_td_error"] = squared.mean()
                td_errors.append(squared.mean(dim=0))
                values.append(agent.critics.estimate(q_values))
            for name, error in errors.items():
                sums[name] = sums.get(name, 0.0) + error * len(batch.reward)
        measures = {name: total.item() / len(self._returns) for name, total in sums.items()}
        if agent.critics:
            self._note_interval("held_out_td_error", torch.cat(td_errors).cpu().double().numpy())
            measures |= self._value_errors(agent, agent.critics, noise, torch.cat(values))
        return measures

    def _note_interval(self, name: str, errors: NDArray[np.float64]) -> None:
        """Note how far the mean of errors, one of each transition, could be another one."""
        low, high = estimate_mean_of_clusters(errors, self._tails).to_json()["ci95"]
        self.intervals[name] = [low and max(low, 0.0), high]

    def _value_errors(
        self, agent: Agent, critics: Critics, noise: NoiseSource, values: Tensor
    ) -> dict[str, float]:
        drawn = noise.draw(len(self._end_observations))
        sample = agent.target_sampler
        ends = critics.state_values(self._end_observations, sample, drawn.policy)
        returns = self._returns + self._tail_weights * ends.cpu().double().numpy()[self._tails]
        estimates = values.cpu().double().numpy()
        errors = np.abs(estimates - returns)
        self._note_interval("held_out_value_error", errors)
        return {
            "held_out_value_error": float(errors.mean()),
            "held_out_value_rank": rank_correlation(estimates, returns),
        }


def _split(batch: Batch) -> list[Batch]:
    """Cut a batch into parts that fit the caches."""
    columns = (column.split(ROWS_AT_ONCE) for column in vars(batch).values())
    return [type(batch)(*parts) for parts in zip(*columns, strict=True)]


def _returns(
    dataset: LoadedDataset, rewards: RewardTransform, discount: float, steps: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Recorded returns from the steps on, and the weight of what is not recorded."""
    recorded, weights = [], []
    for episode in dataset.episodes:
        recorded.append(discounted_returns(rewards(episode.rewards), discount))
        steps_left = np.arange(len(episode), 0, -1)
        weights.append(discount**steps_left * (not episode.terminated))
    return np.concatenate(recorded)[steps], np.concatenate(weights)[steps]


def _ends(
    dataset: LoadedDataset, steps: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which end belongs to each of the steps, and the ends' observation rows."""
    lengths = np.array([len(episode) for episode in dataset.episodes])
    episodes = np.repeat(np.arange(len(lengths)), lengths)[steps]
    last_rows = np.cumsum(lengths + 1) - 1
    used, which = np.unique(episodes, return_inverse=True)
    return which, last_rows[used]


@dataclass(frozen=True)
class Best:
    """A checkpoint and why it is the best.

    Attributes:
        step: Its step.
        rule: What decides: one of `ValidationConfig.rule`, or ``mean_return``.
        criterion: The same in words.
        value: The criterion's value at the checkpoint.
    """

    step: int
    rule: str
    criterion: str
    value: float


def write_best(run: Path, config: TrainConfig) -> None:
    """Write ``best.json``: which checkpoint is the last, the last healthy, and which are the best.

    Args:
        run: A run folder with at least one checkpoint.
        config: Its configuration.

    Raises:
        CheckpointError: If what was measured of its checkpoints is damaged.
    """
    records = read_records(run / VALIDATION_FILE)
    last = checkpoint_steps(run)[-1]
    try:
        chosen = {
            "best_offline": best_offline(records, config.validation),
            "best_online": best_online(records, config.evaluation.env),
        }
    except (LookupError, TypeError, ValueError) as cause:
        raise CheckpointError(
            f"{run / VALIDATION_FILE}: damaged: {type(cause).__name__}: {cause}; {RESTORE}"
        ) from cause
    document: dict[str, Any] = {"last": {"checkpoint": checkpoint_name(last), "step": last}}
    for name, best in chosen.items():
        document[name] = best and {"checkpoint": checkpoint_name(best.step), **vars(best)}
    healthy = last_healthy_step(run)
    document["last_healthy"] = (
        None if healthy is None else {"checkpoint": checkpoint_name(healthy), "step": healthy}
    )
    write_text(run / BEST_FILE, json.dumps(document, indent=2) + "\n")


def best_offline(records: Sequence[Record], config: ValidationConfig) -> Best | None:
    """Choose by what was measured of each checkpoint, in their order, without an environment.

    Returns:
        None if there is no record, ``bc_loss_rank`` asks for more than there are, or ``judge``
        had no verdict on any.
    """
    if config.rule == "bc_loss":
        return _by_imitation(records, config)
    if config.rule == "judge":
        return _by_judgement(records)
    key, criterion = {
        "td_error": ("held_out_td_error", "error of the critics"),
        "value_error": ("held_out_value_error", "distance of values from returns"),
    }[config.rule]
    if not records:
        return None
    best = min(records, key=lambda record: float(record[key]))
    size = best.get("measured_on", {})
    where = "held-out episodes"
    if size:
        where = f"{size['transitions']} transitions of {size['episodes']} held-out episodes"
    smallest = f"smallest {criterion} on {where}, {_among(records)}"
    return Best(best["step"], config.rule, smallest, best[key])


def best_online(records: Sequence[Record], env: str) -> Best | None:
    """Choose by the mean return in an environment; None if there were no rollouts."""
    rolled_out = [record for record in records if record.get("online")]
    if not rolled_out:
        return None
    best = max(rolled_out, key=lambda record: float(record["online"]["mean_return"]))
    online = best["online"]
    criterion = f"largest mean return of {online['episodes']} episodes in {env}"
    return Best(best["step"], "mean_return", criterion, online["mean_return"])


def _by_judgement(records: Sequence[Record]) -> Best | None:
    """Choose the largest value that one can count on, among those that have one."""
    able = [record for record in records if record["judged"]["floor"] is not None]
    if not able:
        return None
    best = max(able, key=lambda record: float(record["judged"]["floor"]))
    judged, size = best["judged"], best["measured_on"]
    criterion = (
        f"largest value that one can count on, {judged['floor']:+.4g} beside what was recorded "
        f"({WORDS[judged['verdict']]}), by fitted Q evaluation on {size['episodes']} held-out "
        f"episodes, {_among(able)}"
    )
    if missing := len(records) - len(able):
        criterion += f"; {counted(missing, 'checkpoint')} more had no verdict"
    return Best(best["step"], "judge", criterion, judged["floor"])


def _among(records: Sequence[Record]) -> str:
    return f"among {len(records)} checkpoints" if len(records) > 1 else "the only checkpoint"


def _by_imitation(records: Sequence[Record], config: ValidationConfig) -> Best | None:
    """Choose as the paper does, or as its code does (`main.py`, --ms offline)."""
    rank = config.bc_loss_rank
    if rank >= len(records):
        return None
    order = np.argsort([record["imitation"] for record in records], kind="stable")
    index = int(order[rank])
    place = "smallest" if rank == 0 else f"number {rank + 1} from the smallest"
    criterion = (
        f"{place} imitation loss on the training data, the mean of the updates since the "
        f"checkpoint before, {_among(records)}; held-out data do not count"
    )
    if config.bc_loss_ranking == "paper_code":
        index = int(np.flatnonzero(order == rank)[0])
        criterion += ", with the ranking error of the paper's code"
    return Best(records[index]["step"], "bc_loss", criterion, records[index]["imitation"])
