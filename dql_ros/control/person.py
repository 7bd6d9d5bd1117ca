"""What a person who may take over from the policy wants; knows no ROS."""

from __future__ import annotations

from typing import Any

import numpy as np

from dql_core.runtime.takeover import Commander, Person, who_commands
from dql_ros.contract import Contract, Takeover
from dql_ros.control.heard import HeardCommands, HeardFlag


class PersonHeard(HeardCommands):
    """Hears a person's commands and switch on one thread, and says on another what they want.

    Args:
        contract: The robot contract, which has a takeover.
        takeover: Its takeover.
        real_time_factor: Simulated seconds over those of the clock of `receive`.

    Attributes:
        delayed: How many commands were dropped since they may have waited while the process was
            stopped.
    """

    def __init__(
        self, contract: Contract, takeover: Takeover, real_time_factor: float = 1.0
    ) -> None:
        streams = takeover.streams(contract.action)
        super().__init__(streams, "a person's command is not followed", real_time_factor)
        self.delayed = 0
        self._silence_hands_back = takeover.silence_hands_back
        self._switch = (
            None if takeover.switch is None else HeardFlag(takeover.switch, "takeover.switch")
        )

    def receive_switch(self, message: Any) -> None:
        """Hear the switch; one that cannot be read changes nothing.

        Raises:
            ContractError: If it cannot.
        """
        if self._switch is not None:
            self._switch.receive(message)

    def clear(self) -> None:
        """Forget the commands, as where their clock was set back; the switch stays."""
        with self._lock:
            for heard in self.heard.values():
                heard.value = heard.at_ns = None

    def at(self, now_ns: int) -> Person:
        """What the person wants at a tick.

        A person speaks while a command is in force on every one of their topics.

        Args:
            now_ns: The tick, on the clock of `receive`.
        """
        command = self.in_force(now_ns)
        speaks = not np.isnan(command).any()
        switch = None if self._switch is None else self._switch.is_raised
        commander = who_commands(
            switch, speaks=speaks, silence_hands_back=self._silence_hands_back
        )
        if commander is Commander.PERSON:
            return Person(commander, command)
        if commander is Commander.POLICY:
            return Person(commander)
        reasons = [self.silence(now_ns), *self.refusals()]
        why = "; ".join(reason for reason in reasons if reason) or "the command was ended"
        return Person(commander, silence=f"a person has the switch and commands nothing: {why}")

    def refusals(self) -> list[str]:
        """Why the newest messages were refused, a clause each; the switch's too."""
        refusal = "" if self._switch is None else self._switch.refusal
        switch = [f"the person's switch cannot be read: {refusal}"] if refusal else []
        return [*super().refusals(), *switch]

    def figures(self) -> dict[str, str]:
        """Return counts, as the diagnostics show them."""
        with self._lock:
            counts = {key: (heard.decoded, heard.refused) for key, heard in self.heard.items()}
        figures: dict[str, str] = {}
        for key, (decoded, refused) in counts.items():
            figures[f"heard commands of {key}"] = str(decoded)
            figures[f"refused commands of {key}"] = str(refused)
        figures["delayed commands of a person"] = str(self.delayed)
        if self._switch is not None:
            figures["person's switch"] = "on" if self._switch.is_raised else "off"
        return figures
