"""What a closed loop came to: outcome of the episodes, timing and guards of the policy node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dql_core.evaluation.rollout import EvaluationResult
from dql_ros.closed_loop import BRIDGE, DRIVER
from dql_ros.diagnostics_log import DiagnosticsLog, Report
from dql_ros.simulation import EpisodeResult

_GUARD = "guard "
# Told elsewhere, or only of interest where it is not 0.
_OMITTED = ("mode", "bundle", "episode", _GUARD)
_SHOWN_ZEROS = {"seed", "missed ticks", "periods lost"}


@dataclass(frozen=True)
class ClosedLoop:
    """One run of `dql closed-loop`.

    Attributes:
        bundle: Folder of the policy bundle.
        env: Gymnasium id of the environment.
        seed: Episode i was reset with ``seed + i``.
        real_time: Whether the simulation ran with the clock.
        faults: What the bridge injected, by parameter.
        results: How the episodes ended.
        log: What the nodes told of themselves.
    """

    bundle: Path
    env: str
    seed: int
    real_time: bool
    faults: Mapping[str, float | int]
    results: list[EpisodeResult]
    log: DiagnosticsLog

    @property
    def outcome(self) -> EvaluationResult:
        """The episodes in the form of one in-process rollout."""
        return summarize(self.results)

    @property
    def policy(self) -> Report | None:
        """The policy node's last report; its counts are those of the whole run."""
        reports = self.log.of_node(DRIVER)
        return reports[-1] if reports else None

    @property
    def simulation(self) -> Report | None:
        """The bridge's last report."""
        reports = self.log.of_node(BRIDGE)
        return reports[-1] if reports else None

    @property
    def guards(self) -> dict[str, int]:
        """How often each guard objected, by its name."""
        values = {} if self.policy is None else self.policy.values
        counts = {
            key.removeprefix(_GUARD): int(value)
            for key, value in values.items()
            if key.startswith(_GUARD) and value.isdecimal()
        }
        # What was passed on is told beside the guards but is no objection.
        counts.pop("published", None)
        return counts

    def policy_facts(self) -> dict[str, object]:
        """Return what a reader wants to know of the policy node, by label."""
        if self.policy is None:
            return {"diagnostics": "none came"}
        facts = _told(self.policy)
        objected = {name: count for name, count in self.guards.items() if count}
        facts["guards"] = (
            ", ".join(f"{name} {count}" for name, count in objected.items())
            or "none of them objected"
        )
        return facts | self._worst(DRIVER)

    def simulation_facts(self) -> dict[str, object]:
        """Return what a reader wants to know of the simulation, by label."""
        facts = {} if self.simulation is None else _told(self.simulation)
        return {"episodes": len(self.results), **facts, **self._worst(BRIDGE)}

    def to_json(self) -> dict[str, Any]:
        """Return everything in a JSON-ready form."""
        nodes = {name: report.to_json() for name, report in sorted(self.log.last.items())}
        return {
            "policy": str(self.bundle),
            "env": self.env,
            "seed": self.seed,
            "mode": "real_time" if self.real_time else "lockstep",
            "faults": dict(self.faults),
            **self.outcome.to_json(),
            "guards": self.guards,
            "nodes": nodes,
        }

    def _worst(self, node: str) -> dict[str, object]:
        worst = self.log.worst(node)
        return {"worst": f"{worst.message} (after {worst.time_s:.1f} s)"} if worst else {}


def _told(report: Report) -> dict[str, object]:
    """Leave out what is told elsewhere, and counts of what did not happen."""
    return {
        key: value
        for key, value in report.values.items()
        if not key.startswith(_OMITTED) and (value != "0" or key in _SHOWN_ZEROS)
    }


def summarize(results: Sequence[EpisodeResult]) -> EvaluationResult:
    """Return the outcome of episodes over topics in the form of one in-process rollout."""
    return EvaluationResult(
        returns=tuple(result.return_ for result in results),
        lengths=tuple(result.length for result in results),
        successes=tuple(result.success for result in results if result.success is not None),
    )
