"""Faults that the simulation bridge injects, as `dql closed-loop --faults` spells them."""

from __future__ import annotations

from dataclasses import dataclass

from dql_core.errors import ConfigError, did_you_mean


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
