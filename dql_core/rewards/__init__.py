"""Functions over an episode: its rewards, and ends that no topic reports.

A contract and `dql relabel` name a function as ``module:function``. It is called with a
`LoggedEpisode` and keyword arguments, and returns one number (a reward) or one flag (a predicate)
for each of the T transitions. What it returns for step t belongs to the transition from
``observations[t]`` by ``actions[t]`` to ``observations[t + 1]``.

The bundled functions are named ``dql_core.rewards:distance_to_goal`` and so on. Each of them
returns a reward: what costs is negative, so that the weights of a sum are positive.
"""

from dql_core.rewards.functions import (
    action_cost,
    distance_to_goal,
    joint_limit_penalty,
    outcome,
    outside_bounds,
    success_bonus,
    within_distance,
)
from dql_core.spec import LoggedEpisode

__all__ = [
    "LoggedEpisode",
    "action_cost",
    "distance_to_goal",
    "joint_limit_penalty",
    "outcome",
    "outside_bounds",
    "success_bonus",
    "within_distance",
]
