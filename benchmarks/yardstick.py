"""The yardstick: Diffusion-QL in plain eager PyTorch, written straight from the paper's equations.

It does the work of the paper's code in each step, no more and no less: the batch is drawn on the
CPU, targets are computed with gradients and then detached, the policy's backward pass fills the
critics' gradients too, and four losses are read on the host. Nothing of `dql_core` is used.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

N, DISCOUNT, TAU, ETA = 5, 0.99, 0.005, 1.0
GRADIENT_CLIP, LEARNING_RATE = 9.0, 3e-4
EMA_DECAY, EMA_EVERY = 0.995, 5


def with_the_papers_work(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return settings of our agent without what its defaults do beyond the yardstick's work.

    Args:
        settings: By section.
    """
    left_out: dict[str, dict[str, Any]] = {
        "diffusion": {"prediction": "epsilon"},
        "policy": {"max_imitation_ratio": None},
        "critic": {"layer_norm": False},
        "selection": {"rule": "softmax"},
    }
    sections = [*settings, *(name for name in left_out if name not in settings)]
    return {name: {**left_out.get(name, {}), **settings.get(name, {})} for name in sections}


class SinusoidalEmbedding(nn.Module):
    """Position embedding of the diffusion step."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, step: Tensor) -> Tensor:
        """(B,) -> (B, size)."""
        half = self.size // 2
        frequency = torch.exp(torch.arange(half) * -(math.log(10000) / (half - 1)))
        phase = step[:, None] * frequency[None, :]
        return torch.cat((phase.sin(), phase.cos()), dim=-1)


class NoiseNet(nn.Module):
    """Predicts the noise in an action."""

    def __init__(self, observation_size: int, action_size: int, width: int) -> None:
        super().__init__()
        self.step_net = nn.Sequential(
            SinusoidalEmbedding(16), nn.Linear(16, 32), nn.Mish(), nn.Linear(32, 16)
        )
        self.trunk = nn.Sequential(
            nn.Linear(observation_size + action_size + 16, width),
            nn.Mish(),
            nn.Linear(width, width),
            nn.Mish(),
            nn.Linear(width, width),
            nn.Mish(),
            nn.Linear(width, action_size),
        )

    def forward(self, action: Tensor, step: Tensor, observation: Tensor) -> Tensor:
        """(B, A), (B,), (B, O) -> (B, A)."""
        out: Tensor = self.trunk(torch.cat([action, self.step_net(step), observation], dim=1))
        return out


def critic_net(observation_size: int, action_size: int, width: int) -> nn.Sequential:
    """One action-value network on [observation, action]."""
    return nn.Sequential(
        nn.Linear(observation_size + action_size, width),
        nn.Mish(),
        nn.Linear(width, width),
        nn.Mish(),
        nn.Linear(width, width),
        nn.Mish(),
        nn.Linear(width, 1),
    )


class Yardstick:
    """Networks, data and the training step."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        width: int = 256,
        num_steps: int = N,
        num_transitions: int = 100_000,
    ) -> None:
        self.action_size, self.num_steps = action_size, num_steps
        self.actor = NoiseNet(observation_size, action_size, width)
        self.average = copy.deepcopy(self.actor)
        self.critics = nn.ModuleList(
            critic_net(observation_size, action_size, width) for _ in range(2)
        )
        self.targets = copy.deepcopy(self.critics)
        self.actor_adam = torch.optim.Adam(self.actor.parameters(), lr=LEARNING_RATE)
        self.critic_adam = torch.optim.Adam(self.critics.parameters(), lr=LEARNING_RATE)
        i = np.arange(1, num_steps + 1)
        alphas = np.exp(-0.1 / num_steps - 0.5 * 9.9 * (2 * i - 1) / num_steps**2)
        bars = np.cumprod(alphas)
        before = np.append(1.0, bars[:-1])
        self.alpha_bars = torch.tensor(bars, dtype=torch.float32)
        self.clean_weight = _column((1 - alphas) * np.sqrt(before) / (1 - bars))
        self.noisy_weight = _column((1 - before) * np.sqrt(alphas) / (1 - bars))
        variance = (1 - alphas) * (1 - before) / (1 - bars)
        self.log_variance = _column(np.log(np.maximum(variance, 1e-20)))
        self.step = 0
        self.data = {
            "observation": torch.randn(num_transitions, observation_size),
            "action": torch.rand(num_transitions, action_size) * 2 - 1,
            "next_observation": torch.randn(num_transitions, observation_size),
            "reward": torch.randn(num_transitions, 1),
            "not_done": torch.ones(num_transitions, 1),
        }

    def sample(self, actor: nn.Module, observation: Tensor) -> Tensor:
        """Run the reverse chain: (B, O) -> (B, A)."""
        batch = len(observation)
        action = torch.randn(batch, self.action_size)
        for i in reversed(range(self.num_steps)):
            step = torch.full((batch,), i, dtype=torch.long)
            bar = self.alpha_bars[step][:, None]
            epsilon = actor(action, step, observation)
            clean = torch.sqrt(1.0 / bar) * action - torch.sqrt(1.0 / bar - 1) * epsilon
            clean.clamp_(-1.0, 1.0)
            mean = self.clean_weight[step] * clean + self.noisy_weight[step] * action
            moving = (step != 0).float()[:, None]
            spread = (0.5 * self.log_variance[step]).exp()
            action = mean + moving * spread * torch.randn_like(action)
        return action.clamp_(-1.0, 1.0)

    def update(self, batch_size: int = 256) -> tuple[float, float, float, float]:
        """Take one training step; the four losses come to the host."""
        index = torch.randint(0, len(self.data["reward"]), size=(batch_size,))
        batch = {name: values[index] for name, values in self.data.items()}
        observation, action = batch["observation"], batch["action"]

        next_action = self.sample(self.average, batch["next_observation"])
        next_pair = torch.cat([batch["next_observation"], next_action], dim=1)
        next_q = torch.min(self.targets[0](next_pair), self.targets[1](next_pair))
        target = (batch["reward"] + batch["not_done"] * DISCOUNT * next_q).detach()
        pair = torch.cat([observation, action], dim=1)
        first, second = self.critics[0](pair), self.critics[1](pair)
        critic_loss = functional.mse_loss(first, target) + functional.mse_loss(second, target)
        self.critic_adam.zero_grad()
        critic_loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.critics.parameters(), GRADIENT_CLIP)
        self.critic_adam.step()

        step = torch.randint(0, self.num_steps, (batch_size,))
        noise = torch.randn_like(action)
        bar = self.alpha_bars[step][:, None]
        noisy = torch.sqrt(bar) * action + torch.sqrt(1.0 - bar) * noise
        bc_loss = functional.mse_loss(self.actor(noisy, step, observation), noise)
        new_pair = torch.cat([observation, self.sample(self.actor, observation)], dim=1)
        first, second = self.critics[0](new_pair), self.critics[1](new_pair)
        if np.random.uniform() > 0.5:
            q_loss = -first.mean() / second.abs().mean().detach()
        else:
            q_loss = -second.mean() / first.abs().mean().detach()
        actor_loss = bc_loss + ETA * q_loss
        self.actor_adam.zero_grad()
        actor_loss.backward()
        nn.utils.clip_grad_norm_(self.actor.parameters(), GRADIENT_CLIP)
        self.actor_adam.step()

        if self.step % EMA_EVERY == 0:
            _follow(self.average, self.actor, 1 - EMA_DECAY)
        _follow(self.targets, self.critics, TAU)
        self.step += 1
        return actor_loss.item(), bc_loss.item(), q_loss.item(), critic_loss.item()

    def select(self, state: NDArray[np.float32], num_candidates: int = 50) -> NDArray[np.float32]:
        """Choose an action for one raw state, shape (O,), among ``num_candidates``."""
        observation = torch.tensor(state.reshape(1, -1))
        repeated = torch.repeat_interleave(observation, repeats=num_candidates, dim=0)
        with torch.no_grad():
            action = self.sample(self.actor, repeated)
            pair = torch.cat([repeated, action], dim=1)
            q_values = torch.min(self.targets[0](pair), self.targets[1](pair)).flatten()
            index = torch.multinomial(functional.softmax(q_values, dim=0), 1)
        chosen: NDArray[np.float32] = action[index].cpu().numpy().flatten()
        return chosen

    def chain(self, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Sample a single action for one raw state, without critics."""
        with torch.no_grad():
            action = self.sample(self.actor, torch.tensor(state.reshape(1, -1)))
        chain: NDArray[np.float32] = action.cpu().numpy().flatten()
        return chain


def _column(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def _follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    for its, mine in zip(slow.parameters(), fast.parameters(), strict=True):
        its.data.copy_(rate * mine.data + (1 - rate) * its.data)
