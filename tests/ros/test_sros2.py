"""SROS 2 policies and settings, without ROS."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from dql_core.errors import ConfigError
from dql_ros.cli.sros2 import sros2
from dql_ros.contract import Contract, Outcomes, Takeover, load_contract
from dql_ros.sros2 import (
    explain_refusal,
    policy_document,
    require_valid_settings,
    settings_warning,
)

CONFIG = Path(__file__).parents[2] / "config"
CONTRACTS = sorted((CONFIG / "contracts").glob("*.yaml"))
ENFORCED = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}


def allowed(document: str, enclave: str, right: str) -> set[str]:
    """Return the full names of what a policy allows, as sros2 reads it."""
    (profile,) = ElementTree.fromstring(document).findall(
        f"enclaves/enclave[@path='{enclave}']/profiles/profile"
    )
    found = set()
    for names in profile:
        assert set(names.attrib.values()) == {"ALLOW"}
        if right in names.attrib:
            own = f"{profile.attrib['ns'].rstrip('/')}/{profile.attrib['node']}"
            found |= {re.sub("^~", own, str(name.text)) for name in names}
    assert all(name.startswith("/") for name in found)
    return found


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("namespace", ["", "left", "/left/"])
def test_only_policy_and_demonstrator_may_command_the_robot(path: Path, namespace: str) -> None:
    contract = load_contract(path)
    document = policy_document(contract, namespace)
    prefix = f"/{namespace.strip('/')}".rstrip("/")
    nodes = ("policy", "demonstrator", "sim_bridge", "recorder", "operator")
    commanders = {
        node
        for node in nodes
        for stream in contract.action
        if stream.resolved_topic(prefix) in allowed(document, f"{prefix}/{node}", "publish")
    }
    assert commanders == {"policy", "demonstrator"}
    stopped_by = [
        node
        for node in nodes
        if f"{prefix}/policy/stop" in allowed(document, f"{prefix}/{node}", "publish")
    ]
    assert stopped_by == ["operator"]


@pytest.mark.parametrize("namespace", ["", "left"])
def test_in_shadow_mode_a_policy_may_say_beside_what_the_recorder_hears(namespace: str) -> None:
    contract = load_contract(CONFIG / "contracts" / "scara.yaml")
    document = policy_document(contract, namespace)
    prefix = f"/{namespace}".rstrip("/")
    commands = f"{prefix}/velocity_controller/commands"
    shadow = f"{prefix}/policy/shadow/velocity_controller/commands"
    assert shadow in allowed(document, f"{prefix}/policy", "publish")
    assert commands in allowed(document, f"{prefix}/policy", "subscribe")
    assert {commands, shadow} <= allowed(document, f"{prefix}/recorder", "subscribe")
    assert shadow in allowed(document, f"{prefix}/operator", "subscribe")


@pytest.mark.parametrize("namespace", ["", "left"])
def test_a_person_is_heard_and_what_is_said_of_it_too(namespace: str) -> None:
    plain = load_contract(CONFIG / "contracts" / "scara.yaml")
    switch = {"topic": "/joy", "type": "sensor_msgs/msg/Joy", "path": "buttons.0"}
    takeover = Takeover.model_validate({"topics": ["teleop"], "switch": switch})
    document = policy_document(plain.model_copy(update={"takeover": takeover}), namespace)
    prefix = f"/{namespace}".rstrip("/")
    heard, said = {f"{prefix}/teleop", "/joy"}, f"{prefix}/intervention"
    for node in ("policy", "demonstrator"):
        assert heard <= allowed(document, f"{prefix}/{node}", "subscribe")
        assert said in allowed(document, f"{prefix}/{node}", "publish")
        assert not heard & allowed(document, f"{prefix}/{node}", "publish")
    assert {*heard, said} <= allowed(document, f"{prefix}/recorder", "subscribe")
    assert said in allowed(document, f"{prefix}/operator", "subscribe")
    assert not heard & allowed(document, f"{prefix}/operator", "publish")


@pytest.mark.parametrize("namespace", ["", "left"])
def test_goals_are_sent_by_those_who_may_command_alone(namespace: str) -> None:
    document = yaml.safe_load((CONFIG / "contracts" / "scara.yaml").read_text())
    kind = "control_msgs/action/GripperCommand"
    document["action"][0]["send_as"] = {"action": "hand/gripper", "type": kind}
    policy = policy_document(Contract.model_validate(document), namespace)
    prefix = f"/{namespace}".rstrip("/")
    callers = {
        node: allowed(policy, f"{prefix}/{node}", "call")
        for node in ("policy", "demonstrator", "sim_bridge", "recorder", "operator")
    }
    may = {f"{prefix}/hand/gripper"}
    assert callers == {
        "policy": may,
        "demonstrator": may,
        "sim_bridge": set(),
        "recorder": set(),
        "operator": set(),
    }
    (names,) = {
        (names.tag, name.tag, name.text)
        for names in ElementTree.fromstring(policy).iter("actions")
        for name in names
    }
    assert names == ("actions", "action", f"{prefix}/hand/gripper")


@pytest.mark.parametrize("namespace", ["", "left"])
def test_labels_of_episodes_are_heard_by_the_recorder(namespace: str) -> None:
    plain = load_contract(CONFIG / "contracts" / "scara.yaml")
    button = {"topic": "/joy", "type": "sensor_msgs/msg/Joy", "path": "buttons.0"}
    outcomes = Outcomes.model_validate({"success": button})
    document = policy_document(plain.model_copy(update={"outcomes": outcomes}), namespace)
    prefix = f"/{namespace}".rstrip("/")
    assert {f"{prefix}/outcome", "/joy"} <= allowed(document, f"{prefix}/recorder", "subscribe")
    for node in ("policy", "demonstrator", "recorder"):
        services = {f"{prefix}/{node}/{name}_episode" for name in ("label", "discard")}
        assert services <= allowed(document, f"{prefix}/{node}", "reply")
        assert services <= allowed(document, f"{prefix}/operator", "request")
    assert f"{prefix}/outcome" in allowed(document, f"{prefix}/policy", "publish")
    assert "/joy" not in allowed(document, f"{prefix}/policy", "subscribe")


def test_the_operator_hears_all_and_calls_all() -> None:
    document = policy_document(load_contract(CONFIG / "contracts" / "scara.yaml"), "left")
    for node in ("policy", "sim_bridge", "recorder"):
        path = f"/left/{node}"
        assert allowed(document, path, "publish") <= allowed(
            document, "/left/operator", "subscribe"
        )
        assert allowed(document, path, "reply") <= allowed(document, "/left/operator", "request")


def test_what_else_is_recorded_may_be_heard_by_the_recorder_alone() -> None:
    contract = load_contract(CONFIG / "contracts" / "scara.yaml")
    document = policy_document(contract, topics=["odom", "/camera"])
    assert {"/odom", "/camera"} <= allowed(document, "/recorder", "subscribe")
    assert not {"/odom", "/camera"} & allowed(document, "/policy", "subscribe")


def test_the_shipped_policy_is_what_the_command_writes(tmp_path: Path) -> None:
    out = tmp_path / "new" / "policy.xml"
    sros2(CONFIG / "contracts" / "scara.yaml", out, topic=["/diagnostics"])
    assert out.read_text() == (CONFIG / "security" / "scara.policy.xml").read_text()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ROS_SECURITY_ENABLE": "True"}, "ROS_SECURITY_ENABLE is 'True', which ROS 2 reads as"),
        ({"ROS_SECURITY_ENABLE": "1"}, "write true or false"),
        ({"ROS_SECURITY_STRATEGY": "enforce"}, "'enforce', which ROS 2 reads as Permissive"),
        ({"ROS_SECURITY_KEYSTORE": "/nowhere"}, "'/nowhere', where no keystore is"),
        ({"ROS_SECURITY_KEYSTORE": ""}, "ROS_SECURITY_KEYSTORE is '', where no keystore is"),
    ],
)
def test_settings_that_would_protect_nothing_are_refused(
    tmp_path: Path, changed: dict[str, str], told: str
) -> None:
    (tmp_path / "enclaves").mkdir()
    sound = ENFORCED | {"ROS_SECURITY_KEYSTORE": str(tmp_path)}
    require_valid_settings(sound)
    with pytest.raises(ConfigError, match=re.escape(told)):
        require_valid_settings(sound | changed)


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, ""),
        (ENFORCED, ""),
        (ENFORCED | {"ROS_SECURITY_ENABLE": "false"}, ""),
        ({"ROS_SECURITY_STRATEGY": "Enforce"}, "but ROS_SECURITY_ENABLE is not true: nothing is"),
        ({"ROS_SECURITY_ENABLE": "true"}, "is not Enforce: a node that has no enclave runs"),
    ],
)
def test_settings_that_protect_less_than_they_seem_to_are_doubted(
    environment: dict[str, str], told: str
) -> None:
    doubt = settings_warning(environment)
    assert told in doubt
    assert bool(told) == bool(doubt)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "failed to initialize rcl: SECURITY ERROR: directory '/ks/enclaves/x' does not exist."
            ", at /project/src/rcl/security.c:202",
            "security: directory '/ks/enclaves/x' does not exist: make the enclave with",
        ),
        (
            "error creating node: This Fast DDS version doesn't have the security libraries\n"
            "Please compile Fast DDS using the -DSECURITY=ON CMake option, at /x.cpp:1",
            "ROS_SECURITY_ENABLE is true, but the DDS library of this ROS 2 was built without",
        ),
    ],
)
def test_what_ros_says_of_security_is_explained(error: str, told: str) -> None:
    assert explain_refusal(error).startswith(told)


def test_other_errors_are_not_taken_for_those_of_security() -> None:
    assert explain_refusal("the security guard is asleep") == ""
