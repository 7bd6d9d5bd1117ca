"""Message definitions as bags carry them, parsed with an end to what they can ask for.

rosbags makes Python code of a definition, some lines for each field, and for each element of a
fixed array of texts or messages. So their number is bounded, and names are letters, digits and
underscores only, before any code is made.
"""

from __future__ import annotations

import math
import re
from typing import Any, cast

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.base import make_typesdict
from rosbags.typesys.idl import IDLParser

from dql_ros.bag.storage.storage import DamageError

MAX_DEFINITION_BYTES = 1 << 20
# Fields and constants of all types of a definition; large ones have some hundred.
MAX_FIELDS = 2_000
# Elements of its fixed arrays of texts and messages together, and of one array of numbers.
MAX_ELEMENTS = 2_000
MAX_NUMBERS = 1 << 28

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*", re.ASCII)
_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def types_from_msg(text: str, name: str) -> Typesdict:
    """Parse a definition in the form of message files.

    Raises:
        DamageError: If it is too long or asks for too much.
        Exception: What rosbags' parser raises on a definition that is none.
    """
    return _sound(get_types_from_msg(_short(text), name))


def types_from_idl(text: str) -> Typesdict:
    """Parse a definition in IDL.

    Raises:
        DamageError: If it is too long or asks for too much.
        Exception: What rosbags' parser raises on a definition that is none.
    """
    return _sound(make_typesdict(_PlainIdlParser(_short(text)).specification()))


class _PlainIdlParser(IDLParser):
    """Takes constants that are values or names, as ROS writes them.

    rosbags' own parser tries each of six precedences of operators in turn: each pair of brackets
    takes 64 times as long as what is in it, and a shift may make a number of gigabytes.
    """

    def const_expr(self, pos: int) -> Any:
        return self.unary_expr(pos)


def _short(text: str) -> str:
    if len(text) > MAX_DEFINITION_BYTES:
        raise DamageError("it is over a megabyte long")
    return text


def _sound(types: Typesdict) -> Typesdict:
    fields = [field for _, fields in types.values() for field in fields]
    constants = [constant for constants, _ in types.values() for constant in constants]
    if len(fields) + len(constants) > MAX_FIELDS:
        raise DamageError(f"it has over {MAX_FIELDS} fields")
    names = {str(name) for name, *_ in (*fields, *constants)}
    if not all(_TYPE.fullmatch(name) for name in types) or not all(map(_FIELD.fullmatch, names)):
        raise DamageError("it has names of other characters than letters, digits and _")
    for name, _, value in constants:
        if isinstance(value, float) and not math.isfinite(value):
            raise DamageError(f"its constant {name} is {value}")
    elements = 0
    for name, description in fields:
        node, detail = description
        if node != Nodetype.ARRAY:
            continue
        (inner, what), count = cast("tuple[tuple[Nodetype, Any], int]", detail)
        is_number = inner == Nodetype.BASE and "string" not in what[0]
        elements += 0 if is_number else max(count, 0)
        if not 0 <= count <= MAX_NUMBERS or elements > MAX_ELEMENTS:
            raise DamageError(f"its array {name} has {count:.9g} elements")
    return types
