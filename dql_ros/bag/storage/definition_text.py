"""Message definitions as people and their tools write them, and an end to what they ask for.

Of a message file only the fields count: constants, default values and remarks take no bytes of a
message, and are passed over. Line ends, byte-order marks and separators may be of any kind, and
so may be what a preprocessor would read in IDL.

rosbags makes Python code of a definition, some lines for each field, and for each element of a
fixed array of texts or messages. So their number is bounded, and names are letters, digits and
underscores only, before any code is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import Typesdict
from rosbags.typesys.base import make_typesdict
from rosbags.typesys.idl import IDLParser
from rosbags.typesys.msg import normalize_msgtype

from dql_ros.bag.storage.storage import DamageError

MAX_DEFINITION_BYTES = 1 << 20
# Fields and constants of all types of a definition; large ones have some hundred.
MAX_FIELDS = 2_000
# Elements of its fixed arrays of texts and messages together, and of one array of numbers.
MAX_ELEMENTS = 2_000
MAX_NUMBERS = 1 << 28

_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)
_TITLE = re.compile(r"\s*(MSG|IDL|SRV):\s*(\S+)\s*")
# The line between sections has 80 of them; it may stand behind a field whose line has no end.
_SEPARATOR = "=" * 40
_LINE = re.compile(
    r"\s*(?P<type>[A-Za-z]\w*(?:/\w+)*)(?:<=(?P<limit>\d{1,18}))?"
    r"(?P<array>\[(?P<most><=)?(?P<count>-?\d{0,18})\])?\s+(?P<name>[A-Za-z]\w*)"
    r"(?=[\s=;\\#]|\Z)\s*(?P<constant>=)?",
    re.ASCII,
)
# rosbags does not know it as a type; in a message it is a number of 32 bits.
_ENUM = re.compile(r"\benum\s+([A-Za-z]\w*)\s*\{[^{}]*\}\s*;", re.ASCII)
_NUMBERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_PLAIN = {"bool", "byte", "char", "float32", "float64", "string", "wstring", *_NUMBERS}
_ALIASES = {
    "time": "builtin_interfaces/msg/Time",
    "duration": "builtin_interfaces/msg/Duration",
    "Header": "std_msgs/msg/Header",
}


class Section(NamedTuple):
    """One of the files that a definition is made of.

    Attributes:
        kind: ``MSG``, ``IDL`` or ``SRV``.
        name: The type's name, as the section has it.
        text: The file's content, with plain line ends.
    """

    kind: str
    name: str
    text: str


def sections(text: str, name: str, kind: str = "MSG") -> list[Section]:
    """Split a definition into the files that it is made of.

    Args:
        text: The definition.
        name: The type that it begins with.
        kind: The form of what stands before the first title, if anything does.
    """
    found = [Section(kind, name, "")]
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        plain = line.strip("\ufeff\0")
        if plain.rstrip().endswith(_SEPARATOR):
            plain = plain.rstrip().rstrip("=")
        if title := _TITLE.fullmatch(plain):
            found[-1] = found[-1]._replace(text="\n".join(lines))
            found.append(Section(title[1], title[2], ""))
            lines = []
        else:
            lines.append(plain)
    found[-1] = found[-1]._replace(text="\n".join(lines))
    is_titled = len(found) > 1 and (
        not name or found[1].kind != "MSG" or _full(found[1].name) == _full(name)
    )
    return found[1:] if is_titled and not found[0].text.strip() else found


def types_from_msg(text: str, name: str) -> Typesdict:
    """Parse a definition in the form of message files; sections may be in IDL.

    Raises:
        DamageError: If it is none, is too long or asks for too much.
        Exception: What rosbags' parser raises on IDL that is none.
    """
    return _types(text, name, "MSG")


def types_from_idl(text: str, name: str = "") -> Typesdict:
    """Parse a definition in IDL; sections may be in the form of message files.

    Raises:
        DamageError: If it is too long or asks for too much.
        Exception: What rosbags' parser raises on a definition that is none.
    """
    return _types(text, name, "IDL")


def _types(text: str, name: str, kind: str) -> Typesdict:
    if len(text) > MAX_DEFINITION_BYTES:
        raise DamageError("it is over a megabyte long")
    types: dict[str, Any] = {}
    for section in sections(text, name, kind):
        if section.kind == "IDL":
            types.update(_idl_types(section.text))
        else:
            owner = _full(section.name)
            types[owner] = ([], list(_fields(section.text, owner)))
    return _sound(types)


def _idl_types(text: str) -> Typesdict:
    """The types of one IDL file; what a preprocessor would read is left out."""
    lines = ("" if line.lstrip().startswith("#") else line for line in text.split("\n"))
    plain = _ENUM.sub(r"typedef unsigned long \1;", "\n".join(lines))
    return make_typesdict(_PlainIdlParser(plain).specification())


class _PlainIdlParser(IDLParser):
    """Takes constants that are values or names, as ROS writes them.

    rosbags' own parser tries each of six precedences of operators in turn: each pair of brackets
    takes 64 times as long as what is in it, and a shift may make a number of gigabytes.
    """

    def const_expr(self, pos: int) -> Any:
        return self.unary_expr(pos)


def _full(name: str) -> str:
    return str(normalize_msgtype(name)) if name else name


def _fields(text: str, owner: str) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a message file, in rosbags' form."""
    for number, line in enumerate(text.split("\n"), start=1):
        content = line.partition("#")[0].strip(" \t\v\f\\")
        if not content or content.startswith("@"):
            continue  # A remark, an annotation, or a line that was to be continued.
        parts = _LINE.match(line)
        if parts is None:
            raise DamageError(f"its line {number} is no field: {content[:60]!r}")
        if parts["constant"] is None:
            yield parts["name"], _described(parts, owner)


def _described(parts: re.Match[str], owner: str) -> Any:
    kind = parts["type"]
    element: tuple[Nodetype, Any] = (Nodetype.NAME, _referred(kind, owner))
    if kind in _PLAIN:
        element = (Nodetype.BASE, (kind, int(parts["limit"] or 0)))
    if parts["array"] is None:
        return element
    is_fixed = parts["count"] and not parts["most"]
    return Nodetype.ARRAY if is_fixed else Nodetype.SEQUENCE, (element, int(parts["count"] or 0))


def _referred(name: str, owner: str) -> str:
    """The full name of a type that a field of ``owner`` is of."""
    if name in _ALIASES:
        return _ALIASES[name]
    if "/" not in name:
        return f"{owner.rpartition('/')[0]}/{name}"
    return _full(name)


def _sound(types: Typesdict) -> Typesdict:
    fields = [field for _, fields in types.values() for field in fields]
    constants = [constant for constants, _ in types.values() for constant in constants]
    if len(fields) + len(constants) > MAX_FIELDS:
        raise DamageError(f"it has over {MAX_FIELDS} fields")
    names = {str(name) for name, *_ in (*fields, *constants)}
    if not all(map(_TYPE.fullmatch, (*types, *_references(fields)))) or not all(
        map(_NAME.fullmatch, names)
    ):
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


def _references(fields: list[Any]) -> set[str]:
    """The types that fields are of."""
    return {name for _, description in fields if (name := referred_type(description))}


def referred_type(description: Any) -> str:
    """The message type that a field, in rosbags' form, is of; empty for numbers and texts."""
    node, detail = description
    if node in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
        node, detail = detail[0]
    return str(detail) if node == Nodetype.NAME else ""
