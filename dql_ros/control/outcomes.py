"""What a person says of episodes, as it is heard while they are recorded; knows no ROS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dql_ros.contract.outcomes import LABEL_TYPE, LABELS, Label, Outcomes
from dql_ros.control.heard import HeardFlag


class HeardOutcomes:
    """Tells labels from other messages, as a conversion does later.

    Attributes:
        types: Types of the topics that are heard, by their resolved names.

    Args:
        outcomes: The contract's.
        resolve: Makes a topic's full name of the contract's.
    """

    def __init__(self, outcomes: Outcomes, resolve: Callable[[str], str]) -> None:
        self._words = resolve(outcomes.topic)
        self._flags: dict[str, list[tuple[Label, HeardFlag]]] = {}
        self.types = {self._words: LABEL_TYPE}
        for label, rule in outcomes.flags.items():
            topic = resolve(rule.topic)
            self.types[topic] = rule.type
            flag = HeardFlag(rule, f"outcomes.{label}")
            self._flags.setdefault(topic, []).append((label, flag))

    def receive(self, topic: str, message: Any) -> list[Label]:
        """Hear a message and return the labels that it gives.

        Args:
            topic: The full name of its topic.
            message: Of the topic's type.

        Raises:
            ContractError: If it has no flag where the contract says.
        """
        if topic == self._words:
            return [label for label in LABELS if label == message.data]
        return [label for label, flag in self._flags.get(topic, ()) if flag.receive(message)]
