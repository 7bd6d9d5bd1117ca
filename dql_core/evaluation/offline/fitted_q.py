r"""Fitted Q evaluation of several policies at once, by an ensemble with a bootstrap over episodes.

Each member of each policy's ensemble is a network of its own, and all learn side by side from the
same batches towards :math:`r + \gamma (1 - d) \bar Q(s', a'), a' \sim \pi(s')` (Le, Voloshin and
Yue 2019, arXiv 1903.08738, algorithm 3), with a slowly moving copy for :math:`\bar Q`. Member m
weighs episodes as often as a draw with replacement took them, the same draw for all policies, so
that differences between policies cancel what their members share.

Networks that were fitted to what was recorded say nothing of other actions, and mostly too much:
where a policy acts like nobody recorded nearby, what follows is worth no more than what a recorded
step nearby earned. Each member takes another one of these, from the worse to the better ones, so
that they disagree where it matters, and the interval is as wide as nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dql_core.evaluation.offline.recording import Recording
from dql_core.models.critic import CriticEnsemble
from dql_core.models.ema import MovingAverage, frozen_copy

BEHAVIOUR = 0
READINGS = 20
# Called with the share of the work that is done, from 0 to 1.
Progress = Callable[[float], None]


@dataclass(frozen=True)
class FittingSettings:
    """How the values are fitted.

    Attributes:
        members: Networks of each policy, m.
        width: Units of each of their hidden layers.
        depth: Number of hidden layers.
        warm_up: Updates towards the recorded returns, from which all policies begin.
        updates: Updates towards each policy's own targets.
        batch_size: Transitions in an update.
        learning_rate: Of Adam; it falls in the second half to a tenth.
        tau: Share of the way that the copy which makes targets moves with each update.
        transitions: That are learned from at most, fewer if policies sample many actions each.
    """

    members: int = 5
    width: int = 64
    depth: int = 2
    warm_up: int = 1_500
    updates: int = 5_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    tau: float = 0.1
    transitions: int = 50_000


@dataclass(frozen=True)
class PolicyActions:
    """What the policies do where the recording has been; the first policy is the behaviour.

    Attributes:
        chosen: Numbers of the transitions that are learned from, ascending, shape (L,).
        after: Standardised actions after each of them, shape (P, S, L, A); each policy has S
            draws. Where nothing more is recorded, the behaviour does what was done nearby.
        first: Standardised actions in each episode's first state, shape (P, D, E, A).
        after_exits: How surely each of ``after`` leaves what was recorded, from 0 to 1, shape
            (P, S, L); the behaviour never does.
        first_exits: The same of ``first``, shape (P, D, E).
        after_limit: What each member grants at most to leaving it after each transition, shape
            (m, L).
        first_limit: The same in the first states, shape (m, E).
    """

    chosen: NDArray[np.int64]
    after: NDArray[np.float32]
    first: NDArray[np.float32]
    after_exits: NDArray[np.float32]
    first_exits: NDArray[np.float32]
    after_limit: NDArray[np.float64]
    first_limit: NDArray[np.float64]


@dataclass(frozen=True)
class FittedValues:
    """Values of P policies by m members; the first policy is the behaviour.

    Attributes:
        first: Of each episode's first state under each policy, shape (P, m, E).
        tails: Of each episode's last transition under the behaviour, shape (m, E).
        trace: Mean of the first states' values at each reading of the training, (T, P, m).
        clipped: Share of the last targets that were beyond what is possible, shape (P,).
    """

    first: NDArray[np.float64]
    tails: NDArray[np.float64]
    trace: NDArray[np.float64]
    clipped: NDArray[np.float64]


def fit_values(
    recording: Recording,
    actions: PolicyActions,
    settings: FittingSettings,
    seed: int,
    progress: Progress = lambda _: None,
) -> FittedValues:
    """Fit the values of policies to recorded transitions.

    Args:
        recording: The transitions.
        actions: What the policies do.
        settings: How much is spent on it.
        seed: Seeds networks, bootstrap and batches.
        progress: Told how far it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _Fit(recording, actions, settings, seed).run(progress)


class _Fit:
    def __init__(
        self, recording: Recording, actions: PolicyActions, settings: FittingSettings, seed: int
    ) -> None:
        self._recording, self._settings = recording, settings
        self._policies = len(actions.after)
        self._generator = torch.Generator().manual_seed(seed)
        # Returns of the recording are of mean 0 and spread 1 in the networks' units.
        known = recording.expected
        self._centre = float(known.mean())
        self._scale = max(float(known.std()), 1e-6 * max(abs(self._centre), 1.0))
        chosen = actions.chosen
        self._table = _Table.make(recording, chosen, (known - self._centre) / self._scale)
        self._weights = _bootstrap(recording, chosen, settings.members, seed)
        self._after = self._places(actions.after, actions.after_exits, actions.after_limit)
        self._first = self._places(actions.first, actions.first_exits, actions.first_limit)
        gamma = recording.discount
        self._rewards = torch.as_tensor(recording.rewards[chosen] / self._scale).float()
        self._discounts = gamma * self._table.continues
        # r + gamma c (centre + scale q) = centre + scale (what the network is to learn).
        shift = self._centre / self._scale
        self._rewards += shift * (self._discounts - 1.0)
        self._low = (recording.possible.low - self._centre) / self._scale
        self._high = (recording.possible.high - self._centre) / self._scale

    def _places(
        self,
        actions: NDArray[np.float32],
        exits: NDArray[np.float32],
        limit: NDArray[np.float64],
    ) -> _Places:
        scaled = torch.as_tensor((limit - self._centre) / self._scale).float()
        return _Places(torch.as_tensor(actions), torch.as_tensor(exits), scaled)

    def run(self, progress: Progress) -> FittedValues:
        settings = self._settings
        total = settings.warm_up / self._policies + settings.updates
        online = self._warmed_up(lambda done: progress(done / self._policies / total))
        networks = _copies(online, self._policies)
        target = frozen_copy(networks)
        average = MovingAverage(target, networks, settings.tau)
        optimizer = torch.optim.Adam(networks.parameters(), settings.learning_rate, fused=True)
        trace, clipped = [], torch.zeros(self._policies)
        reading = max(settings.updates // READINGS, 1)
        for step in range(settings.updates):
            _set_rate(optimizer, settings, step)
            rows = self._draw()
            targets, beyond = self._targets(target, rows)
            self._learn(networks, optimizer, rows, targets)
            average.move()
            clipped = 0.99 * clipped + 0.01 * beyond
            if (step + 1) % reading == 0:
                trace.append(self._first_values(target).mean(axis=-1))
                progress((settings.warm_up / self._policies + step + 1) / total)
        return FittedValues(
            first=self._first_values(target),
            tails=self._last_values(target),
            trace=np.stack(trace),
            clipped=clipped.double().numpy(),
        )

    def _draw(self) -> Tensor:
        size = (self._settings.batch_size,)
        return torch.randint(len(self._table.episodes), size, generator=self._generator)

    def _warmed_up(self, progress: Progress) -> CriticEnsemble:
        """Return m networks that have learned the recorded returns."""
        settings = self._settings
        networks = CriticEnsemble(
            self._table.observations.shape[1],
            self._table.actions.shape[1],
            settings.width,
            settings.depth,
            num_critics=settings.members,
            layer_norm=True,
        )
        optimizer = torch.optim.Adam(networks.parameters(), settings.learning_rate, fused=True)
        for step in range(settings.warm_up):
            rows = self._draw()
            targets = self._table.returns[rows].expand(settings.members, -1)
            self._learn(networks, optimizer, rows, targets)
            if (step + 1) % 100 == 0:
                progress(step + 1)
        return networks

    def _learn(
        self,
        networks: CriticEnsemble,
        optimizer: torch.optim.Adam,
        rows: Tensor,
        targets: Tensor,
    ) -> None:
        """Take one step towards targets of shape (n, B), policy after policy."""
        values = networks(self._table.observations[rows], self._table.actions[rows])
        weights = self._weights[:, rows].repeat(len(targets) // self._settings.members, 1)
        loss = (weights * (values - targets).square()).mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def _targets(self, target: CriticEnsemble, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return targets, shape (P * m, B), and the share that was clipped, shape (P,)."""
        draws = self._after.actions.shape[1]
        places = self._after.of(int(torch.randint(draws, (), generator=self._generator)), rows)
        values = self._values(target, self._table.next_observations[rows], places)
        targets = self._rewards[rows] + self._discounts[rows] * values
        bounded = targets.clamp(self._low, self._high)
        beyond = (bounded != targets).float().mean(dim=1)
        return bounded, beyond.reshape(self._policies, -1).mean(dim=1)

    def _values(self, networks: CriticEnsemble, observations: Tensor, places: _Places) -> Tensor:
        """Return values of each policy's actions, (B, O) -> (P * m, B)."""
        members = self._settings.members
        values = networks.each(observations, places.actions.repeat_interleave(members, dim=0))
        exits = places.exits.repeat_interleave(members, dim=0)
        limit = places.limit.repeat(self._policies, 1)
        return values + exits * (torch.minimum(values, limit) - values)

    @torch.no_grad()
    def _first_values(self, networks: CriticEnsemble) -> NDArray[np.float64]:
        """Return the values of the first states, shape (P, m, E)."""
        firsts = self._recording.rows[self._recording.firsts]
        observations = torch.as_tensor(self._recording.observations[firsts])
        draws = [
            self._values(networks, observations, self._first.of(draw))
            for draw in range(self._first.actions.shape[1])
        ]
        mean = torch.stack(draws).double().mean(dim=0)
        return self._restored(mean).reshape(self._policies, self._settings.members, -1)

    @torch.no_grad()
    def _last_values(self, networks: CriticEnsemble) -> NDArray[np.float64]:
        """Return what the behaviour's members say of the last transitions, shape (m, E)."""
        lasts = np.append(self._recording.firsts[1:], len(self._recording)) - 1
        rows = self._recording.rows[lasts]
        values = networks(
            torch.as_tensor(self._recording.observations[rows]),
            torch.as_tensor(self._recording.actions[lasts]),
        )
        return self._restored(values[: self._settings.members].double())

    def _restored(self, values: Tensor) -> NDArray[np.float64]:
        restored: NDArray[np.float64] = (values * self._scale + self._centre).numpy()
        return restored


class _Places(NamedTuple):
    """What policies do in n states, and what leaving the recording there is worth.

    Attributes:
        actions: Shape (P, S, n, A), or (P, n, A) of one draw.
        exits: Shape (P, S, n), or (P, n).
        limit: What each member grants at most to exits, in the networks' units, shape (m, n).
    """

    actions: Tensor
    exits: Tensor
    limit: Tensor

    def of(self, draw: int, rows: Tensor | slice = slice(None)) -> _Places:
        """Return one draw, in some of the states."""
        return _Places(self.actions[:, draw, rows], self.exits[:, draw, rows], self.limit[:, rows])


@dataclass(frozen=True)
class _Table:
    """Columns of the transitions that are learned from, L of them."""

    observations: Tensor
    next_observations: Tensor
    actions: Tensor
    continues: Tensor
    returns: Tensor
    episodes: Tensor

    @classmethod
    def make(
        cls, recording: Recording, chosen: NDArray[np.int64], returns: NDArray[np.float64]
    ) -> _Table:
        rows = recording.rows[chosen]
        return cls(
            observations=torch.as_tensor(recording.observations[rows]),
            next_observations=torch.as_tensor(recording.observations[rows + 1]),
            actions=torch.as_tensor(recording.actions[chosen]),
            continues=torch.as_tensor(recording.continues[chosen]),
            returns=torch.as_tensor(returns[chosen]).float(),
            episodes=torch.as_tensor(recording.episodes[chosen]),
        )


def _bootstrap(recording: Recording, chosen: NDArray[np.int64], members: int, seed: int) -> Tensor:
    """Return each member's weight of each transition, shape (m, L): how often it was drawn."""
    rng = np.random.default_rng(seed)
    count = len(recording.firsts)
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=members)
    weights = drawn[:, recording.episodes[chosen]].astype(np.float64)
    # Where few transitions of the drawn episodes are chosen, the mean may be far from 1.
    weights /= np.maximum(weights.mean(axis=1, keepdims=True), 1e-3)
    return torch.as_tensor(weights, dtype=torch.float32)


@torch.no_grad()
def _copies(networks: CriticEnsemble, times: int) -> CriticEnsemble:
    """Return an ensemble of ``times`` as many networks, all of them after each other."""
    copies = frozen_copy(networks)
    copies.num_critics = networks.num_critics * times
    for layer in copies.layers.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            repeated = parameter.repeat(times, 1, 1)
            setattr(layer, name, torch.nn.Parameter(repeated))
    return copies


def _set_rate(optimizer: torch.optim.Adam, settings: FittingSettings, step: int) -> None:
    left = 2.0 * (1.0 - step / settings.updates)
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * min(1.0, max(left, 0.1))
