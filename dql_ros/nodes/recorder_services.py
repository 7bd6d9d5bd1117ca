"""What an operator asks of the recorder: to start, to stop, and to label what happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from dql_core.errors import BagError
from dql_ros.bag.recorder import FinishedBag
from dql_ros.nodes.interfaces import reliable

SUCCESS, FAILURE = "success", "failure"


class RecorderServices:
    """Offers ``~/start``, ``~/stop``, ``~/label_episode`` and listens to ``~/label``.

    Labels that were written are told on ``~/episode``, as they are in the bag.

    Args:
        node: The node that offers them.
        start: Begins a bag.
        stop: Finishes it.
        label: Marks the present in it. All three raise `BagError` if that cannot be done now.
    """

    def __init__(
        self,
        node: Node,
        start: Callable[[], Path],
        stop: Callable[[], FinishedBag],
        label: Callable[[str], None],
    ) -> None:
        self._start, self._stop, self._label = start, stop, label
        self._logger = node.get_logger()
        self._markers = node.create_publisher(String, "~/episode", reliable(10))
        node.create_service(Trigger, "~/start", self._on_start)
        node.create_service(Trigger, "~/stop", self._on_stop)
        node.create_service(SetBool, "~/label_episode", self._on_label_episode)
        node.create_subscription(String, "~/label", self._on_label, reliable(10))

    def _on_start(self, _request: Any, response: Any) -> Any:
        try:
            response.message = f"recording into {self._start()}"
        except BagError as error:
            response.message = str(error)
            return response
        response.success = True
        return response

    def _on_stop(self, _request: Any, response: Any) -> Any:
        try:
            finished = self._stop()
        except BagError as error:
            response.message = str(error)
            return response
        response.success = not finished.error
        response.message = finished.error or (
            f"recorded {sum(finished.counts.values())} messages in {finished.path}"
        )
        return response

    def _on_label_episode(self, request: Any, response: Any) -> Any:
        response.message = self._mark(SUCCESS if request.data else FAILURE)
        response.success = not response.message
        return response

    def _on_label(self, message: Any) -> None:
        if complaint := self._mark(message.data):
            self._logger.warning(complaint)

    def _mark(self, text: str) -> str:
        """Label the present; return what is wrong with that."""
        try:
            self._label(text)
        except BagError as error:
            return str(error)
        self._markers.publish(String(data=text))
        return ""
