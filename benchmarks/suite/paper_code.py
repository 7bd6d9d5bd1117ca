"""The paper's own code as a learner, from a folder beside the project.

    git clone https://github.com/Zhendong-Wang/Diffusion-Policies-for-Offline-RL paper

Its agent and its sampler of batches are used as they are; its `main.py`, which needs D4RL, is not.
What that does is done here: the agent's arguments are those of its script for the Gym sets, and a
decision is its `sample_action`, for all episodes at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.suite.measuring import Plan, Transitions, seed_of
from dql_core.errors import ConfigError

BATCH_SIZE, CANDIDATES = 256, 50
# Its script evaluates, and moves the learning rate, every 50 epochs of 1000 updates; 2000 epochs
# are to be run.
UPDATES_A_CALL, EPOCHS = 50_000, 2000


class PaperLearner:
    """The paper's agent.

    Args:
        folder: Of the paper's code.
        plan: What is measured.
        transitions: What it learns from.

    Raises:
        ConfigError: If the folder holds something else.
    """

    def __init__(self, folder: Path, plan: Plan, transitions: Transitions) -> None:
        agents, samplers = _modules(folder)
        torch.manual_seed(plan.seed)
        np.random.seed(plan.seed)  # which its agent draws from
        names = ("observations", "actions", "rewards", "next_observations", "terminals")
        self._batches = samplers.Data_Sampler(
            {name: getattr(transitions, name) for name in names}, "cpu", "no"
        )
        self._agent = agents.Diffusion_QL(
            state_dim=transitions.observations.shape[1],
            action_dim=transitions.actions.shape[1],
            max_action=1.0,
            device="cpu",
            discount=0.99,
            tau=0.005,
            max_q_backup=False,
            beta_schedule="vp",
            n_timesteps=5,
            eta=1.0,
            lr=3e-4,
            lr_decay=True,
            lr_maxt=EPOCHS,
            grad_norm=plan.task_set.gradient_clip,
        )

    def learn(self, updates: int) -> float:
        """Take some updates; the learning rate moves only where its script moves it."""
        losses: list[float] = []
        while updates:
            left = UPDATES_A_CALL - self._agent.step % UPDATES_A_CALL
            count = min(updates, left)
            self._agent.lr_decay = count == left
            losses += self._agent.train(self._batches, count, BATCH_SIZE)["critic_loss"]
            updates -= count
        return fmean(losses)

    def policy(self) -> PaperPolicy:
        """Return what acts as learned so far."""
        return PaperPolicy(self._agent)

    def state(self) -> dict[str, Any]:
        """Return the agent's networks, optimisers and schedules, its step, and all randomness."""
        _, keys, *others = np.random.get_state()
        return {
            "parts": {name: part.state_dict() for name, part in self._parts().items()},
            "step": self._agent.step,
            "torch": torch.get_rng_state(),
            "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), *others],
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        for name, part in self._parts().items():
            part.load_state_dict(state["parts"][name])
        self._agent.step = state["step"]
        torch.set_rng_state(state["torch"])
        keys, *others = state["numpy"]
        np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *others))

    def _parts(self) -> dict[str, Any]:
        return {
            name: part for name, part in vars(self._agent).items() if hasattr(part, "state_dict")
        }


class PaperPolicy:
    """The agent's `sample_action` for many observations at once."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def act_for_each(
        self, observations: NDArray[np.float32], rngs: Sequence[np.random.Generator]
    ) -> NDArray[np.float32]:
        """Sample candidates for each observation, and draw one of each by its value."""
        states = torch.as_tensor(observations).repeat_interleave(CANDIDATES, dim=0)
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed_of(rngs))
            actions = self._agent.actor.sample(states)
            values = self._agent.critic_target.q_min(states, actions)
            chances = values.view(len(observations), CANDIDATES).softmax(dim=1)
            chosen = torch.multinomial(chances, 1)[:, 0]
        candidates = actions.view(len(observations), CANDIDATES, -1)
        taken: NDArray[np.float32] = candidates[torch.arange(len(chosen)), chosen].numpy()
        return taken


def _modules(folder: Path) -> tuple[Any, Any]:
    if not (folder / "agents" / "ql_diffusion.py").is_file():
        raise ConfigError(f"--paper {folder}: is not the paper's code; see paper_code.py")
    sys.path.insert(0, str(folder.resolve()))
    try:
        modules = [
            importlib.import_module(name) for name in ("agents.ql_diffusion", "utils.data_sampler")
        ]
    except ImportError as cause:
        raise ConfigError(f"--paper {folder}: {cause}; install what its code needs") from cause
    return modules[0], modules[1]
