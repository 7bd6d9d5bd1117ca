"""SROS 2: what each node may say and hear, and whether the settings protect what they seem to.

Source: the SROS 2 policy format (sros2/policy/schemas/policy.xsd, version 0.2.0) and rcl's
security.c, which reads the environment variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from dql_core.errors import ConfigError
from dql_ros.contract import Contract
from dql_ros.contract.shadow import POLICY_NODE, shadow_topic
from dql_ros.contract.stream import absolute_namespace, resolve_topic

ENABLE, STRATEGY = "ROS_SECURITY_ENABLE", "ROS_SECURITY_STRATEGY"
KEYSTORE = "ROS_SECURITY_KEYSTORE"
HOW_TO = "docs/how-to/secure-with-sros2.md"

# Services that every node, and every lifecycle node, has.
_COMMON = (
    *("describe_parameters", "get_parameter_types", "get_parameters", "list_parameters"),
    *("set_parameters", "set_parameters_atomically", "get_type_description"),
)
_LIFECYCLE = (
    *("change_state", "get_available_states", "get_available_transitions", "get_state"),
    "get_transition_graph",
)
# What each right is a right to.
_KINDS = {
    "publish": "topic",
    "subscribe": "topic",
    "reply": "service",
    "request": "service",
    "call": "action",
}
_LABELLING = ("~/label_episode", "~/discard_episode")


@dataclass(frozen=True)
class Rights:
    """What one participant may do; names as ROS resolves them for a node, ``~/`` included.

    Attributes:
        publish: Topics.
        subscribe: Topics.
        reply: Services that it offers.
        request: Services that it calls.
        call: Actions that it sends goals of.
    """

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    reply: tuple[str, ...] = ()
    request: tuple[str, ...] = ()
    call: tuple[str, ...] = ()


def policy_document(contract: Contract, namespace: str = "", topics: Sequence[str] = ()) -> str:
    """Return the SROS 2 policy of all nodes of this package, and of who operates them, as XML.

    Each has the enclave of its full name, such as ``/left/policy``; nothing else is allowed.

    Args:
        contract: The robot's.
        namespace: Namespace of the nodes.
        topics: What else the recorder records.
    """
    prefix = absolute_namespace(namespace)
    document = ElementTree.Element("policy", version="0.2.0")
    enclaves = ElementTree.SubElement(document, "enclaves")
    for node, rights in _rights(contract, prefix, topics).items():
        path = f"{prefix.rstrip('/')}/{node}"
        enclave = ElementTree.SubElement(enclaves, "enclave", path=path)
        profiles = ElementTree.SubElement(enclave, "profiles")
        profile = ElementTree.SubElement(profiles, "profile", ns=prefix, node=node)
        for right, names in vars(rights).items():
            kind = _KINDS[right]
            if names:
                allowed = ElementTree.SubElement(profile, f"{kind}s", {right: "ALLOW"})
                for name in sorted(set(names)):
                    ElementTree.SubElement(allowed, kind).text = name
    ElementTree.indent(document)
    text = ElementTree.tostring(document, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _rights(contract: Contract, prefix: str, topics: Sequence[str]) -> dict[str, Rights]:
    """The rights of each node, by its name."""
    resets = [contract.reset_signal] if contract.reset_signal else []
    outputs = [*contract.observed_topics, *contract.signals.values(), *resets]
    states = _resolved([stream.topic for stream in contract.observed_topics], prefix)
    commands = _resolved([stream.topic for stream in contract.action], prefix)
    simulated = _resolved([stream.topic for stream in outputs], prefix)
    events = _resolved([event.topic for event in contract.events.values()], prefix)
    takeover = contract.takeover
    persons = _resolved(takeover.heard_topics if takeover else (), prefix)
    flags = _resolved([takeover.intervention] if takeover else (), prefix)
    outcomes = contract.outcomes
    labels = _resolved((outcomes.topic,) if outcomes else (), prefix)
    buttons = [flag.topic for flag in outcomes.flags.values()] if outcomes else []
    shadows, recorded = (
        tuple(shadow_topic(stream.topic, node) for stream in contract.action)
        for node in ("~", resolve_topic(POLICY_NODE, prefix))
    )
    control = Rights(
        publish=(
            *(*commands, *flags, *shadows, *labels),
            *("/diagnostics", "~/status", "~/candidates"),
        ),
        subscribe=(*states, *commands, *persons, "~/stop"),  # the commands in shadow mode
        reply=("~/pause", "~/resume", "~/reset_stop", *_LABELLING),
        call=_resolved([each.send_as.action for each in contract.action if each.send_as], prefix),
    )
    bridge = Rights(
        publish=(*simulated, "/clock", "/diagnostics", "~/episode"),
        subscribe=commands,
        reply=("~/pause", "~/reset", "~/step"),
    )
    recorder = Rights(
        publish=("/diagnostics", "~/episode", "~/status"),
        subscribe=(
            *(*simulated, *commands, *recorded, *events),
            *(*persons, *flags, *labels, *_resolved([*buttons, *topics], prefix), "~/label"),
        ),
        reply=("~/start", "~/stop", *_LABELLING),
    )
    nodes = {
        POLICY_NODE: _of_node(control, is_managed=True),
        "demonstrator": _of_node(control, is_managed=True),
        "sim_bridge": _of_node(bridge),
        "recorder": _of_node(recorder),
    }
    return {**nodes, "operator": _of_operator(nodes, prefix)}


def _of_node(own: Rights, *, is_managed: bool = False) -> Rights:
    """A node's own rights, and what every node, and every lifecycle node, has."""
    services = (*_COMMON, *(_LIFECYCLE if is_managed else ()))
    events = ("~/transition_event",) if is_managed else ()
    return Rights(
        publish=(*own.publish, "/rosout", "/parameter_events", *events),
        subscribe=(*own.subscribe, "/clock"),
        reply=(*own.reply, *(f"~/{name}" for name in services)),
        call=own.call,
    )


def _of_operator(nodes: Mapping[str, Rights], prefix: str) -> Rights:
    """Who watches the nodes, calls their services, and may stop the robot, but not command it."""

    def full(node: str, *names: str) -> list[str]:
        return [name.replace("~", f"{prefix.rstrip('/')}/{node}", 1) for name in names]

    return Rights(
        publish=(
            *(*full("policy", "~/stop"), *full("demonstrator", "~/stop")),
            *(*full("recorder", "~/label"), "/rosout", "/parameter_events"),
        ),
        subscribe=tuple(
            {name for node, rights in nodes.items() for name in full(node, *rights.publish)}
        ),
        reply=("/_ros2cli_*/get_type_description",),  # which the nodes of ros2's tools offer
        request=tuple(
            name for node, rights in nodes.items() for name in full(node, *rights.reply)
        ),
    )


def _resolved(topics: Sequence[str], prefix: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(resolve_topic(topic, prefix) for topic in topics))


def require_valid_settings(environment: Mapping[str, str]) -> None:
    """See that who has switched security on is not left unprotected by a word that ROS misreads.

    Raises:
        ConfigError: Naming the variable and what to write.
    """
    enable, strategy = environment.get(ENABLE, ""), environment.get(STRATEGY, "")
    if enable not in {"", "true", "false"}:
        raise ConfigError(
            f"{ENABLE} is '{enable}', which ROS 2 reads as false: write true or false"
        )
    if enable != "true":
        return
    if strategy not in {"", "Enforce", "Permissive"}:
        raise ConfigError(
            f"{STRATEGY} is '{strategy}', which ROS 2 reads as Permissive: write Enforce, or "
            f"Permissive"
        )
    keystore = environment.get(KEYSTORE, "")
    if not Path(keystore, "enclaves").is_dir():
        raise ConfigError(
            f"{KEYSTORE} is '{keystore}', where no keystore is: name one that 'ros2 security "
            f"create_keystore' has made, or set {ENABLE}=false"
        )


def settings_warning(environment: Mapping[str, str]) -> str:
    """Return in what way the settings may protect less than they seem to; empty if in none."""
    is_on = environment.get(ENABLE, "") == "true"
    if is_on and environment.get(STRATEGY, "") != "Enforce":
        return f"{STRATEGY} is not Enforce: a node that has no enclave runs unprotected"
    if environment.get(STRATEGY, "") == "Enforce" and ENABLE not in environment:
        return f"{STRATEGY} is Enforce, but {ENABLE} is not true: nothing is protected"
    return ""


def explain_refusal(error: str) -> str:
    """Return what rcl's complaint about security means and how to mend it; "" if it is none."""
    words = " ".join(error.split())
    if "-DSECURITY=ON" in words:  # Fast DDS's advice to those who build it
        return (
            f"{ENABLE} is true, but the DDS library of this ROS 2 was built without security, as "
            f"in the wheels from PyPI: use a ROS 2 installation, or set {ENABLE}=false and be "
            f"unprotected; see {HOW_TO}"
        )
    if "SECURITY ERROR" in words:
        found = words.partition("SECURITY ERROR: ")[2].partition("., at /")[0]
        return (
            f"security: {found}: make the enclave with 'ros2 security create_enclave', or name "
            f"another with --ros-args --enclave; see {HOW_TO}"
        )
    return ""
