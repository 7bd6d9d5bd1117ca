"""Other nodes that publish on the topics that command the robot."""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.node import Node

# A node of another middleware, or one that discovery has not named yet.
_UNNAMED = "_NODE_NAME_UNKNOWN_"


class Rivals:
    """Looks for publishers beside a robot's one commander.

    DDS tells of a publisher as soon as it is discovered, whether it has sent anything or not.
    """

    def __init__(self, node: Node, topics: Sequence[str], *, is_commander: bool) -> None:
        """Look on ``topics`` from now on.

        Args:
            node: The node that looks.
            topics: The topics; relative ones follow the node's namespace and remappings.
            is_commander: Whether the node itself has a publisher on each.
        """
        self._node = node
        self._is_commander = is_commander
        self._own_name = _full_name(node.get_namespace(), node.get_name())
        self._topics = tuple(topics)

    def trouble(self) -> str:
        """Who commands the robot beside the one that may, and the remedy; empty if nobody."""
        found: list[str] = []
        for topic in self._topics:
            names = self._publishers(topic)
            if len(names) > 1:
                found.append(f"'{topic}' has {len(names)} publishers: {', '.join(names)}")
        return f"{'; '.join(found)}; let one node alone command the robot" if found else ""

    def are_commanded(self) -> bool:
        """Whether every topic has a publisher."""
        return all(self._publishers(topic) for topic in self._topics)

    def _publishers(self, topic: str) -> list[str]:
        # rclpy expands and remaps the name; one that is resolved already would be remapped twice.
        names = [
            _full_name(each.node_namespace, each.node_name)
            for each in self._node.get_publishers_info_by_topic(topic)
        ]
        if self._is_commander and self._own_name not in names:
            names.append(self._own_name)  # not discovered yet
        return sorted(names)


def _full_name(namespace: str, name: str) -> str:
    if name == _UNNAMED:
        return "a node without a name"
    return f"{namespace.rstrip('/')}/{name}"
