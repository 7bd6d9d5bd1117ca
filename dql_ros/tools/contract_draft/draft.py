"""The whole draft: a contract's text with the reason for each choice."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dql_core.errors import counted
from dql_ros.tools.contract_draft.choices import (
    Chosen,
    commanded_age,
    control_rate,
    distrust_of_pose,
    distrust_of_stamps,
    observed_age,
    pose_age,
)
from dql_ros.tools.contract_draft.field_lines import (
    FieldLine,
    commanded_lines,
    nonfinite_count,
    observed_lines,
)
from dql_ros.tools.contract_draft.frames_seen import SeenPose
from dql_ros.tools.contract_draft.roles import PLAIN, Roles, assign, is_like_command, is_rare
from dql_ros.tools.contract_draft.topic_profile import TopicProfile
from dql_ros.tools.contract_draft.yaml_text import (
    StreamDraft,
    comment,
    entry,
    flow,
    stream_text,
    with_own_names,
)

# What a file's ages are computed with where there is no rate.
SOME_RATE_HZ = 10.0
# More recordings are not named, only counted.
MOST_NAMED = 4
OBSERVATION = (
    "observation:",
    "  - topic: /joint_states",
    "    type: sensor_msgs/msg/JointState",
    "    fields:",
    "      - {path: position, joints: [shoulder, elbow], unit: rad}",
)
ACTION = (
    "action:",
    "  - topic: /cmd_vel",
    "    type: geometry_msgs/msg/Twist",
    "    fields:",
    "      - {path: linear.x, unit: m/s, low: -1.0, high: 1.0}",
)
# Types of ROS itself, and of texts.
NO_STATE = ("rcl_interfaces/", "rosgraph_msgs/", "std_msgs/msg/String", "diagnostic_msgs/")
_BOUNDS = (
    "The bounds are the range of what was recorded, widened to round numbers. They should be what "
    "the robot can take."
)


@dataclass(frozen=True)
class Draft:
    """A contract's first text.

    Attributes:
        text: The file's content.
        missing: What the bag does not show and a person has to fill in, a sentence each.
        notes: What else a person should know of it, a sentence each.
    """

    text: str
    missing: tuple[str, ...]
    notes: tuple[str, ...] = ()


def draft_contract(
    topics: Sequence[TopicProfile], name: str, rate_hz: float | None = None
) -> Draft:
    """Draft a contract from a bag's topics; by default their rates decide the control rate."""
    return draft_of_roles(assign(topics), name, rate_hz)


def draft_of_roles(
    roles: Roles, name: str, rate_hz: float | None = None, others: Sequence[str] = ()
) -> Draft:
    """Draft a contract from topics of which it is known what they are.

    Args:
        roles: What the topics are taken for.
        name: What the robot is called: the first recording's name.
        rate_hz: The control rate, if a person gave one.
        others: Names of the other recordings.
    """
    rate = control_rate(roles.actions, roles.observations)
    if rate_hz is not None:
        rate = Chosen(rate_hz, "as asked for")
    for_ages = rate.value if rate else SOME_RATE_HZ
    observed = [_observed(roles, topic, for_ages) for topic in roles.observations]
    observed += [_latched(roles, topic) for topic in roles.latched]
    observation = with_own_names(observed)
    action = with_own_names([_commanded(topic, for_ages) for topic in roles.actions])
    missing = dict(_missing(roles, rate))
    lines = [
        *_heading((name, *others), missing),
        *_head(name, rate, missing),
        *_streams("observation", observation, missing, OBSERVATION),
        *_pose(roles.pose, for_ages),
        *_streams("action", action, missing, ACTION, _BOUNDS),
        *_reward(roles, observation),
        *_episode(roles),
        *_rules(roles, [*observation, *action], action),
        *_unused(roles),
    ]
    return Draft(
        "\n".join(lines) + "\n",
        tuple(f"{key}: {why}" for key, why in missing.items()),
        tuple(_notes(roles)),
    )


def _notes(roles: Roles) -> Iterator[str]:
    for topic in roles.actions:
        if topic in roles.echoes:
            yield (
                f"no topic commands the robot: the action is the set-point that {topic.name} "
                f"reports, which is enough to learn from; to drive the robot, name the topic "
                f"that it obeys"
            )
        elif topic.msgtype.endswith("/JointTrajectory") and is_rare(topic):
            yield (
                f"{topic.name} has whole trajectories, of which only the first point is learnt: "
                f"that says little of how the robot moves; better record what its controller "
                f"reports, such as controller_state, whose set-points are learnt then"
            )


def _observed(roles: Roles, topic: TopicProfile, rate_hz: float) -> StreamDraft:
    keys = _named(topic)
    distrust = roles.by_receipt.get(topic.name) or distrust_of_stamps(topic, rate_hz)
    if distrust:
        keys["stamp"] = ("receive", distrust)
    age = observed_age(topic, rate_hz, by_header=not distrust)
    keys["max_age_s"] = (age.value, age.reason)
    lines = observed_lines(topic, latched=False)
    return StreamDraft(topic, keys | _absent(topic, lines), tuple(lines))


def _named(topic: TopicProfile) -> dict[str, tuple[object, str]]:
    """The name of a stream that shares its topic with others."""
    if not topic.stream_name:
        return {}
    return {"name": (topic.stream_name, "not always in one message with what is above")}


def _latched(roles: Roles, topic: TopicProfile) -> StreamDraft:
    keys = _named(topic)
    if distrust := roles.by_receipt.get(topic.name) or distrust_of_stamps(topic):
        keys["stamp"] = ("receive", distrust)
    times = "once" if topic.count == 1 else f"{topic.count} times"
    keys["latched"] = (True, f"sent {times}: valid until the next; what is before it is left out")
    lines = observed_lines(topic, latched=True)
    return StreamDraft(topic, keys | _absent(topic, lines), tuple(lines))


def _commanded(topic: TopicProfile, rate_hz: float) -> StreamDraft:
    age = commanded_age(topic, rate_hz)
    keys: dict[str, tuple[object, str]] = {"max_age_s": (age.value, age.reason)}
    lines = commanded_lines(topic)
    return StreamDraft(topic, keys | _absent(topic, lines), tuple(lines))


def _absent(topic: TopicProfile, lines: Sequence[FieldLine]) -> dict[str, tuple[object, str]]:
    """What is to become of messages without the numbers, where there are such."""
    if not topic.lacking:
        return {}
    messages = 0 if topic.numbers is None else topic.numbers.messages
    of = f"{topic.lacking:,} of {counted(messages, 'message')} have not all of these"
    return {"when_absent": ("skip", of)}


def _missing(roles: Roles, rate: Chosen | None) -> Iterator[tuple[str, str]]:
    """Yield the keys that the bag says nothing about, with the reason."""
    if rate is None:
        used = [*roles.observations, *roles.actions]
        why = "no topic that is used has more than one message" if used else "no topic is used"
        yield "rate_hz", f"{why}, so there is no rate"
    if not roles.observations and not roles.latched:
        yield "observation", f"no topic with the robot's state was found{_instead(roles)}"
    elif not roles.observations:
        yield "observation", "all that was found was sent only once; one must not be latched"
    if not roles.actions:
        like = [topic for topic, _ in roles.unused if is_like_command(topic)]
        yield "action", f"no topic was found that commands the robot{_instead(roles, like)}"


def _instead(roles: Roles, among: Sequence[TopicProfile] | None = None) -> str:
    """Name the topics that came nearest, with the reason why they are not used."""
    topics = [topic for topic, _ in roles.unused] if among is None else among
    numbers = [topic for topic in topics if topic.count and not topic.msgtype.startswith(NO_STATE)]
    nearest = sorted(numbers, key=lambda topic: -topic.count)[:2]
    reasons = [f"{t.title}: {why}" for t in nearest for other, why in roles.unused if other is t]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _heading(names: Sequence[str], missing: Mapping[str, str]) -> Iterator[str]:
    source = f"the recording {names[0]}"
    if len(names) > 1:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        source = f"{len(names)} recordings: {', '.join(names[:MOST_NAMED])}{more}"
    yield from comment(
        f"A first contract, drafted by 'dql contract init' from {source}. Each remark says what "
        f"a choice is based on; a person who knows the robot has to check them all. Fields behind "
        f"a '#' are not used. 'dql contract check' says whether the file fits a recording; "
        f"docs/reference/contract.md explains every key."
    )
    if missing:
        yield from comment(f"NOT COMPLETE: look for FILL IN ({', '.join(missing)}).")


def _fill_in(missing: Mapping[str, str], key: str, *example: str) -> Iterator[str]:
    if key in missing:
        yield from comment(f"FILL IN {key}: {missing[key]}{'. For example:' if example else ''}")
        yield from (f"# {line}" for line in example)


def _head(name: str, rate: Chosen | None, missing: Mapping[str, str]) -> Iterator[str]:
    robot = re.sub(r"\W+", "_", name).strip("_") or "robot"
    yield from entry(f"robot: {flow(robot)}", "a recording's name; put the robot's here")
    yield from _fill_in(missing, "rate_hz", "rate_hz: 10.0")
    if rate is not None:
        yield from entry(f"rate_hz: {flow(rate.value)}", rate.reason)


def _streams(
    key: str,
    streams: Sequence[StreamDraft],
    missing: Mapping[str, str],
    example: Sequence[str],
    remark: str = "",
) -> Iterator[str]:
    """Yield the section ``key``, or the example of one."""
    yield ""
    yield from _fill_in(missing, key, *(() if streams else example))
    if streams:
        yield from comment(remark)
        yield f"{key}:"
        for stream in streams:
            yield from stream_text(stream)


def _pose(pose: SeenPose | None, rate_hz: float) -> Iterator[str]:
    """Yield the stream of a pose, in comments: joints may already say the same."""
    if pose is None:
        return
    frames = pose.stream.tf
    yield from comment(
        f"Where '{frames.child}' is in '{frames.parent}' by tf, in which {pose.moving} of "
        f"{counted(pose.chain, 'transform')} moved. To observe it, take away the '#' of:",
        2,
    )
    yield f"  # - tf: {flow(frames.model_dump())}"
    age = pose_age(pose, rate_hz)
    if distrust := distrust_of_pose(pose, rate_hz):
        yield f"  #   stamp: receive  # {distrust}"
    yield f"  #   max_age_s: {flow(age.value)}  # {age.reason}"
    yield "  #   fields:"
    for selection in pose.stream.fields:
        keys = selection.model_dump(exclude_defaults=True)
        if selection.rotation is not None:
            del keys["path"]  # there is no other
        yield f"  #     - {flow(keys)}"


def _reward(roles: Roles, observation: Sequence[StreamDraft]) -> Iterator[str]:
    yield ""
    if topic := roles.signals.get("reward"):
        yield from entry(
            f"reward: {{topic: {flow(topic.name)}, type: {topic.msgtype}}}",
            "a reward belongs to the tick that it ends",
        )
        return
    yield from comment(
        "No topic carries a reward: what is recorded is only imitated, unless "
        "a function gives one:"
    )
    position, goal = _positions(roles, observation)
    if position:
        yield "# reward:"
        yield "#   function: dql_core.rewards:distance_to_goal"
        yield "#   arguments:"
        yield f"#     position: {flow(position)}"
        yield f"#     goal: {flow(goal)}"
    else:
        yield "# reward: {function: dql_core.rewards:action_cost}"


def _positions(roles: Roles, observation: Sequence[StreamDraft]) -> tuple[list[str], list[str]]:
    """Names of fields that may be the robot's place and its goal: lengths, equally many."""
    goals = [stream for stream in observation if stream.topic in roles.latched]
    places = [stream for stream in observation if stream.topic not in roles.latched]
    for goal in goals:
        aims = [spec.name for spec in goal.specs if spec.unit == "m"]
        for place in places:
            names = [spec.name for spec in place.specs if spec.unit == "m"]
            if aims and len(names) == len(aims):
                return names, aims
    return [], []


def _episode(roles: Roles) -> Iterator[str]:
    yield ""
    named = {name: topic for name, topic in roles.signals.items() if name != "reward"}
    if not named:
        yield from comment(
            "No topic marks episodes: each recording is one, which ends with it, and where a "
            "topic pauses for longer than its max_age_s."
        )
        return
    yield "episode:"
    for name, topic in named.items():
        is_event = name in {"start", "stop", "during"} and PLAIN.fullmatch(topic.msgtype)
        section = {"topic": topic.name, "type": topic.msgtype} | (
            {"path": "data"} if is_event else {}
        )
        remark = "" if topic.count else "has no message in what was recorded"
        yield from entry(f"  {name}: {flow(section)}", remark)


def _rules(
    roles: Roles, streams: Sequence[StreamDraft], action: Sequence[StreamDraft]
) -> Iterator[str]:
    count = sum(nonfinite_count(stream.topic, list(stream.fields)) for stream in streams)
    if count:
        yield ""
        verb = "is" if count == 1 else "are"
        remark = f"{counted(count, 'needed number')} {verb} NaN or infinite"
        yield from entry("nonfinite: split", remark)
    if roles.clock:
        yield ""
        yield from entry("clock: split", roles.clock)
    if not action:
        return
    yield ""
    yield from comment(
        "CHECK before a robot runs: what it is sent while there is no action. Zeros stop a "
        "robot that is commanded by velocity; one that is commanded by position would go to its "
        "zero."
    )
    yield from [f"on_fault: {{command: {flow(list(_safe_command(action)))}}}"]


def _safe_command(action: Sequence[StreamDraft]) -> Iterator[float]:
    """Zeros, or what is nearest to them; for a rotation, none."""
    for stream in action:
        for spec in stream.specs:
            is_unturned = spec.name.endswith(("x_axis.x", "y_axis.y"))
            yield 1.0 if is_unturned else min(max(0.0, spec.low), spec.high)


def _unused(roles: Roles) -> Iterator[str]:
    if not roles.unused:
        return
    yield ""
    yield "# Not used:"
    for topic, reason in sorted(roles.unused, key=lambda pair: pair[0].title):
        msgtype = topic.msgtype.replace("/msg/", "/")
        yield from comment(
            f"{topic.title} ({msgtype}, {counted(topic.count, 'message')}): {reason}"
        )
