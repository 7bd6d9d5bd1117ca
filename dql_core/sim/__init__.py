"""Simulated robots; importing this package registers them with Gymnasium."""

import gymnasium

SCARA_ID = "dql_core/ScaraReach-v0"
# Where an environment's ``info`` has why the simulation could not go on.
FAILURE_KEY = "failure"


def is_model_file(env: str) -> bool:
    """Whether an environment is named by an MJCF file, not by a Gymnasium id."""
    return env.endswith(".xml")


gymnasium.register(
    id=SCARA_ID,
    entry_point="dql_core.sim.scara_env:ScaraReachEnv",
    max_episode_steps=40,
)
