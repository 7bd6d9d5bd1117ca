"""Messages of the rosbags library as they are made: zeros, empty texts and empty lists."""

from __future__ import annotations

from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore


def blank_message(typestore: Typestore, msgtype: str) -> Any:
    """Return a message of a type that the type store knows; arrays have their fixed length."""
    _, fields = typestore.fielddefs[msgtype]
    return typestore.types[msgtype](*(_blank(typestore, kind) for _, kind in fields))


def blank_element(typestore: Typestore, message: Any, field: str) -> Any:
    """Return an element for the list of messages that a message has in ``field``."""
    fields: dict[str, Any] = dict(typestore.fielddefs[message.__msgtype__][1])
    _, (element, _) = fields[field]
    return _blank(typestore, element)


def _blank(typestore: Typestore, kind: Any) -> Any:
    node, detail = kind
    if node == Nodetype.NAME:
        return blank_message(typestore, detail)
    if node == Nodetype.BASE:
        return {"string": "", "bool": False}.get(detail[0], 0.0 if "float" in detail[0] else 0)
    (element, inner), limit = detail
    length = limit if node == Nodetype.ARRAY else 0
    if element == Nodetype.BASE and inner[0] != "string":
        return np.zeros(length, dtype={"char": "uint8"}.get(inner[0], inner[0]))
    return [_blank(typestore, detail[0]) for _ in range(length)]
