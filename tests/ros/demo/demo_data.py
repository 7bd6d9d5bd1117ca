"""Recorded episodes of the demo robot, made by hand."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dql_core.data.dataset import Episode
from dql_core.sim.scara import POST_CENTRE, START_CENTRE, TARGET_CENTRE, joints_at
from dql_ros.demo.rollouts import Outcome, Rollouts
from dql_ros.sim.result import EpisodeResult

LABELS = {
    "demonstrator": "demonstrator",
    "diffusion_bc": "Diffusion-BC",
    "diffusion_ql": "Diffusion-QL",
}


def recorded_episode(outcome: Outcome, x_beside_post: float) -> Episode:
    """Return an episode that goes past the post at a given x, in m, and ends in a given way."""
    beside = np.array([x_beside_post, 0.0])
    corners = {
        "success": [START_CENTRE, beside, TARGET_CENTRE],
        "collision": [START_CENTRE, POST_CENTRE - [0.0, 0.09]],
        "timeout": [START_CENTRE, beside, TARGET_CENTRE - [0.05, 0.05]],
    }[outcome]
    path = np.concatenate([np.linspace(a, b, 6) for a, b in pairwise(corners)])
    observations = np.array([[*joints_at(point), *TARGET_CENTRE] for point in path], np.float32)
    steps = len(path) - 1
    return Episode(
        observations=observations,
        actions=np.zeros((steps, 2), np.float32),
        rewards=np.full(steps, 0.5 if outcome == "success" else -0.5),
        terminated=outcome != "timeout",
        truncated=outcome == "timeout",
    )


def result_of(index: int, episode: Episode, outcome: Outcome) -> EpisodeResult:
    return EpisodeResult(
        episode=index,
        seed=index,
        return_=float(episode.rewards.sum()),
        length=len(episode),
        terminated=episode.terminated,
        truncated=episode.truncated,
        success=outcome == "success",
    )


def rollouts(key: str, outcomes: list[Outcome]) -> Rollouts:
    """Return episodes that go inside and outside the post in turn."""
    sides: NDArray[np.float64] = POST_CENTRE[0] + np.array([-0.12, 0.12])
    episodes = tuple(
        recorded_episode(outcome, sides[index % 2]) for index, outcome in enumerate(outcomes)
    )
    results = tuple(
        result_of(index, episode, outcome)
        for index, (episode, outcome) in enumerate(zip(episodes, outcomes, strict=True))
    )
    return Rollouts(key, LABELS[key], results, episodes)


def three_policies() -> list[Rollouts]:
    return [
        rollouts("demonstrator", ["success", "success", "collision", "timeout"]),
        rollouts("diffusion_bc", ["success", "collision", "timeout", "collision"]),
        rollouts("diffusion_ql", ["success", "timeout", "success", "success"]),
    ]
