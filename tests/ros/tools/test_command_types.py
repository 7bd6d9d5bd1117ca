"""Commands of types that are none of ROS 2's standard ones: checked, converted, replayed."""

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from dql_core.data.dataset import load_dataset
from dql_core.errors import ContractError
from dql_ros.codecs import StreamEncoder
from dql_ros.codecs.blank import blank_element, blank_message
from dql_ros.contract import Contract
from dql_ros.convert.convert import Source, convert
from dql_ros.tools.contract_check import check_bag, check_types
from tests.ros.bag.sample_writer import SampleWriter

SECOND = 1_000_000_000
PLACE, DRIVE, JOG = "geometry_msgs/msg/Point", "drive_msgs/msg/Drive", "control_msgs/msg/JointJog"
DEFINITION = "string mode\nuint8 gear\nstring[] motor_names\nfloat32[] speeds\n"
JOG_DEFINITION = (
    "std_msgs/Header header\nstring[] joint_names\nfloat64[] displacements\n"
    "float64[] velocities\nfloat64 duration\n"
)
RULES = """
robot: rover
rate_hz: 10.0
observation:
  - {topic: /place, type: geometry_msgs/msg/Point, stamp: receive, fields: [{path: x}]}
action:
  - topic: /drive
    type: drive_msgs/msg/Drive
    fields:
      - {path: "speeds[motor_names=left]", low: -1.0, high: 1.0}
      - {path: "speeds[motor_names=right]", low: -1.0, high: 1.0}
      - {path: mode, constant: speed}
      - {path: gear, constant: 2}
  - topic: /jog
    type: control_msgs/msg/JointJog
    fields: [{path: velocities, joints: [lift], low: -1.0, high: 1.0}]
"""
# What rosidl makes of a definition, as far as a contract is compared with it.
STAND_IN = """
class Drive:
    @classmethod
    def get_fields_and_field_types(cls):
        return {"mode": "string", "gear": "uint8", "motor_names": "sequence<string>",
                "speeds": "sequence<float, 8>"}
"""


def rules(**changes: str) -> Contract:
    text = RULES
    for before, after in changes.items():
        text = text.replace(before, after)
    return Contract.model_validate(yaml.safe_load(text))


@pytest.fixture(name="store", scope="module")
def _store() -> Typestore:
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(DEFINITION, DRIVE))
    store.register(get_types_from_msg(JOG_DEFINITION, JOG))
    return store


@pytest.fixture(name="bag")
def _bag(tmp_path: Path, store: Typestore) -> Path:
    encoders = [StreamEncoder(stream) for stream in rules().action]
    with SampleWriter(tmp_path / "bag", typestore=store) as writer:
        for topic, msgtype in (("/place", PLACE), ("/drive", DRIVE), ("/jog", JOG)):
            writer.add_topic(topic, msgtype)

        def write(topic: str, message: Any, time_ns: int) -> None:
            cdr = store.serialize_cdr(message, message.__msgtype__)
            writer.write(topic, bytes(cdr), time_ns)

        for tick in range(21):
            now = 50 * SECOND + tick * SECOND // 10
            write("/place", blank_message(store, PLACE), now)
            for stream, encoder, values in zip(
                rules().action, encoders, ([tick / 32, -0.5], [tick / 64]), strict=True
            ):
                message = blank_message(store, stream.type)
                element = partial(blank_element, store)
                write(stream.topic, encoder.encode(values, message, now, element), now + 1000)
    return tmp_path / "bag"


@pytest.fixture(name="installed")
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "site" / "drive_msgs" / "msg"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "drive_msgs"]:
        del sys.modules[name]


def test_they_fit_a_recording_and_are_converted(bag: Path, tmp_path: Path) -> None:
    check = check_bag(bag, rules())
    assert check.findings.problems == []
    assert not any("drive" in text or "jog" in text for text in check.findings.warnings)
    assert check.transitions == 20
    convert(Source(rules(), [bag]), tmp_path / "out")
    (episode,) = load_dataset(tmp_path / "out").episodes
    expected = [[tick / 32, -0.5, tick / 64] for tick in range(20)]
    np.testing.assert_array_equal(episode.actions, np.array(expected, np.float32))


@pytest.mark.parametrize(
    ("before", "after", "warning"),
    [
        ("speed}", "torque}", "'mode' is sent as the constant 'torque', but was 'speed' in 21"),
        ("gear, constant: 2", "gear, constant: 3", "'gear' is sent as the constant 3, but was 2"),
        ("      - {path: gear, constant: 2}\n", "", "each command has nothing in 'gear', 0 or an"),
        (
            "{path: gear, constant: 2}",
            "{path: gear, low: -1, high: 5}",
            "gets down to -1; correct",
        ),
    ],
)
def test_what_is_sent_otherwise_than_recorded_is_told(
    bag: Path, before: str, after: str, warning: str
) -> None:
    check = check_bag(bag, rules(**{before: after}))
    assert check.findings.problems == []
    assert [text for text in check.findings.warnings if warning in text], check.findings.warnings


def test_what_cannot_be_sent_is_refused_by_check_and_conversion(bag: Path, tmp_path: Path) -> None:
    half = rules(**{'      - {path: "speeds[motor_names=right]", low: -1.0, high: 1.0}\n': ""})
    whole = check_bag(bag, half)
    assert whole.findings.problems == [], "other motors may be in the messages"
    mode = rules(**{"path: mode, constant: speed": "path: speeds, constant: speed"})
    problems = check_bag(bag, mode).findings.problems
    assert any("'speeds' is an array of numbers, not a text" in text for text in problems)
    with pytest.raises(ContractError, match="'speeds' is an array of 2, not a text"):
        convert(Source(mode, [bag]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("installed")
def test_types_are_those_of_the_installation_where_no_recording_is_named() -> None:
    assert (check_types(rules()).problems, check_types(rules()).warnings) == ([], [])
    wrong = check_types(rules(**{"motor_names=left": "wheel_names=left"})).problems
    assert len(wrong) == 1
    assert "no names called 'wheel_names'" in wrong[0]


def test_types_are_those_of_a_folder_of_definitions(tmp_path: Path) -> None:
    (told,) = check_types(rules()).warnings
    assert told.endswith("a bag that defines it shows more, or --msgs with its package's folder")
    (tmp_path / "drive_msgs" / "msg").mkdir(parents=True)
    (tmp_path / "drive_msgs" / "msg" / "Drive.msg").write_text(DEFINITION)
    found = check_types(rules(**{"constant: 2": "constant: 256"}), [tmp_path / "drive_msgs"])
    assert found.problems == [
        "action.0 (/drive): 'gear' is a uint8, which has 0 to 255, and gets the constant 256; "
        "correct its 'low', 'high' or 'constant'"
    ]
