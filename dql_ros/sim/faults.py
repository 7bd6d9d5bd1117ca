"""Faults of a link on purpose: latency, jitter, loss and noise, as `--faults` asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dql_core.errors import ConfigError, did_you_mean

Vector = NDArray[np.float64]
Tag = TypeVar("Tag")


@dataclass(frozen=True)
class LinkFaults:
    """What a link does to each message.

    Attributes:
        latency_ns: It arrives so much later.
        spread_ns: And by up to so much more, drawn evenly once an episode.
        jitter_ns: And by up to so much more, drawn evenly; messages never overtake each other.
        drop: Share of the messages that do not arrive at all.
        noise: Standard deviation of the Gaussian noise on each number, in its own unit.
    """

    latency_ns: int = 0
    spread_ns: int = 0
    jitter_ns: int = 0
    drop: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.drop < 1.0:
            raise ConfigError(f"a link drops {self.drop:g} of its messages: give 0 to below 1")
        if min(self.latency_ns, self.spread_ns, self.jitter_ns, self.noise) < 0:
            raise ConfigError(
                "latency, its spread, jitter and noise of a link must not be negative"
            )

    @property
    def are_late(self) -> bool:
        """Whether a message may arrive after it was sent."""
        return self.latency_ns + self.spread_ns + self.jitter_ns > 0


class FaultyLink(Generic[Tag]):
    """A queue between sender and receiver; without faults, what is sent is due at once.

    Attributes:
        dropped: How many messages it lost.
    """

    def __init__(self, faults: LinkFaults, rng: np.random.Generator) -> None:
        self.dropped = 0
        self._faults = faults
        self._rng = rng
        self._latency_ns = faults.latency_ns
        self._queue: deque[tuple[int, Vector, Tag]] = deque()

    def begin_episode(self) -> None:
        """Draw how late messages are from now on; what is on its way stays on it."""
        faults = self._faults
        if faults.spread_ns:
            more_ns = int(self._rng.integers(0, faults.spread_ns, endpoint=True))
            self._latency_ns = faults.latency_ns + more_ns

    def send(self, values: Vector, tag: Tag, now_ns: int) -> None:
        """Send numbers of any shape, with a tag that stays as it is."""
        faults = self._faults
        if faults.drop and self._rng.random() < faults.drop:
            self.dropped += 1
            return
        delay_ns = self._latency_ns
        if faults.jitter_ns:
            delay_ns += int(self._rng.integers(0, faults.jitter_ns, endpoint=True))
        if faults.noise:
            values = values + self._rng.normal(0.0, faults.noise, np.shape(values))
        newest_ns = self._queue[-1][0] if self._queue else now_ns
        self._queue.append((max(newest_ns, now_ns + delay_ns), values, tag))

    def due(self, now_ns: int) -> Iterator[tuple[int, Vector, Tag]]:
        """Yield what has arrived by ``now_ns``, the oldest first, once: when, numbers, tag."""
        while self._queue and self._queue[0][0] <= now_ns:
            yield self._queue.popleft()


def link_rng(seed: int, *link: int) -> np.random.Generator:
    """Return the source of chances of one link out of several of the same seed."""
    return np.random.default_rng([seed, *link])


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        parameters: The bridge's parameters that ask for it.
        meaning: What its amount is, with the unit.
        high: Largest amount; the smallest is 0.
        whole: Whether the amount is a whole number.
    """

    parameters: tuple[str, ...]
    meaning: str
    high: float
    whole: bool = False


LINKS = ("state", "command")

_KINDS = {
    "latency_ms": ("messages arrive so many ms later", 60_000.0),
    "latency_spread_ms": ("and by up to so many ms more, drawn once an episode", 60_000.0),
    "jitter_ms": ("and by up to so many ms more", 60_000.0),
    "drop": ("share of the messages that are lost", 0.95),
    "noise": ("standard deviation of noise on each number, in its unit", 1e9),
}

# Each kind for states and commands alike, and for either of them.
FAULTS = {
    **{
        kind: Fault(tuple(f"{link}_{kind}" for link in LINKS), meaning, high)
        for kind, (meaning, high) in _KINDS.items()
    },
    **{
        f"{link}_{kind}": Fault((f"{link}_{kind}",), meaning, high)
        for link in LINKS
        for kind, (meaning, high) in _KINDS.items()
    },
    "fault_seed": Fault(("fault_seed",), "seed of all these chances", 2**31, whole=True),
}

FAULTS_HELP = (
    "Faults of the links to and from the robot, such as latency_ms=20,drop=0.1: "
    + "; ".join(f"{kind}: {meaning}" for kind, (meaning, _) in _KINDS.items())
    + "; fault_seed: their seed. With state_ or command_ before it a fault is of that link only."
)


def parse_faults(spec: str) -> dict[str, float | int]:
    """Return the bridge's parameters for a list such as ``latency_ms=20,command_drop=0.1``.

    Raises:
        ConfigError: If an entry has no amount, an unknown name, or an amount out of range.
    """
    parameters: dict[str, float | int] = {}
    for entry in filter(None, (part.strip() for part in spec.split(","))):
        name, separator, text = entry.partition("=")
        fault = FAULTS.get(name)
        if fault is None:
            raise ConfigError(f"--faults: no fault '{name}'{did_you_mean(name, FAULTS)}")
        if not separator:
            raise ConfigError(f"--faults: '{name}' has no amount: give '{name}=…'")
        parameters |= dict.fromkeys(fault.parameters, _amount(name, text, fault))
    return parameters


def _amount(name: str, text: str, fault: Fault) -> float | int:
    try:
        amount = int(text) if fault.whole else float(text)
    except ValueError:
        kind = "a whole number" if fault.whole else "a number"
        raise ConfigError(f"--faults: {name} is '{text}', which is not {kind}") from None
    if not 0 <= amount <= fault.high:
        raise ConfigError(
            f"--faults: {name} is {text} ({fault.meaning}): give 0 to {fault.high:g}"
        )
    return amount
