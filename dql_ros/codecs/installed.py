"""The types of messages and actions installed here: by a ROS installation, or as wheels."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import Any

from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

from dql_core.errors import ContractError

_TYPE_NAME = re.compile(r"[a-zA-Z]\w*/(?:msg/\w+|srv/\w+_Event)", re.ASCII)
_ACTION_NAME = re.compile(r"[a-zA-Z]\w*/action/\w+", re.ASCII)
# How rosidl's classes write the type of a field (rosidl_generator_py, get_fields_and_field_types).
_SEQUENCE = re.compile(r"sequence<(?P<element>[\w/]+(?:<\d+>)?)(?:, (?P<most>\d+))?>", re.ASCII)
_ARRAY = re.compile(r"(?P<element>[\w/]+(?:<\d+>)?)\[(?P<length>\d+)\]", re.ASCII)
_TEXT = re.compile(r"w?string(?:<(?P<most>\d+)>)?", re.ASCII)
_NUMBERS = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}


def message_class(type_name: str) -> Any:
    """Return the class of ``package/msg/Name``, or of a service's ``package/srv/Name_Event``.

    Only what looks like a package of messages is imported: the name may come from any other
    program, which publishes the type.

    Raises:
        ContractError: If the package is not installed or has no such message.
    """
    if not _TYPE_NAME.fullmatch(type_name):
        raise ContractError(
            f"'{type_name}' is no message type; write it as in 'std_msgs/msg/String'"
        )
    _, kind, name = type_name.split("/")
    found = _imported(type_name, name.removesuffix("_Event"))
    return found.Event if kind == "srv" else found


def action_class(type_name: str) -> Any:
    """Return the class of ``package/action/Name``.

    Raises:
        ContractError: If the package is not installed or has no such action.
    """
    if not _ACTION_NAME.fullmatch(type_name):
        raise ContractError(
            f"'{type_name}' is no action type; write it as in 'control_msgs/action/GripperCommand'"
        )
    return _imported(type_name, type_name.split("/")[2])


def goal_part(goals_type: str, message_type: str) -> str:
    """Return which field of an action's goal is a message of a type.

    Args:
        goals_type: The action's type.
        message_type: The message's.

    Raises:
        ContractError: If there is none, or several, or the action is not installed.
    """
    fields: dict[str, str] = action_class(goals_type).Goal.get_fields_and_field_types()
    found = [name for name, kind in fields.items() if "/" in kind and _full(kind) == message_type]
    if len(found) == 1:
        return found[0]
    parts = ", ".join(f"{name} ({kind})" for name, kind in fields.items())
    raise ContractError(
        f"a goal of '{goals_type}' has {len(found) or 'no'} parts of the type '{message_type}', "
        f"but must have one: it has {parts or 'none at all'}; correct 'type' of the stream, or of "
        f"its 'send_as'"
    )


def new_element(message: Any, field: str) -> Any:
    """Return an element, as it is made, for the list that a message has in ``field``.

    Raises:
        ContractError: If it is no list of messages.
    """
    kind = _SEQUENCE.fullmatch(message.get_fields_and_field_types()[field])
    if kind is None or "/" not in kind["element"]:
        raise ContractError(f"'{field}' of a {type(message).__name__} is no list of messages")
    return message_class(_full(kind["element"]))()


def installed_types(type_name: str) -> Typestore:
    """Return what is known of an installed type and of those that it uses.

    Raises:
        ContractError: If one of them is not installed.
    """
    types: dict[str, Any] = {}
    waiting = [type_name]
    while waiting:
        name = waiting.pop()
        if name in types:
            continue
        fields = message_class(name).get_fields_and_field_types()
        types[name] = [], [(field, _described(text)) for field, text in fields.items()]
        waiting += [used for _, what in types[name][1] for used in _used(what)]
    store = Typestore()
    store.register(types)
    return store


def _described(text: str) -> Any:
    """A field's type as rosbags describes it."""
    if found := _SEQUENCE.fullmatch(text):
        return Nodetype.SEQUENCE, (_described(found["element"]), int(found["most"] or 0))
    if found := _ARRAY.fullmatch(text):
        return Nodetype.ARRAY, (_described(found["element"]), int(found["length"]))
    if found := _TEXT.fullmatch(text):
        return Nodetype.BASE, ("string", int(found["most"] or 0))
    if "/" in text:
        return Nodetype.NAME, _full(text)
    return Nodetype.BASE, (_NUMBERS.get(text, text), 0)


def _used(description: Any) -> list[str]:
    node, detail = description
    if node == Nodetype.NAME:
        return [detail]
    return [] if node == Nodetype.BASE else _used(detail[0])


def _full(name: str) -> str:
    package, leaf = name.split("/")
    return f"{package}/msg/{leaf}"


def _imported(type_name: str, name: str) -> Any:
    """Return what ``name`` is in the package and the kind of interfaces that a type is of."""
    package, kind, _ = type_name.split("/")
    try:
        _require_interfaces(package, kind)
        return getattr(importlib.import_module(f"{package}.{kind}"), name)
    except (ModuleNotFoundError, AttributeError) as error:
        what = "action" if kind == "action" else "message"
        raise ContractError(
            f"{what} type '{type_name}' is not installed here ({error}): install the ROS package "
            f"'{package}' or correct the contract's 'type'"
        ) from error


def _require_interfaces(package: str, kind: str) -> None:
    """See, without importing it, that ``package`` is one that rosidl has made."""
    found = importlib.util.find_spec(package)
    folders = (found and found.submodule_search_locations) or ()
    if not any((Path(folder) / kind / "__init__.py").is_file() for folder in folders):
        raise ModuleNotFoundError(f"No module named '{package}.{kind}'", name=package)
