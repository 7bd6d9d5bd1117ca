"""Rollouts of trained actors as rows of a flat file."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.suite.actors import Actor, load_actor
from benchmarks.suite.flat_file import Rows, joined
from benchmarks.suite.sets import Share, TaskSet
from dql_core.data.spaces import make_env


def record_set(task_set: TaskSet, agents: Path, seed: int, size: int) -> tuple[Rows, list[Any]]:
    """Record a locomotion set.

    Args:
        task_set: Which.
        agents: Folder of the actors, ``TASK-ALGORITHM.npz``.
        seed: Seeds environments and actors; each share has its own stream.
        size: Number of transitions.

    Returns:
        The rows, and what is known of each share.
    """
    whole = sum(share.weight for share in task_set.shares)
    limits = np.round(np.cumsum([each.weight for each in task_set.shares]) / whole * size)
    counts = np.diff(limits, prepend=0).astype(int).tolist()
    env = make_env(task_set.env_id, "update Gymnasium")
    parts, facts = [], []
    for index, (share, count) in enumerate(zip(task_set.shares, counts, strict=True)):
        actor = load_actor(agents / f"{task_set.task}-{share.algorithm}.npz")
        rng = np.random.default_rng([seed, zlib.crc32(task_set.name.encode()), index])
        part = record(env, actor, share, count, rng)
        parts.append(part)
        facts.append(vars(share) | {"transitions": count, "score": mean_score(task_set, part)})
    env.close()
    return joined(parts), facts


def record(
    env: gym.Env[Any, Any], actor: Actor, share: Share, count: int, rng: np.random.Generator
) -> Rows:
    """Record ``count`` steps of an actor; where they end, an episode is cut off."""
    noise = rng if share.action == "sample" else None
    steps: list[tuple[Any, ...]] = []
    observation, _ = env.reset(seed=int(rng.integers(2**31)))
    while len(steps) < count:
        action = actor.act(observation, noise)
        following, reward, terminated, truncated, _ = env.step(action)
        cut_off = not terminated and (truncated or len(steps) + 1 == count)
        steps.append((observation, action, reward, following, terminated, cut_off))
        observation = following
        if terminated or truncated:
            observation, _ = env.reset(seed=int(rng.integers(2**31)))
    columns = zip(*steps, strict=True)
    kinds = (np.float32, np.float32, np.float32, np.float32, np.bool_, np.bool_)
    return Rows(
        *(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True))
    )


def mean_score(task_set: TaskSet, rows: Rows) -> float:
    """Return the mean score of whole episodes; of all if none is whole.

    An episode is whole if it terminated or lasted as long as the longest. A demonstration of PushT
    ends when its person is content: it counts as if the block lay there for the rest of the time.
    """
    spans = list(rows.episodes())
    if not task_set.shares:
        limit = -task_set.reference.low
        returns = [
            float(rows.rewards[each].sum())
            + float(rows.rewards[each][-1])
            * (limit - (each.stop - each.start))
            * (not rows.terminals[each.stop - 1])
            for each in spans
        ]
        return float(task_set.reference.scores(returns).mean())
    longest = max(each.stop - each.start for each in spans)
    whole = [
        each
        for each in spans
        if rows.terminals[each.stop - 1] or each.stop - each.start == longest
    ]
    returns = [float(rows.rewards[each].sum()) for each in whole or spans]
    return float(task_set.reference.scores(returns).mean())
