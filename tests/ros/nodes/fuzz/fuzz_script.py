"""What a fuzzer does to a policy node, drawn from a seed: nothing here depends on what it answers.

A run is a sequence of lives, each of one process. In each the streams of the robot flow, mostly as
they should, and acts come in between: stops, requests, clocks, rivals, signals.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from tests.ros.nodes.fuzz.fuzz_oracle import Worth

# How messages of a stream can be, and what they are worth then.
STATES = {
    "valid": Worth.VALID,
    "slightly old": Worth.VALID,
    "nan": Worth.POISON,
    "infinite": Worth.POISON,
    "1e3": Worth.POISON,
    "1e30": Worth.POISON,
    "1e300": Worth.POISON,
    "wrong joint": Worth.USELESS,
    "too short": Worth.USELESS,
    "empty": Worth.USELESS,
    "garbage": Worth.USELESS,
    "cut off": Worth.USELESS,
    "ahead": Worth.USELESS,
    "far ahead": Worth.USELESS,
    "back": Worth.USELESS,
    "stamp zero": Worth.USELESS,
    "nanosec invalid": Worth.USELESS,
}
LOADS = {
    "valid": Worth.VALID,
    "nan": Worth.POISON,
    "1e30": Worth.POISON,
    "empty": Worth.USELESS,
    "garbage": Worth.USELESS,
}
TARGETS = {
    "valid": Worth.VALID,
    "nan": Worth.POISON,
    "garbage": Worth.USELESS,
    "ahead": Worth.USELESS,
}
SILENCE = "silence"
TRANSITIONS = ("configure", "activate", "deactivate", "cleanup", "destroy", "nonsense")
PARAMETERS = ("mode", "use_sim_time", "thread_priority", "contract", "on_rival", "no_such_one", "")
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP)
# Nothing is done to the node before that, so that it can come up.
START_S = 1.0
ACTS_PER_S = 1.5


@dataclass(frozen=True)
class Phase:
    """How the messages of a stream are until a time of the life, in seconds."""

    until_s: float
    manner: str


@dataclass(frozen=True)
class Act:
    """Something that is done at a time of the life, in seconds."""

    at_s: float
    what: str
    detail: str = ""
    number: float = 0.0


@dataclass(frozen=True)
class Script:
    """One life of the node.

    Attributes:
        seconds: How long it is.
        is_simulated: Whether the node has ``use_sim_time``.
        flows: How the messages of each stream are.
        acts: What else is done, in the order of time.
        end: The signal that ends it.
    """

    seconds: float
    is_simulated: bool
    flows: dict[str, list[Phase]]
    acts: list[Act]
    end: signal.Signals


def write(seed: int, life: int, seconds: float) -> Script:
    """Draw one life; equal arguments give equal ones."""
    rng = random.Random(f"{seed}/{life}")
    is_simulated = life % 2 == 1
    flows = {
        "joint_states": list(_flow(rng, seconds, STATES, share=0.75)),
        "load": list(_flow(rng, seconds, LOADS, share=0.93)),
    }
    acts = [
        act
        for _ in range(round(ACTS_PER_S * seconds))
        for act in _draw(rng, seconds, is_simulated)
    ]
    acts += [Act(0.5 * turn, "target", "valid") for turn in range(int(2 * seconds))]
    # It is brought up again and again; where it is up already, these are invalid requests.
    for turn in range(int(seconds)):
        acts.append(Act(float(turn), "transition", "configure"))
        acts.append(Act(turn + 0.3, "transition", "activate"))
    if rng.random() < 0.3:
        acts.append(Act(seconds - 0.3, "transition", "shutdown"))
    kept = sorted((act for act in acts if act.at_s < seconds), key=lambda act: act.at_s)
    return Script(seconds, is_simulated, flows, kept, rng.choice(ENDS))


def _flow(
    rng: random.Random, seconds: float, manners: dict[str, Worth], share: float
) -> Iterator[Phase]:
    """Valid messages for a share of the time, and between them everything else, in turns."""
    at_s = START_S + 1.0
    yield Phase(at_s, "valid")
    bad = [manner for manner in [*manners, SILENCE] if manner != "valid"]
    while at_s < seconds:
        length_s = rng.uniform(0.1, 1.6)
        for manner, part in ((rng.choice(bad), 1 - share), ("valid", share)):
            at_s += 2 * length_s * part
            yield Phase(at_s, manner)


def _draw(rng: random.Random, seconds: float, is_simulated: bool) -> list[Act]:
    """Draw one act, and what must follow it."""
    at_s, for_s = rng.uniform(START_S, seconds), rng.uniform(0.02, 1.0)
    what = rng.choice(_SIMULATED if is_simulated else _COMMON)
    if what == "stop":
        return _stop_and_reset(rng, at_s, for_s)
    if what in _ENDINGS:
        return [Act(at_s, what), Act(at_s + for_s, _ENDINGS[what])]
    if what in _CHOICES:
        return [Act(at_s, what, rng.choice(_CHOICES[what]))]
    if what == "clock jump":
        return [Act(at_s, what, number=rng.choice((-100.0, -5.0, -2.0, 2.0, 5.0, 100.0)))]
    if what in _LASTING:
        begun = Act(at_s, f"{what} begins", number=for_s)
        return [begun, Act(at_s + for_s, f"{what} ends")]
    return [Act(at_s, what)]


def _stop_and_reset(rng: random.Random, at_s: float, for_s: float) -> list[Act]:
    quality = rng.choice(("latched", "volatile"))
    acts = [Act(at_s, "stop", quality)]
    if rng.random() < 0.9:
        acts.append(Act(at_s + for_s, "release", quality))
        acts += [Act(at_s + for_s + wait_s, "reset") for wait_s in (0.0, 0.2, 1.0)]
    return acts


_ENDINGS = {"pause": "resume", "freeze": "thaw"}

_LASTING = ("rival", "second clock", "clock stand")

_CHOICES = {"transition": TRANSITIONS, "parameter": PARAMETERS, "target": tuple(TARGETS)}

_COMMON = (
    "stop",
    "stop",
    "pause",
    "transition",
    "freeze",
    "freeze",
    "parameter",
    "target",
    "rival",
    "garbage stop",
    "burst",
)

_SIMULATED = (*_COMMON, "clock jump", "clock jump", "clock stand", "second clock")
