"""The definition of a message type, from its Python class: files need not be installed."""

from __future__ import annotations

import importlib
import re
from typing import Any

from dql_ros.nodes.interfaces import message_class

# What rosidl's Python classes call the primitive types, and what message definitions do.
_PRIMITIVES = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}
_SERVICE = re.compile(r"_(Request|Response|Event)$")
_SEQUENCE = re.compile(r"sequence<(.+?)(?:, (\d+))?>$")
_ARRAY = re.compile(r"(.+)\[(\d+)\]$")
_BOUNDED_TEXT = re.compile(r"(w?string)<(\d+)>$")
_SEPARATOR = "\n" + "=" * 80 + "\n"


def type_definition(type_name: str) -> str:
    """Return a type's definition and those of the types that it uses, in ``ros2msg`` form.

    Constants, defaults and comments, which the classes do not know, are left out; they have no
    part in the type's hash.

    Args:
        type_name: ``package/msg/Name``, or ``package/srv/Name_Event``.

    Raises:
        ContractError: If a type is not installed.
    """
    pending, known = [type_name], {type_name}
    definitions = []
    while pending:
        current = pending.pop(0)
        lines = []
        for name, kind in _class_of(current).get_fields_and_field_types().items():
            text, used = _spelled(kind)
            lines.append(f"{text} {name}")
            if used and used not in known:
                known.add(used)
                pending.append(used)
        title = "" if current == type_name else f"MSG: {current}\n"
        definitions.append(title + "\n".join(lines))
    return _SEPARATOR.join(definitions) + "\n"


def _class_of(type_name: str) -> Any:
    package, kind, name = type_name.split("/")
    if kind == "srv" and not name.endswith("_Event"):
        return getattr(importlib.import_module(f"{package}.srv"), name)
    return message_class(type_name)


def _spelled(kind: str) -> tuple[str, str]:
    """How a definition spells a field's type, and the name of the type that it uses, if any."""
    if found := _SEQUENCE.match(kind):
        text, used = _spelled(found[1])
        return f"{text}[<={found[2]}]" if found[2] else f"{text}[]", used
    if found := _ARRAY.match(kind):
        text, used = _spelled(found[1])
        return f"{text}[{found[2]}]", used
    if found := _BOUNDED_TEXT.match(kind):
        return f"{found[1]}<={found[2]}", ""
    if "/" in kind:
        package, name = kind.split("/")
        used = f"{package}/{'srv' if _SERVICE.search(name) else 'msg'}/{name}"
        return used, used
    return _PRIMITIVES.get(kind, kind), ""
