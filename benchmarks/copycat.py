"""What it costs to observe velocities, the past or the last command; JSON lines.

    python -m benchmarks.copycat          # prints lines
    python -m benchmarks.copycat --keep   # and writes them to benchmarks/results

The demo's arm, and its operator's demonstrations: each variant observes the same episodes, in
process, by the contract's rules. A recorded episode begins as soon as its past is known. An
episode of the policy begins as a node's does: the safe command until the past is known, then the
policy. So its first previous action is a standstill, which the demonstrations hardly have.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import Line, keep, machine, markdown_table, show, where
from dql_core.config import load_config
from dql_core.data.dataset import Episode, write_dataset
from dql_core.errors import ContractError
from dql_core.evaluation.rollout import ParallelRollouts
from dql_core.evaluation.statistics import estimate_rate
from dql_core.sim import SCARA_ID
from dql_core.sim.scara_demonstrator import ScaraDemonstrator
from dql_core.strict_yaml import read_yaml
from dql_core.training.checkpoint import load_checkpoint
from dql_core.training.loop import train
from dql_ros.config_files import installed_config
from dql_ros.contract import Contract

COMMAND = "python -m benchmarks.copycat --keep"
AGENTS = {"Diffusion-BC": "train/scara_bc.yaml", "Diffusion-QL": "train/scara.yaml"}
SEED, DRIVE_SEED, BATCH_SIZE = 0, 50_000, 128
# An arm stood still whose angles changed by less than this in the last second.
STILL_TICKS, STILL_RAD = 10, 0.02
_ENV_ID = "benchmarks/ScaraReachPast-v0"
_JOINTS = ["shoulder", "elbow"]
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class Variant:
    """What is observed beside the joints' angles and the target.

    Attributes:
        label: Its name in the table.
        velocities: Whether the joints' velocities are.
        history: The contract's, of the joints.
        previous_action: The contract's.
        dropout: ``data.previous_action_dropout``.
    """

    label: str
    velocities: bool = False
    history: int = 1
    previous_action: int = 0
    dropout: float = 0.0

    @property
    def contract(self) -> Contract:
        """The demo's contract, with more in it."""
        path = installed_config("contracts/scara.yaml")
        document: dict[str, Any] = dict(read_yaml(path, ContractError))
        joints = document["observation"][0]
        joints["history"] = self.history
        if self.velocities:
            joints["fields"].append({"path": "velocity", "joints": _JOINTS, "unit": "rad/s"})
        document["previous_action"] = self.previous_action
        return Contract.model_validate(document)

    @property
    def waits(self) -> int:
        """How many ticks go by until the past is known."""
        return max(self.history - 1, self.previous_action)

    def vector(self, instants: Sequence[Rows], commands: Sequence[Rows]) -> Rows:
        """Return what is observed at the last instant.

        Args:
            instants: Angles, velocities and target at each tick so far, shape (6,) each.
            commands: What was commanded after each but the last.
        """
        joints = slice(0, 4 if self.velocities else 2)
        newest = [instants[-1 - ago][joints] for ago in range(self.history)]
        before = [commands[-ago] for ago in range(1, self.previous_action + 1)]
        return np.concatenate([*newest, instants[-1][4:], *before])


VARIANTS = (
    Variant("angles and target"),
    Variant("and velocities", velocities=True),
    Variant("and `history: 2`", history=2),
    Variant("and `previous_action: 1`", previous_action=1),
    Variant("and `previous_action: 1`, dropout 0.5", previous_action=1, dropout=0.5),
)


class PastEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The demo's arm, observed as a variant has it; counts how episodes ended.

    Args:
        env: The arm.
        variant: What is observed.
        endings: Takes how each episode that began with a seed ended, by the seed.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], variant: Variant, endings: dict[int, str]):
        super().__init__(env)
        self._variant, self._endings = variant, endings
        self._seed: int | None = None
        self._instants: list[Rows] = []
        self._commands: list[Rows] = []
        width = len(variant.contract.policy_spec().observation)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Rows, dict[str, Any]]:
        """Begin an episode, and stand still until its past is known."""
        observation, info = super().reset(seed=seed, options=options)
        self._seed = seed
        self._instants, self._commands = [instant(self.env, observation)], []
        for _ in range(self._variant.waits):
            still = np.zeros(2)
            self._note(self.env.step(still)[0], still)
        return self._variant.vector(self._instants, self._commands), info

    def step(self, action: Rows) -> tuple[Rows, float, bool, bool, dict[str, Any]]:
        """Go one step on."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._note(observation, action)
        if self._seed is not None and (terminated or truncated):
            ending = "success" if info["is_success"] else "collision"
            self._endings.setdefault(self._seed, ending if terminated else self._too_late())
        vector = self._variant.vector(self._instants, self._commands)
        return vector, float(reward), terminated, truncated, info

    def _too_late(self) -> str:
        """Whether the arm stood still when the time was over."""
        angles = np.array(self._instants[-STILL_TICKS:])[:, :2]
        return "stood still" if np.ptp(angles, axis=0).max() < STILL_RAD else "too late"

    def _note(self, observation: Rows, command: Rows) -> None:
        self._instants.append(instant(self.env, observation))
        self._commands.append(np.asarray(command, np.float64))


def instant(env: gymnasium.Env[Any, Any], observation: Rows) -> Rows:
    """Angles, velocities and target of the arm now, shape (6,)."""
    bare: Any = env.unwrapped
    return np.concatenate([observation[:2], bare.data.qvel, observation[2:]])


def demonstrate(count: int) -> Iterator[tuple[list[Rows], list[Rows], Episode]]:
    """Yield instants, commands and the plain episode of each demonstration."""
    plain = VARIANTS[0].contract.policy_spec()
    env, operator = gymnasium.make(SCARA_ID), ScaraDemonstrator(plain)
    rng = np.random.default_rng(SEED)
    for index in range(count):
        observation, _ = env.reset(seed=SEED + index)
        operator.reset()
        instants, commands, rewards = [instant(env, observation)], [], []
        terminated = truncated = False
        while not (terminated or truncated):
            action = operator.act(observation.astype(np.float32), rng).action
            observation, reward, terminated, truncated, _ = env.step(action.astype(np.float64))
            instants.append(instant(env, observation))
            commands.append(action.astype(np.float64))
            rewards.append(float(reward))
        actions = np.array(commands, np.float32)
        rows = np.zeros((len(instants), 4), np.float32)
        yield (
            instants,
            commands,
            Episode(rows, actions, np.array(rewards), terminated, truncated),
        )


def observed(
    variant: Variant, instants: list[Rows], commands: list[Rows], whole: Episode
) -> Episode:
    """Return a demonstration as a variant has it: from the tick on at which its past is known."""
    first = variant.waits
    rows = [
        variant.vector(instants[: tick + 1], commands[:tick])
        for tick in range(first, len(instants))
    ]
    ends = whole.terminated, whole.truncated
    return Episode(np.array(rows, np.float32), whole.actions[first:], whole.rewards[first:], *ends)


def measure(variant: Variant, agent: str, folder: Path, options: argparse.Namespace) -> Line:
    """Train an agent on a variant's dataset in ``folder`` / data, roll it out, and tell of it."""
    config = load_config(
        installed_config(AGENTS[agent]),
        (
            f"run.seed={SEED}",
            f"run.steps={options.steps}",
            f"run.batch_size={BATCH_SIZE}",
            "run.device=cpu",
            f"data.dataset={folder / 'data'}",
            f"data.previous_action_dropout={variant.dropout:g}",
        ),
    )
    run = folder / agent
    train(config, run)
    checkpoint = load_checkpoint(run)
    endings: dict[int, str] = {}
    gymnasium.register(
        _ENV_ID,
        entry_point=lambda **settings: PastEnv(gymnasium.make(SCARA_ID), variant, endings),
    )
    rollouts = ParallelRollouts(_ENV_ID, checkpoint.spec, options.episodes, DRIVE_SEED)
    try:
        rollouts.run(checkpoint.policy())
    finally:
        rollouts.close()
        del gymnasium.registry[_ENV_ID]
    ended = [endings[DRIVE_SEED + index] for index in range(options.episodes)]
    return {
        "observed": variant.label,
        "agent": agent,
        "steps": options.steps,
        "demonstrations": options.demonstrations,
        "episodes": options.episodes,
        "success_rate": estimate_rate([each == "success" for each in ended]).to_json(),
        "endings": dict(Counter(ended)),
    }


def main() -> None:
    """Train and roll out every agent on every variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demonstrations", type=int, default=300)
    parser.add_argument("--steps", type=int, default=2500, help="updates of each training")
    parser.add_argument("--episodes", type=int, default=100, help="rollouts of each policy")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    demonstrations = list(demonstrate(options.demonstrations))
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as name:
        for agent, (number, variant) in product(AGENTS, enumerate(VARIANTS)):
            folder = Path(name) / str(number)
            if not folder.exists():
                episodes = [observed(variant, *each) for each in demonstrations]
                write_dataset(folder / "data", episodes, variant.contract.policy_spec())
            lines.append(show(measure(variant, agent, folder, options) | machine()))
            if options.keep:
                keep("copycat", lines, table(lines))


def table(lines: Sequence[Line]) -> str:
    """Return the result page."""
    measured = {(line["observed"], line["agent"]): line for line in lines}
    labels = list(dict.fromkeys(line["observed"] for line in lines))
    rows = [
        [label, *(cell(measured.get((label, agent)), key) for agent in AGENTS for key in (0, 1))]
        for label in labels
    ]
    heads = [text for agent in AGENTS for text in (f"{agent}: success", "too late")]
    one = lines[0]
    return (
        f"# Copying the last command\n\n    {COMMAND}\n\n{where(lines)}\n\n"
        f"The demo's arm. {one['demonstrations']} demonstrations, {one['steps']:,} updates of "
        f"{BATCH_SIZE} transitions, one seed, {one['episodes']} episodes each from the same "
        f"starts, with the 95 % interval of these episodes (Wilson). *Too late*: the time ran "
        f"out; in brackets those that stood still, whose joints had not moved by {STILL_RAD:g} "
        f"rad in the last second. The others hit the post. *And* …: beside angles and target "
        f"alone.\n\n"
        + markdown_table(["observed", *heads], rows)
        + "\nOne seed of few updates tells the size of the effect, not which of two near variants "
        "is better. What to do about it: [a policy that copies the last command]"
        "(../../docs/how-to/run-it-on-my-robot.md#a-policy-that-copies-the-last-command).\n"
    )


def cell(line: Line | None, key: int) -> str:
    """Write a success rate with its interval, or the share of what came too late."""
    if line is None:
        return "not run"
    if key == 0:
        rate = line["success_rate"]
        low, high = rate["ci95"]
        return f"{rate['mean']:.0%} [{low:.0%}, {high:.0%}]"
    still = line["endings"].get("stood still", 0)
    late = line["endings"].get("too late", 0) + still
    return f"{late / line['episodes']:.0%} ({still / line['episodes']:.0%})"


if __name__ == "__main__":
    main()
