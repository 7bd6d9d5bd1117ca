"""The contract of a node that stands in for the person who may take over from the policy."""

from __future__ import annotations

from dql_core.errors import ContractError
from dql_ros.contract.contract import Contract, FaultRules
from dql_ros.contract.field import FieldSelection, join_steps, split_path
from dql_ros.contract.stream import ActionStream
from dql_ros.contract.task import FlagStream


def watching(contract: Contract) -> Contract:
    """Return a contract by which a node commands as the person does, and turns the switch.

    Its action is the contract's, on the person's topics, and then the switch: 1 if it is raised,
    else 0. The switch is sent last, so that a command is there once it is heard; its safe command
    is the contract's, with the switch released.

    Args:
        contract: Of the robot; it has a ``takeover`` with a switch.

    Raises:
        ContractError: If it has none, or its switch is a mode in words.
    """
    takeover = contract.takeover
    if takeover is None or takeover.switch is None:
        what = "no 'takeover'" if takeover is None else "a 'takeover' without a 'switch'"
        raise ContractError(
            f"the contract of '{contract.robot}' has {what}, by which an operator who watches "
            f"takes over: give it a takeover with a switch"
        )
    streams = (*takeover.streams(contract.action), _switch_stream(takeover.switch))
    safe = FaultRules(command=(*contract.safe_command, 0.0))
    return contract.model_copy(update={"action": streams, "on_fault": safe, "takeover": None})


def _switch_stream(switch: FlagStream) -> ActionStream:
    if switch.equals is not None:
        raise ContractError(
            f"takeover.switch has 'equals': an operator who watches turns a flag or a button, 1 "
            f"or 0; leave 'equals' of '{switch.topic}' out"
        )
    fields = [FieldSelection(path=switch.path, names=("switch",), low=0.0, high=1.0)]
    *owner, place = split_path(switch.path)
    if isinstance(place, int) and place > 0:  # the buttons before it
        before = tuple(range(place))
        fields.append(FieldSelection(path=join_steps(owner), indices=before, constant=0.0))
    return ActionStream(topic=switch.topic, type=switch.type, fields=tuple(fields))
