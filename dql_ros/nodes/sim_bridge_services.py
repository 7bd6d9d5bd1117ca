"""Services of the simulation bridge: reset, pause and step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

from dql_core.errors import SimulationError
from dql_ros.nodes.parameters import value_of
from dql_ros.sim_run import SimulationRun
from dql_ros.simulation import EpisodeRunner


class BridgeServices:
    """Turns what people ask into what the gate allows and how the next episode begins."""

    def __init__(
        self,
        node: Node,
        run: SimulationRun,
        runner: EpisodeRunner,
        changed: Callable[[], None],
    ) -> None:
        """Offer the services.

        Args:
            node: The bridge; has the parameters ``reset_seed``, ``keyframe`` and ``steps``.
            run: The simulation, whose gate lets steps through.
            runner: Begins its episodes.
            changed: Called after anything was asked.

        Raises:
            SimulationError: If the model has no such keyframe.
        """
        self._node = node
        self._run = run
        self._gate = run.gate
        self._runner = runner
        self._changed = changed
        runner.ask_for(None, value_of(node, "keyframe"))
        node.create_service(Trigger, "~/reset", self._on_reset)
        node.create_service(SetBool, "~/pause", self._on_pause)
        node.create_service(Trigger, "~/step", self._on_step)
        node.add_on_set_parameters_callback(self._on_parameters)

    def _on_reset(self, _request: Any, response: Any) -> Any:
        """End the running episode as truncated with its next step, and begin another."""
        response.success = True
        if self._run.frame is None:
            response.message = "no episode has begun"
            return response
        seed = value_of(self._node, "reset_seed")
        self._runner.ask_for(None if seed < 0 else seed, value_of(self._node, "keyframe"))
        if self._run.is_running:
            self._gate.request_reset()
            response.message = "the next step ends the episode"
        else:
            self._gate.allow(1)
            response.message = "the next step begins an episode"
        self._changed()
        return response

    def _on_pause(self, request: Any, response: Any) -> Any:
        self._gate.pause(request.data)
        response.success = True
        response.message = "paused" if request.data else "running"
        self._changed()
        return response

    def _on_step(self, _request: Any, response: Any) -> Any:
        """Allow as many steps as the parameter says, while paused."""
        steps = value_of(self._node, "steps")
        response.success = self._gate.paused
        if self._gate.paused:
            self._gate.allow(steps)
            response.message = f"{steps} {'step' if steps == 1 else 'steps'} allowed"
        else:
            response.message = "the simulation is not paused: call ~/pause with true first"
        self._changed()
        return response

    def _on_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        """Refuse a keyframe that the model does not have; later episodes begin in it."""
        for parameter in parameters:
            if parameter.name == "keyframe":
                try:
                    self._runner.ask_for(None, str(parameter.value))
                except SimulationError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)
