"""The step from one chunk to the next, by a policy that was trained."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from dql_core.algo.policy_graph import TorchPolicy, policy_graph
from dql_core.config import TrainConfig
from dql_core.data.dataset import LoadedDataset
from dql_core.runtime.chunk import ChunkPlayer
from dql_core.runtime.policy import Choice, Committed, Decision, Policy
from dql_core.spec import FieldSpec, PolicySpec
from dql_core.training.preparation import make_batches, new_run
from tests.core.algo.test_chunks import two_ways
from tests.core.runtime.test_chunk import PERIOD, Slow

SPEC = PolicySpec("two", 10.0, (FieldSpec("phase"),), (FieldSpec("u", "", -1.0, 1.0),))
HORIZON, EPISODES, TICKS = 8, 60, 23


class Blind:
    """Decides as another policy, but goes on from nothing."""

    spec, horizon = SPEC, HORIZON

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def reset(self) -> None:
        """Nothing to forget."""

    def act(
        self,
        observation: NDArray[np.float32],
        rng: np.random.Generator,
        committed: Committed | None = None,
    ) -> Decision:
        return self._policy.act(observation, rng)


def mean_steps(policy: Policy, takes: float, execute: int) -> tuple[float, float]:
    """Return how far actions are from the ones before, at seams and within chunks."""
    caller = Slow(lambda: takes)
    limit_ns = 4 * PERIOD if takes else None
    player = ChunkPlayer(
        policy, caller, limit_ns, PERIOD, execute, steady_ns=lambda: caller.now_ns
    )
    player.seed(0)
    seams: list[float] = []
    within: list[float] = []
    for begun in range(0, EPISODES * 100, 100):
        player.reset()
        last = math.nan
        for tick in range(TICKS):
            now_ns = (begun + tick) * PERIOD
            caller.wait((now_ns - caller.now_ns) / 1e9)
            result = player.decide(np.array([tick / 10], np.float32), now_ns, math.inf)
            action = math.nan if result.decision is None else float(result.decision.action[0])
            (seams if result.is_new else within).append(abs(action - last))
            last = action
    return float(np.nanmean(seams)), float(np.nanmean(within))


SCHEDULES = ((0.0, 2), (0.8, 2), (1.8, 3), (2.8, 4))  # periods that a decision takes, execute


def chunk_policy(prediction: str) -> Policy:
    """Imitate two mirrored ways, which the observation does not tell apart."""
    rng = np.random.default_rng(0)
    dataset = LoadedDataset(SPEC, tuple(two_ways(rng) for _ in range(200)), "two ways")
    config = TrainConfig.model_validate(
        {
            "agent": "diffusion_bc",
            "policy": {"horizon": HORIZON, "width": 64},
            "diffusion": {"num_diffusion_steps": 10, "prediction": prediction},
            "run": {"steps": 2000, "batch_size": 128, "device": "cpu", "execution": "eager"},
        }
    )
    run = new_run(config, dataset)
    batches = make_batches(run, dataset)
    for _ in range(config.run.steps):
        run.agent.update(batches.draw())
    graph = policy_graph(run.agent, config, run.normalizer)
    return TorchPolicy(graph, SPEC, Choice(1, "first"), run.normalizer)


@pytest.mark.slow
def test_a_seam_is_no_worse_than_what_is_within_a_chunk() -> None:
    """Each chunk takes one of the two ways."""
    policy = chunk_policy("epsilon")
    for takes, execute in SCHEDULES:
        seam, within = mean_steps(policy, takes, execute)
        blind, _ = mean_steps(Blind(policy), takes, execute)
        assert seam < 1.3 * within
        assert blind > 1.5 * seam


@pytest.mark.slow
def test_predicted_clean_actions_step_less_at_seams_than_noise_does_within() -> None:
    """At most half as far, and within a chunk a quarter."""
    noise, clean = chunk_policy("epsilon"), chunk_policy("x0")
    for takes, execute in SCHEDULES:
        _, usual = mean_steps(noise, takes, execute)
        seam, within = mean_steps(clean, takes, execute)
        blind, _ = mean_steps(Blind(clean), takes, execute)
        assert seam < 0.5 * usual
        assert within < 0.25 * usual
        assert blind > 1.5 * seam
