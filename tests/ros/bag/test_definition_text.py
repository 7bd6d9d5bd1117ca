"""Definitions as people and their tools write them give the types that they mean."""

from pathlib import Path
from typing import Any

import pytest
from mcap.writer import Writer
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.definition_text import types_from_idl, types_from_msg
from dql_ros.bag.storage.definitions import Definitions
from dql_ros.bag.storage.plain_cdr import plain_types
from dql_ros.bag.storage.storage import Channel, DamageError, Definition
from tests.ros.bag.bag_files import FLOAT, SECOND, Sent, cdr, read

SEPARATOR = "=" * 80
NAME = "odd_msgs/msg/Odd"
FLOAT64, FLOAT32 = (Nodetype.BASE, ("float64", 0)), (Nodetype.BASE, ("float32", 0))
INNER = f"odd_msgs/Inner inner\nfloat64 x\n{SEPARATOR}\nMSG: odd_msgs/Inner\nfloat32 y\n"
NESTED: dict[str, Any] = {
    NAME: ([], [("inner", (Nodetype.NAME, "odd_msgs/msg/Inner")), ("x", FLOAT64)]),
    "odd_msgs/msg/Inner": ([], [("y", FLOAT32)]),
}
IDL = f"""{SEPARATOR}
IDL: odd_msgs/msg/Odd
#include "odd_msgs/msg/Inner.idl"
module odd_msgs {{
  module msg {{
    @verbatim (language="comment", text=
      " What is" "\\n" " odd.")
    struct Odd {{
      odd_msgs::msg::Inner inner;
      @default (value=0.0)
      double x;
    }};
  }};
}};
{SEPARATOR}
IDL: odd_msgs/msg/Inner
#ifndef __inner__
#define __inner__
module odd_msgs {{ module msg {{ struct Inner {{ float y; }}; }}; }};
#endif
"""


@pytest.mark.parametrize("store", [Stores.ROS1_NOETIC, Stores.ROS2_HUMBLE, Stores.ROS2_JAZZY])
def test_every_standard_message_is_parsed_as_rosbags_does(store: Stores) -> None:
    types = get_typestore(store)
    version = 1 if store == Stores.ROS1_NOETIC else 2
    for name in (each for each in types.fielddefs if "/msg/" in each):
        text, _ = types.generate_msgdef(name, ros_version=version)
        expected = {key: fields for key, (_, fields) in get_types_from_msg(text, name).items()}
        assert {key: fields for key, (_, fields) in types_from_msg(text, name).items()} == expected


@pytest.mark.parametrize(
    "text",
    [
        INNER,
        INNER.replace("\n", "\r\n"),
        INNER.replace("\n", "\r"),
        f"\ufeff{INNER}".replace("MSG:", "\ufeffMSG:"),
        INNER.replace(f"\n{SEPARATOR}", SEPARATOR),
        INNER.replace(f"{SEPARATOR}\n", f"{SEPARATOR}  \n\n"),
        INNER.replace("MSG: odd_msgs/Inner", "MSG: odd_msgs/msg/Inner  "),
        INNER.replace("float64 x", "\tfloat64   x # of\u00e9 \u00b0 = 3\n\\\n"),
        INNER.replace("float64 x", "uint8 lower_case=1\nstring S = a # b\nfloat64 x 1.5"),
        INNER.replace("float64 x", "@verbatim(x)\nfloat64 x"),
        INNER + "\0",
        INNER.replace("odd_msgs/Inner inner", "Inner inner"),
        IDL,
        IDL.replace("\n", "\r\n"),
        f"\ufeff{IDL}",
        INNER.split(SEPARATOR, maxsplit=1)[0] + SEPARATOR + IDL.split(SEPARATOR)[2],
    ],
)
def test_however_it_is_written_the_fields_are_the_same(text: str) -> None:
    parse = types_from_idl if text.lstrip("\ufeff").startswith(SEPARATOR) else types_from_msg
    found: Any = parse(text, NAME)
    assert {name: ([], fields) for name, (_, fields) in found.items()} == NESTED


@pytest.mark.parametrize(
    ("line", "description"),
    [
        ("string<=22 a 'x=1'", (Nodetype.BASE, ("string", 22))),
        ("wstring<=5 a", (Nodetype.BASE, ("wstring", 5))),
        ("string<=3[<=4] a", (Nodetype.SEQUENCE, ((Nodetype.BASE, ("string", 3)), 4))),
        ("int8[3] a [1, 2, 3]", (Nodetype.ARRAY, ((Nodetype.BASE, ("int8", 0)), 3))),
        ("a_B/C2[] a", (Nodetype.SEQUENCE, ((Nodetype.NAME, "a_B/msg/C2"), 0))),
        ("time a", (Nodetype.NAME, "builtin_interfaces/msg/Time")),
        ("Header a", (Nodetype.NAME, "std_msgs/msg/Header")),
    ],
)
def test_a_field_is_what_its_line_says(line: str, description: Any) -> None:
    assert types_from_msg(line, NAME)[NAME] == ([], [("a", description)])


@pytest.mark.parametrize("line", ["!?", "float64", "float64[x] a", "float64 1a", "a b/c"])
def test_a_line_that_is_no_field_is_named(line: str) -> None:
    with pytest.raises(DamageError, match="its line 2 is no field"):
        types_from_msg(f"float64 x\n{line}", NAME)


def channel(msgtype: str, text: str, form: str = "ros2msg", encoding: str = "cdr") -> Channel:
    return Channel("/x", msgtype, encoding, Definition(form, text))


@pytest.mark.parametrize("text", ["", "#", "!?", "Lost a", "float64", SEPARATOR])
@pytest.mark.parametrize("form", ["ros2msg", "ros2idl", "ros1msg", "unknown"])
def test_a_standard_type_never_depends_on_the_bags_text(text: str, form: str) -> None:
    pose = "geometry_msgs/msg/PoseStamped"
    found = Definitions("humble").typestore([channel(pose, text, form)])
    names = [name for name, _ in found.fielddefs[pose][1]]
    assert names == ["header", "pose"]
    assert [name for name, _ in found.fielddefs["std_msgs/msg/Header"][1]] == ["stamp", "frame_id"]


def test_what_a_definition_leaves_out_comes_from_the_distribution() -> None:
    """rosserial, rosjava and rosbridge leave out what everybody knows."""
    for form in ("ros1msg", "ros2msg"):
        text = "Header header\ngeometry_msgs/Pose pose\nfloat64 x\n\\\n"
        found = Definitions("noetic").typestore([channel(NAME, text, form)])
        header = [name for name, _ in found.fielddefs["std_msgs/msg/Header"][1]]
        assert header == ["stamp", "frame_id"]
        assert "geometry_msgs/msg/Quaternion" in found.fielddefs


def test_an_enum_of_idl_is_a_number_of_32_bits() -> None:
    text = (
        "// enum Old { A };\nmodule odd_msgs { module msg {\n"
        "  enum Mode { IDLE,  // first\n    @value(5) RUN };\n"
        "  struct Odd { Mode mode; sequence<Mode> modes; double x; };\n}; };\n"
    )
    assert [field for _, fields in types_from_idl(text, NAME).values() for field in fields] == [
        ("mode", (Nodetype.BASE, ("uint32", 0))),
        ("modes", (Nodetype.SEQUENCE, ((Nodetype.BASE, ("uint32", 0)), 0))),
        ("x", FLOAT64),
    ]


def test_what_nobody_defines_is_named() -> None:
    with pytest.raises(DamageError, match="standard packages define odd_msgs/msg/Lost; name a"):
        Definitions("jazzy").typestore([channel(NAME, "Lost a")])


def test_a_field_of_a_kind_that_is_not_understood_is_named() -> None:
    with pytest.raises(DamageError, match="its field a is a fixed, which is not understood"):
        plain_types({NAME: ([], [("a", (Nodetype.BASE, ("fixed", 0)))])})


UNUSABLE = {
    "ros2msg": "Odd again",  # a type that contains itself
    "ros2idl": "module odd_msgs { module msg { struct Odd { long double d",
}


@pytest.mark.parametrize("form", UNUSABLE)
def test_a_topic_that_nobody_needs_costs_nothing(tmp_path: Path, form: str) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2")
        for topic, msgtype, encoding, text in (
            ("/odd", NAME, form, UNUSABLE[form]),
            ("/good", FLOAT, "ros2msg", "float64 data"),
        ):
            schema = writer.register_schema(msgtype, encoding, text.encode())
            number = writer.register_channel(topic, "cdr", schema)
            writer.add_message(number, SECOND, cdr(1.0), SECOND)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    assert read(path, topics={"/good"}) == [Sent("/good", SECOND, 1.0)]
    with Bag(path) as bag:
        assert set(bag.unreadable) == {"/odd"}
        with pytest.raises(BagError, match=f"the definition of {NAME} in the bag is not valid"):
            bag.typestore("/odd")


@pytest.mark.parametrize(
    ("distribution", "fields"),
    [("foxy", "desired"), ("galactic", "desired"), ("humble", "output")],
)
def test_messages_of_ros2_control_are_known_where_bags_do_not_define_them(
    distribution: str, fields: str
) -> None:
    msgtype = "control_msgs/msg/JointTrajectoryControllerState"
    found = Definitions(distribution).typestore([channel(msgtype, "", "")])
    names = [name for name, _ in found.fielddefs[msgtype][1]]
    assert names[:2] == ["header", "joint_names"]
    assert fields in names
    dynamic = Definitions(distribution).typestore(
        [channel("control_msgs/msg/DynamicJointState", "", "")]
    )
    assert "control_msgs/msg/InterfaceValue" in dynamic.fielddefs
