"""Events of services as the starts and stops of episodes, from every form of their definition."""

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.writer import Writer
from rclpy.serialization import serialize_message
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore
from std_srvs.srv import SetBool, Trigger
from typer.testing import CliRunner

from dql_core.data.dataset import load_dataset
from dql_core.errors import BagError
from dql_ros.bag.reader import Bag
from dql_ros.bag.storage.definitions import Definitions, service_event_types
from dql_ros.bag.storage.storage import Channel, Definition
from dql_ros.cli.contract import contract as contract_commands
from dql_ros.cli.inspect import inspect
from dql_ros.contract import load_contract
from dql_ros.convert.convert import Source, convert
from dql_ros.nodes.recorder_topics import type_definition
from tests.ros.bag.messages import messages_of
from tests.ros.bag.sample_writer import SampleWriter
from tests.ros.convert.test_convert import Robot

ARM = Path(__file__).parents[1] / "arm.yaml"
PERIOD = 50_000_000
REQUEST_RECEIVED = 1
SET_BOOL, TRIGGER = "std_srvs/srv/SetBool_Event", "std_srvs/srv/Trigger_Event"
PLAN = "my_msgs/srv/Plan_Event"
BOOL = "std_msgs/msg/Bool"
DELIMITER = "=" * 80 + "\n"
SERVICE_FILES = {
    SET_BOOL: """bool data # e.g. for hardware enabling / disabling
---
bool success   # indicate successful run of triggered service
string message # informational, e.g. for error messages
""",
    TRIGGER: """---
bool success   # indicate successful run of triggered service
string message # informational, e.g. for error messages
""",
}


def of_rosbag2(msgtype: str) -> tuple[str, str]:
    """Encoding and text as rosbag2 0.26 (Jazzy) stores them of a service without dependencies."""
    service = msgtype.removesuffix("_Event")
    return "unknown", f"{DELIMITER}SRV: {service}\n{SERVICE_FILES[msgtype]}"


def of_this_recorder(msgtype: str) -> tuple[str, str]:
    return "ros2msg", type_definition(msgtype)


def with_short_names(msgtype: str) -> tuple[str, str]:
    """As messages, whose names leave out their folders."""
    text = type_definition(msgtype).replace("/srv/", "/").replace("/msg/", "/")
    return "ros2msg", text


def with_mixed_names(msgtype: str) -> tuple[str, str]:
    """The fields leave out the folders of what they use, the titles do not."""
    lines = type_definition(msgtype).splitlines(keepends=True)
    return "ros2msg", "".join(
        line if line.startswith("MSG: ") else line.replace("/srv/", "/").replace("/msg/", "/")
        for line in lines
    )


@pytest.fixture(name="robot")
def _robot(blank: Callable[[str], Any]) -> Robot:
    return Robot(blank)


FORMS = [of_rosbag2, of_this_recorder, with_short_names, with_mixed_names]

Form = Callable[[str], tuple[str, str]]

Calls = Mapping[int, tuple[str, bool | None]]


def event(kind: int, request: Any = None, response: Any = None, service: Any = Trigger) -> bytes:
    """An event as the middleware serialises it."""
    message = service.Event()
    message.info.event_type = kind
    message.request = [] if request is None else [request]
    message.response = [] if response is None else [response]
    return bytes(serialize_message(message))


def call(data: bool | None = None) -> list[bytes]:
    """The four events of one call: of SetBool, or of Trigger."""
    service: Any = Trigger if data is None else SetBool
    asked = Trigger.Request() if data is None else SetBool.Request(data=data)
    answer = service.Response(success=True, message="done")
    return [
        event(0, request=asked, service=service),
        event(1, request=asked, service=service),
        event(2, response=answer, service=service),
        event(3, response=answer, service=service),
    ]


def write_bag(path: Path, robot: Robot, calls: Calls, form: Form) -> Path:
    """An MCAP file of 40 ticks of the arm; calls of (service, data) come 20 ms after their tick.

    The topic /state tells the same by a flag, at the time of the event that the rules wait for.
    """
    standard = get_typestore(Stores.ROS2_JAZZY)
    messages = [
        (topic, msgtype, time_ns, bytes(standard.serialize_cdr(message, msgtype)))
        for topic, msgtype, time_ns, message in robot.run({"never ends": 40})
    ]
    for tick, (service, data) in calls.items():
        opens = b"\x01" if data or service == "begin" else b"\0"
        received_ns = tick * PERIOD + 20_000_000 + (data is None)
        messages.append(("/state", BOOL, received_ns, b"\0\1\0\0" + opens))
        for index, payload in enumerate(call(data)):
            time_ns = tick * PERIOD + 20_000_000 + index
            msgtype = TRIGGER if data is None else SET_BOOL
            messages.append((f"/{service}/_service_event", msgtype, time_ns, payload))
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start(profile="ros2", library="test")
        channels: dict[str, int] = {}
        for topic, msgtype, time_ns, payload in sorted(messages, key=lambda each: each[2]):
            if topic not in channels:
                encoding, text = "ros2msg", ""
                if "/srv/" in msgtype:
                    encoding, text = form(msgtype)
                else:
                    text = standard.generate_msgdef(msgtype, ros_version=2)[0]
                schema = writer.register_schema(msgtype, encoding, text.encode())
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], time_ns, payload, time_ns)
        writer.finish()  # type: ignore[no-untyped-call]  # the library's gap
    return path


def contract_with(folder: Path, episode: dict[str, Any]) -> Path:
    document = yaml.safe_load(ARM.read_text())
    path = folder / "contract.yaml"
    path.write_text(yaml.safe_dump({**document, "reward": None, "episode": episode}))
    return path


def rule(service: str, path: str | None, equals: Any = None) -> dict[str, Any]:
    kind = SET_BOOL if service == "record" else TRIGGER
    found = {"topic": f"/{service}/_service_event", "type": kind, "path": path, "equals": equals}
    return {key: value for key, value in found.items() if value is not None}


BY_KIND = {
    "start": rule("begin", "info.event_type", REQUEST_RECEIVED),
    "stop": rule("end", "info.event_type", REQUEST_RECEIVED),
}

TRIGGERED = {5: ("begin", None), 12: ("end", None), 20: ("begin", None), 35: ("end", None)}

SWITCHED = {
    5: ("record", True),
    12: ("record", False),
    20: ("record", True),
    35: ("record", False),
}

WHILE_ON = {"during": rule("record", "request.0.data")}

ON_AND_OFF = {
    "start": rule("record", "request.0.data", True),
    "stop": rule("record", "request.0.data", False),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("calls", "episode"),
    [(TRIGGERED, BY_KIND), (SWITCHED, WHILE_ON)],
)
def test_calls_of_services_cut_the_episodes(
    robot: Robot,
    tmp_path: Path,
    form: Form,
    calls: Calls,
    episode: dict[str, Any],
) -> None:
    bag = write_bag(tmp_path / "bag.mcap", robot, calls, form)
    contract = load_contract(contract_with(tmp_path, episode))
    report = convert(Source(contract, [bag]), tmp_path / "out")
    assert report["bags"][0]["skipped_topics"] == []
    plain = {"during": {"topic": "/state", "type": BOOL, "path": "data"}}
    convert(Source(load_contract(contract_with(tmp_path, plain)), [bag]), tmp_path / "plain")
    found = load_dataset(tmp_path / "out").episodes
    assert [len(each) for each in found] == [7, 15]
    for each, same in zip(found, load_dataset(tmp_path / "plain").episodes, strict=True):
        np.testing.assert_array_equal(each.observations, same.observations)
        np.testing.assert_array_equal(each.actions, same.actions)


def test_a_response_without_a_request_says_nothing_of_the_request(
    robot: Robot, tmp_path: Path
) -> None:
    """Both ends tell of a request, so that it starts twice, and of a response, which does not."""
    bag = write_bag(tmp_path / "bag.mcap", robot, SWITCHED, of_rosbag2)
    contract = load_contract(contract_with(tmp_path, ON_AND_OFF))
    convert(Source(contract, [bag]), tmp_path / "out")
    assert [len(each) for each in load_dataset(tmp_path / "out").episodes] == [6, 14]


def test_other_wrong_paths_into_events_are_told(robot: Robot, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag.mcap", robot, SWITCHED, of_rosbag2)
    for path, why in {
        "request.data": "no field 'data' for 'request.data'",
        "request.0.date": "no field 'date' for 'request.0.date' \\(did you mean 'data'",
        "response.0": "'response.0' is a std_srvs__srv__SetBool_Response, which is not a number",
    }.items():
        contract = load_contract(contract_with(tmp_path, {"during": rule("record", path)}))
        with pytest.raises(BagError, match=why):
            convert(Source(contract, [bag]), tmp_path / "out")


def test_inspect_and_contract_commands_know_events(
    robot: Robot, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write_bag(tmp_path / "bag.mcap", robot, TRIGGERED, of_rosbag2)
    inspect([bag], as_json=True)
    told = json.loads(capsys.readouterr().out)
    known = {topic["topic"]: (topic["known"], topic["count"]) for topic in told["topics"]}
    assert known["/begin/_service_event"] == known["/end/_service_event"] == (True, 8)
    rules = contract_with(tmp_path, BY_KIND)
    check = CliRunner().invoke(contract_commands, ["check", str(rules), str(bag)])
    assert "fits: 2 episodes, 22 transitions: 1.1 of 2 s" in check.output
    draft = tmp_path / "draft.yaml"
    CliRunner().invoke(contract_commands, ["init", str(bag), "--out", str(draft)])
    told = " ".join(draft.read_text().replace("#", " ").split())
    assert "/end/_service_event (std_srvs/srv/Trigger_Event, 8 messages): a service's eve" in told


USING = {
    # As rosbag2's own tests of LocalMessageDefinitionSource have it.
    "messages": f"""{DELIMITER}SRV: my_msgs/srv/Plan
my_msgs/Goal req
Goal[] more
---
my_msgs/Goal resp

{DELIMITER}MSG: my_msgs/Goal
float32 c

""",
    "idl": f"""{DELIMITER}SRV: my_msgs/srv/Plan
my_msgs/Goal req
my_msgs/Goal[] more
---
my_msgs/Goal resp

{DELIMITER}MSG: my_msgs/Goal

{DELIMITER}IDL: my_msgs/Goal
module my_msgs {{
  module msg {{
    struct Goal {{
        float c;
    }};
  }};
}};
""",
}


@pytest.mark.parametrize("kind", USING)
def test_what_a_service_uses_comes_behind_it(kind: str) -> None:
    fields = {name: each[1] for name, each in service_event_types(USING[kind], PLAN).items()}
    goal = (Nodetype.NAME, "my_msgs/msg/Goal")
    assert fields["my_msgs/msg/Goal"] == [("c", (Nodetype.BASE, ("float32", 0)))]
    assert fields["my_msgs/srv/Plan_Request"] == [
        ("req", goal),
        ("more", (Nodetype.SEQUENCE, (goal, 0))),
    ]
    assert fields["my_msgs/srv/Plan_Response"] == [("resp", goal)]
    assert fields[PLAN] == [
        ("info", (Nodetype.NAME, "service_msgs/msg/ServiceEventInfo")),
        ("request", (Nodetype.SEQUENCE, ((Nodetype.NAME, "my_msgs/srv/Plan_Request"), 1))),
        ("response", (Nodetype.SEQUENCE, ((Nodetype.NAME, "my_msgs/srv/Plan_Response"), 1))),
    ]


@pytest.mark.parametrize("distribution", ["iron", "jazzy", "humble", ""])
@pytest.mark.parametrize("msgtype", [SET_BOOL, TRIGGER])
def test_all_forms_define_the_same(distribution: str, msgtype: str) -> None:
    definitions = Definitions(distribution)
    channels = [Channel("/x", msgtype, "cdr", Definition(*form(msgtype))) for form in FORMS]
    assert not any(definitions.flaw(channel) for channel in channels)
    hashes = {definitions.typestore([each]).hash_rihs01(msgtype) for each in channels}
    assert len(hashes) == 1
    definitions.typestore(channels)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"{DELIMITER}SRV: my_msgs/srv/Plan\nbool data\n", "my_msgs/srv/Plan has 0 lines '---'"),
        (f"{DELIMITER}SRV: my_msgs/srv/Plan\n---\n---\n", "my_msgs/srv/Plan has 2 lines '---'"),
        (f"{DELIMITER}SRV: my_msgs/srv/Plans\n---\n", "my_msgs/srv/Plan_Event"),
        (f"{DELIMITER}SRV: my_msgs/srv/Plan\nLost x\n---\n", "my_msgs/msg/Lost"),
        (f"{DELIMITER}SRV: \n!?\n---\n", "."),
        (f"{DELIMITER}SRV: my_msgs/srv/Plan", "0 lines '---'"),
        (f"{DELIMITER}IDL: x\n?", "."),
    ],
)
def test_a_definition_that_is_none_is_told_and_breaks_nothing(
    robot: Robot, tmp_path: Path, text: str, why: str
) -> None:
    def broken(_: str) -> tuple[str, str]:
        return "unknown", text.replace("my_msgs/srv/Plan", "std_srvs/srv/Trigger")

    path = write_bag(tmp_path / "bag.mcap", robot, TRIGGERED, broken)
    why = why.replace("my_msgs/srv/Plan", "std_srvs/srv/Trigger").replace("my_msgs", "std_srvs")
    with Bag(path) as bag:
        assert {topic.msgtype for topic in bag.unknown_types} == {TRIGGER}
        with pytest.raises(BagError, match=f"the definition of {TRIGGER} in the bag .*{why}"):
            bag.typestore("/begin/_service_event")
        assert len(list(messages_of(bag, frozenset({"/joint_states"})))) == 41
    plain = {"during": {"topic": "/state", "type": BOOL, "path": "data"}}
    contract = load_contract(contract_with(tmp_path, plain))
    report = convert(Source(contract, [path]), tmp_path / "out")
    assert len(report["bags"][0]["skipped_topics"]) == 2


def test_sqlite_files_have_the_definition_under_the_services_name(tmp_path: Path) -> None:
    path = tmp_path / "bag.db3"
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT,
            serialization_format TEXT, offered_qos_profiles TEXT, type_description_hash TEXT);
        CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT, encoding TEXT,
            encoded_message_definition TEXT, type_description_hash TEXT);
        CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER,
            data BLOB);
        """
    )
    topic = "/switch/_service_event"
    connection.execute("INSERT INTO topics VALUES (1, ?, ?, 'cdr', '', '')", (topic, SET_BOOL))
    filed = (SET_BOOL.removesuffix("_Event"), *of_rosbag2(SET_BOOL))
    connection.execute("INSERT INTO message_definitions VALUES (1, ?, ?, ?, '')", filed)
    for time_ns, payload in enumerate(call(True), start=1):
        connection.execute("INSERT INTO messages VALUES (NULL, 1, ?, ?)", (time_ns, payload))
    connection.commit()
    connection.close()
    with Bag(path) as bag:
        events = [each.message for each in messages_of(bag, frozenset({topic}))]
    assert [event.info.event_type for event in events] == [0, 1, 2, 3]
    assert [len(event.request) for event in events] == [1, 1, 0, 0]
    assert events[1].request[0].data is True
    assert events[3].response[0].message == "done"


@pytest.mark.parametrize("msgtype", [SET_BOOL, TRIGGER])
def test_a_recording_of_this_project_has_them_with_the_types_hash(
    tmp_path: Path, msgtype: str
) -> None:
    with SampleWriter(tmp_path / "bag") as writer:
        writer.add_topic("/x/_service_event", msgtype, definition=type_definition(msgtype))
        writer.write("/x/_service_event", call(True if msgtype == SET_BOOL else None)[1], 5)
    with Bag(tmp_path / "bag") as bag:
        (event,) = messages_of(bag, frozenset({"/x/_service_event"}))
        store = bag.typestore("/x/_service_event")
    assert event.message.info.event_type == REQUEST_RECEIVED
    metadata = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    (topic,) = metadata["rosbag2_bagfile_information"]["topics_with_message_count"]
    assert topic["topic_metadata"]["type_description_hash"] == store.hash_rihs01(msgtype)


def test_what_rosbags_cannot_hash_is_recorded_without_a_hash(tmp_path: Path) -> None:
    with SampleWriter(tmp_path / "bag") as writer:
        for name, msgtype in (("/wide", "my_msgs/msg/Wide"), ("/asked", PLAN)):
            writer.add_topic(name, msgtype, definition="wstring data\n")
    with Bag(tmp_path / "bag") as bag:
        assert bag.unknown_types == ()
    metadata = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    for topic in metadata["rosbag2_bagfile_information"]["topics_with_message_count"]:
        assert topic["topic_metadata"]["type_description_hash"] == ""
