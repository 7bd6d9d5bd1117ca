"""The policy node as it is, with every tick taken down."""

from __future__ import annotations

from benchmarks.control.samples import NONE, SampleLog
from dql_core.runtime.controller import Command, State
from dql_core.streams import Observation
from dql_ros.control.health import LoopStatistics
from dql_ros.nodes import control_loop, policy_node

LOG = SampleLog()


class LoggedStatistics(LoopStatistics):
    """Passes everything on to the log, too."""

    def add(self, begun_ns: int, observation: Observation, command: Command) -> None:
        """Take note of a tick."""
        super().add(begun_ns, observation, command)
        ages_ns = [age_ns for age_ns in observation.ages_ns.values() if age_ns is not None]
        inference_ns = NONE if command.inference_ns is None else command.inference_ns
        running = int(command.state is State.RUNNING)
        LOG.add(begun_ns, min(ages_ns, default=NONE), inference_ns, running)

    def add_latency(self, latency_ns: int) -> None:
        """Take note of how old the state was when its command was published."""
        super().add_latency(latency_ns)
        LOG.add_latency(latency_ns)


if __name__ == "__main__":
    vars(control_loop)["LoopStatistics"] = LoggedStatistics
    try:
        policy_node.main()
    finally:
        LOG.save()
