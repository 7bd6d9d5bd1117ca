"""Does all that can go wrong to a running policy node, and judges it from the wire alone.

    python -m tests.ros.nodes.fuzz.fuzz_live --seed 1 --seconds 600
    python -m tests.ros.nodes.fuzz.fuzz_live --seed 1 --life 7        # that life of it again

It ends with 1 if a promise was not kept, and tells what had been done before. What is done, and
when, is the same for equal seeds; how it falls between the node's ticks is not.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dql_ros.processes import own_domain
from tests.ros.nodes.fuzz import fuzz_script
from tests.ros.nodes.fuzz.fuzz_actor import ALLOWANCE_S, CONTRACT, RIVAL, RULES, Fuzzer
from tests.ros.nodes.fuzz.fuzz_oracle import Command, Event, Kind, Life, Violation, judge
from tests.ros.nodes.robot import Robot
from tests.ros.untrained import untrained_bundle

LIFE_S = 10.0
# So many violations of a life are told, and of what was done before each.
TOLD_VIOLATIONS, TOLD_EVENTS = 3, 20


@dataclass
class Report:
    """What came of a run.

    Attributes:
        seed: Its seed.
        lives: The lives that were judged, by number.
        violations: What was violated, by life.
    """

    seed: int
    lives: dict[int, Life] = field(default_factory=dict)
    violations: dict[int, list[Violation]] = field(default_factory=dict)

    @property
    def acting(self) -> int:
        """How many commands were the policy's: without them nothing was tried."""
        return sum(seen.acts for life in self.lives.values() for seen in life.seen)

    def lines(self, number: int) -> Iterator[str]:
        """Say what came of a life, a line a thing."""
        life, found = self.lives[number], self.violations[number]
        unanswered = [e for e in life.of(*_ANSWERED) if e.success is None]
        yield (
            f"seed {self.seed} life {number}: {len(life.events)} events, "
            f"{len(life.commands)} commands, {sum(s.acts for s in life.seen)} of the policy, "
            f"{len(unanswered)} requests without an answer, {len(found)} violations"
        )
        begun_s = life.events[0].at_s
        for violation in found[:TOLD_VIOLATIONS]:
            yield (
                f"VIOLATION of '{violation.rule}' at {violation.at_s - begun_s:.3f} s: "
                f"{violation.what} (--seed {self.seed} --life {number})"
            )
            before = [e for e in _condensed(life.events) if e.at_s <= violation.at_s]
            for event in before[-TOLD_EVENTS:]:
                yield f"    {event.at_s - begun_s:8.3f} s  {_words(event, begun_s)}"


_ANSWERED = (Kind.RESET, Kind.PAUSE, Kind.RESUME, Kind.TRANSITION)


def main() -> None:
    """Fuzz for a time, or one life."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--life", type=int, help="only this one")
    parser.add_argument("--horizon", type=int, default=1, help="actions that are decided at once")
    parser.add_argument("--allowance", type=float, default=ALLOWANCE_S, help="for delivery, in s")
    arguments = parser.parse_args()
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the nodes would not heed it either
    report = fuzz(
        arguments.seed,
        arguments.seconds,
        only=arguments.life,
        allowance_s=arguments.allowance,
        horizon=arguments.horizon,
        tell=lambda line: print(line, flush=True),  # noqa: T201 - it is a program
    )
    sys.exit(1 if any(report.violations.values()) else 0)


def fuzz(
    seed: int,
    seconds: float,
    only: int | None = None,
    allowance_s: float = ALLOWANCE_S,
    horizon: int = 1,
    tell: Callable[[str], object] = str,
) -> Report:
    """Run lives for so long, at least two of them, or only one.

    Args:
        seed: All is drawn from it.
        seconds: For how long.
        only: The number of the one life to run.
        allowance_s: What delivery and a busy machine may take.
        horizon: How many actions the policy decides at once.
        tell: Is told what came of each life, a line a thing.
    """
    report, begun_s = Report(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        contract = folder / "contract.yaml"
        contract.write_text(CONTRACT)
        bundle = untrained_bundle(folder, contract, horizon)
        number = 0 if only is None else only
        while True:
            script = fuzz_script.write(seed, number, LIFE_S)
            with own_domain() as domain, Robot(domain) as robot:
                events = Fuzzer(robot, script, folder, contract, bundle).live()
            commands = _read(folder / "commands.jsonl", script.is_simulated)
            rules = replace(RULES, allowance_s=allowance_s, is_simulated=script.is_simulated)
            life = report.lives[number] = Life(events, commands, rules)
            report.violations[number] = judge(life)
            for line in report.lines(number):
                tell(line)
            number += 1
            is_over = time.monotonic() - begun_s + LIFE_S > seconds
            if only is not None or (is_over and number >= 2):
                return report


def _read(path: Path, is_simulated: bool) -> list[Command]:
    """Read what the recorder wrote, without the rival's commands."""
    commands = []
    for line in path.read_text().splitlines():
        sent_s, number, stamp_s, offset_s, values = json.loads(line)
        if tuple(values) != RIVAL:
            stamp_s -= 0.0 if is_simulated else offset_s
            commands.append(Command(sent_s, number, tuple(values), stamp_s))
    return commands


def _condensed(events: Sequence[Event]) -> list[Event]:
    """Leave out messages that are as the one before on their stream."""
    kept, last = [], dict[str, str]()
    for event in events:
        if event.kind is Kind.MESSAGE:
            if last.get(event.stream) == event.detail:
                continue
            last[event.stream] = event.detail
        kept.append(event)
    return kept


def _words(event: Event, begun_s: float) -> str:
    words = [event.kind.value, event.stream, event.detail]
    if event.kind in _ANSWERED:
        answer = {True: "granted", False: "refused", None: "no answer"}[event.success]
        at = "" if event.success is None else f" at {event.answered_s - begun_s:.3f} s"
        words.append(f"({answer}{at})")
    return " ".join(filter(None, words))


if __name__ == "__main__":
    main()
