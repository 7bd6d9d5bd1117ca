"""What switches between the paper's code and the defaults change in training, on the bandit.

Each function trains on the paper's bandit (`examples/bandit.py`), with one seed, and returns its
figures; `deviations.py` runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dql_core.algo.agent import Agent
from dql_core.algo.bc import DiffusionBC
from dql_core.algo.diffusion_policy import DiffusionPolicy
from dql_core.algo.diffusion_ql import DiffusionQL
from dql_core.algo.noise import RunSeeds, make_generator
from dql_core.algo.policy_graph import policy_graph
from dql_core.algo.registry import make_agent
from dql_core.config import TrainConfig
from dql_core.data.transitions import BatchSampler, TransitionTable
from dql_core.models.actors import ActionSampler, DiffusionSampler
from dql_core.models.critic import CriticEnsemble
from dql_core.models.sampler import make_process
from dql_core.models.schedule import ScheduleName, Variance
from dql_core.normalize import Normalizer
from examples import bandit

Figures = dict[str, Any]
NORMALIZER = Normalizer.for_actions_only(2, [-1.0, -1.0], [1.0, 1.0])
SAMPLES = 10_000


def process() -> Figures:
    """Share of Diffusion-BC's actions near a corner, five steps, by schedule and variance."""
    figures: Figures = {"recorded": _near_any(bandit.record().actions)}
    schedules: tuple[ScheduleName, ...] = ("vp", "cosine")
    variances: tuple[Variance, ...] = ("posterior", "beta")
    for schedule in schedules:
        settings = bandit_config(
            agent="diffusion_bc",
            run={"steps": 6000},
            diffusion={"schedule": schedule, "num_diffusion_steps": 5},
        )
        agent = bandit.train(settings, bandit.record())
        assert isinstance(agent, DiffusionBC)
        policy = agent.policy
        assert isinstance(policy, DiffusionPolicy)
        for variance in variances:
            for clip in (True, False):
                chain = make_process(policy.schedule, variance=variance, clip_denoised=clip)
                actions = _sample(DiffusionSampler(policy.average, chain))
                name = f"{schedule}, {variance}, {'clipped' if clip else 'not clipped'}"
                figures[name] = _near_any(actions)
    return figures


def averaging_start() -> Figures:
    """How far targets and averaged policy are apart if the average waits for 1000 updates.

    The bandit goes on forever here (discount 0.9), so that targets depend on the average; the
    average moves as in the paper, by 0.005 at every fifth update. Targets are means over the
    updates 1 to 1000, 1001 to 2000 and 2001 to 3000.
    """
    table = replace(bandit.record(), bootstraps=np.ones(10_000, np.float32))
    steps, windows = 3000, ((0, 1000), (1000, 2000), (2000, 3000))
    targets, near = {}, {}
    for start in (0, 1000):
        settings = bandit_config(
            run={"steps": steps, "learning_rate_decay": "constant"},
            policy={"eta": 1.0, "ema_rate": 0.005, "ema_every": 5, "ema_start": start},
            critic={"discount": 0.9},
        )
        targets[start], near[start] = _targets(settings, table)
    difference = np.abs(targets[1000] - targets[0])
    return {
        "mean_target": [rounded(targets[0][a:b].mean()) for a, b in windows],
        "mean_difference": [rounded(difference[a:b].mean()) for a, b in windows],
        "average_near_a_corner": {f"ema_start={start}": near[start] for start in (0, 1000)},
    }


def acting_weights() -> Figures:
    """Share of the actions near the best corner, of policy and average, over 20 checkpoints.

    They are 50 updates apart, after the first 1000, at the bandit's learning rate of 0.005.
    """
    settings = bandit_config(run={"steps": 2000, "learning_rate_decay": "constant"})
    shares: dict[str, list[float]] = {"online": [], "ema": []}

    def note(agent: DiffusionQL) -> None:
        if agent.step > 1000 and agent.step % 50 == 0:
            for name, averaged in (("online", False), ("ema", True)):
                shares[name].append(_near_best(_sample(agent.policy.sampler(averaged=averaged))))

    _watched(settings, bandit.record(), note)
    return {
        name: {"mean": rounded(np.mean(values)), "lowest": min(values)}
        for name, values in shares.items()
    }


def ranking_critics() -> Figures:
    """Share of decisions for the best corner, 50 imitating candidates ranked by trained critics.

    The policy learns with eta = 0, so that only the ranking can prefer a corner. Untrained critics
    are those of 20 new agents.
    """
    settings = bandit_config(policy={"eta": 0.0}, run={"steps": 1500})
    agent = bandit.train(settings, bandit.record())
    assert isinstance(agent, DiffusionQL)
    untrained = [
        new_agent(
            settings.model_copy(update={"run": settings.run.model_copy(update={"seed": seed})})
        )
        for seed in range(20)
    ]
    shares = [_decided_best(agent, settings, each.ranking_critic, 50) for each in untrained]
    return {
        "candidates": _near_best(bandit.act(agent, SAMPLES)),
        "target": _decided_best(agent, settings, agent.critics.target, 500),
        "online": _decided_best(agent, settings, agent.critics.online, 500),
        "untrained_mean": rounded(np.mean(shares)),
        "untrained_range": [min(shares), max(shares)],
    }


def bandit_config(**changes: Any) -> TrainConfig:
    """The bandit's settings with changes, as sections."""
    document = bandit.settings("diffusion_ql", 1500).model_dump()
    for name, change in changes.items():
        document[name] = {**document[name], **change} if isinstance(change, dict) else change
    return TrainConfig.model_validate(document)


def new_agent(config: TrainConfig) -> Agent:
    """An agent for the bandit before its first update."""
    seeds = RunSeeds.derive(config.run.seed)
    torch.manual_seed(seeds.weights)
    return make_agent(config, bandit.SPEC, make_generator(seeds.updates, "cpu"))


def rounded(value: Any) -> float:
    """Three decimals."""
    return round(float(value), 3)


def _watched(
    config: TrainConfig, table: TransitionTable, note: Callable[[DiffusionQL], None]
) -> list[float]:
    """Train and let ``note`` look after each update; returns each update's mean target."""
    agent = new_agent(config)
    assert isinstance(agent, DiffusionQL)
    generator = make_generator(RunSeeds.derive(config.run.seed).batches, "cpu")
    batches = BatchSampler(table, config.run.batch_size, generator, "cpu")
    targets = []
    for _ in range(config.run.steps):
        targets.append(agent.update(batches.draw()).q_target)
        note(agent)
    return [target.item() for target in targets]


def _targets(
    config: TrainConfig, table: TransitionTable
) -> tuple[NDArray[np.float64], dict[str, float]]:
    near: dict[str, float] = {}

    def note(agent: DiffusionQL) -> None:
        if agent.step % 1000 == 0:
            near[f"{agent.step:,} updates"] = _near_any(_sample(agent.target_sampler))

    return np.array(_watched(config, table, note)), near


def _sample(sampler: ActionSampler) -> NDArray[np.float32]:
    noise = torch.randn(sampler.num_noises, SAMPLES, 2, generator=make_generator(0, "cpu"))
    with torch.no_grad():
        actions: NDArray[np.float32] = sampler(torch.zeros(1, 2), noise).numpy()
    return actions


def _decided_best(
    agent: Agent, config: TrainConfig, critic: CriticEnsemble | None, decisions: int
) -> float:
    """Share of the decisions, 50 candidates each, for the corner that pays most."""
    graph = policy_graph(agent, config, NORMALIZER)
    graph.critic = critic
    generator = make_generator(1, "cpu")
    actions = []
    for _ in range(decisions):
        noise = torch.randn(graph.sampler.num_noises, 50, 2, generator=generator)
        gumbel = -torch.empty(50).exponential_(generator=generator).log()
        with torch.no_grad():
            actions.append(graph(torch.zeros(2), noise, gumbel)[0].numpy())
    return _near_best(np.array(actions))


def _near_best(actions: NDArray[np.float32]) -> float:
    return rounded(bandit.near(actions)[bandit.PAYS.argmax()])


def _near_any(actions: NDArray[np.float32]) -> float:
    return rounded(bandit.near(actions).sum())
