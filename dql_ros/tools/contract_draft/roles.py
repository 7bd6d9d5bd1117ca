"""What each topic of a bag probably is: a command, something observed, a goal, a signal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from dql_ros.tools.contract_draft.topic_profile import TopicProfile

# Words of a topic's last part that mean a command, and those that mean the opposite.
COMMANDING = re.compile(
    r"actions?|cmd|commands?|controll?s?|ctrl|desired|jog|reference|setpoints?|targets?|teleop|"
    r"trajectory"
)
MEASURED = re.compile(
    r"actual|current|echo|estimated?|feedback|measured|odom|odometry|states?|status"
)
AIMED = re.compile(r"aim|destination|goals?|target|task|waypoint")
COMMAND_TYPE = re.compile(
    r"/(Twist|\w*(Cmd|Commands?|Setpoint|JointTrajectory|JointJog|AckermannDrive(Stamped)?))$"
)
VELOCITY_COMMANDS = ("geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped")
# Topics about the task, by the last part of their names.
SIGNALS = {
    "reward": re.compile(r"(step_)?rewards?"),
    "terminated": re.compile(r"(is_)?(terminated|terminal|done|success|succeeded|crashed)"),
    "truncated": re.compile(r"(is_)?(truncated|timeout|time_limit)"),
    "during": re.compile(r"(is_)?(recording|episode_active|in_episode)"),
    "start": re.compile(r"(start_(episode|recording)|episode_start)"),
    "stop": re.compile(r"(stop_(episode|recording)|episode_(stop|end))"),
}
PLAIN = re.compile(r"std_msgs/msg/(Bool|U?Int(8|16|32|64)|Float(32|64))")
# Types that are no robot's state, with the reason.
OTHER_TYPES = (
    (re.compile(r"rcl_interfaces/|rosgraph_msgs/|statistics_msgs/|lifecycle_msgs/|bond/"), "ROS"),
    (re.compile(r"diagnostic_msgs/"), "diagnostics"),
    (re.compile(r"tf2_msgs/"), "a tree of frames; record the poses that you need as topics"),
    (re.compile(r"sensor_msgs/msg/(Compressed)?Image$|sensor_msgs/msg/CameraInfo$"), "a camera"),
    (re.compile(r"sensor_msgs/msg/Joy(Feedback)?(Array)?$"), "a person's input device"),
    (re.compile(r"visualization_msgs/|shape_msgs/"), "a drawing"),
    (re.compile(r"sensor_msgs/msg/(PointCloud2?|(MultiEcho)?LaserScan)$"), "a scan"),
    (re.compile(r"nav_msgs/msg/(OccupancyGrid|GridCells|Path)$|/Costmap\w*$|map_msgs/"), "a map"),
    (re.compile(r"/srv/\w+_Event$"), "a service's events; 'episode' can use them"),
)
# What is sent at most so often is sent once: at the start, or once an episode.
FEW = 3


@dataclass
class Roles:
    """The topics by what they are taken for.

    Attributes:
        actions: Commands.
        observations: What the policy can see.
        latched: What was sent once and holds.
        signals: By what they are, as `SIGNALS` names it.
        unused: Those that the draft makes nothing of, with the reason.
    """

    actions: list[TopicProfile] = field(default_factory=list)
    observations: list[TopicProfile] = field(default_factory=list)
    latched: list[TopicProfile] = field(default_factory=list)
    signals: dict[str, TopicProfile] = field(default_factory=dict)
    unused: list[tuple[TopicProfile, str]] = field(default_factory=list)


def assign(topics: Sequence[TopicProfile]) -> Roles:
    """Say what each topic probably is."""
    roles = Roles()
    for topic in topics:
        signal = _signal(topic)
        if signal is not None and signal not in roles.signals:
            roles.signals[signal] = topic
        elif reason := _uselessness(topic):
            roles.unused.append((topic, reason))
        elif _is_once(topic) and not COMMAND_TYPE.search(topic.msgtype):
            roles.latched.append(topic)
        elif _is_command(topic):
            roles.actions.append(topic)
        else:
            roles.observations.append(topic)
    _choose_velocity(roles)
    _leave_one_way_of_marking(roles)
    return roles


def _signal(topic: TopicProfile) -> str | None:
    for name, pattern in SIGNALS.items():
        if not pattern.fullmatch(topic.last_segment.lower()):
            continue
        may_be_empty = name in {"start", "stop"} and topic.msgtype == "std_msgs/msg/Empty"
        needs_message = name in {"reward", "during", "start"}
        fits = PLAIN.fullmatch(topic.msgtype) is not None or may_be_empty
        if fits and (topic.count or not needs_message):
            return name
    return None


def _uselessness(topic: TopicProfile) -> str:
    """Why nothing can be made of a topic; empty if something can."""
    for pattern, reason in OTHER_TYPES:
        if pattern.search(topic.msgtype):
            return reason
    numbers = topic.numbers
    if numbers is None:
        return "its type is not known, or not one alone"
    reasons = {
        "its name is not absolute": not topic.name.startswith("/"),
        "no message": topic.count == 0,
        numbers.refusal: bool(numbers.refusal),
        "no number that all its messages have": not topic.useful,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _is_once(topic: TopicProfile) -> bool:
    if topic.count <= FEW:
        return True
    # One goal an episode: seconds apart, each as long as an episode is.
    pause_ms = topic.timing["median_pause_ms"] or 0.0
    return _has_word(topic, AIMED) and pause_ms > 1000.0


def _is_command(topic: TopicProfile) -> bool:
    if _has_word(topic, MEASURED):
        return False
    return _has_word(topic, COMMANDING) or COMMAND_TYPE.search(topic.msgtype) is not None


def _has_word(topic: TopicProfile, words: re.Pattern[str]) -> bool:
    """Whether a word of the last part of a topic's name is one of ``words``."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", topic.last_segment)
    return any(words.fullmatch(word) for word in re.split(r"[^a-z]+", separated.lower()))


def _choose_velocity(roles: Roles) -> None:
    """Keep one of several velocity commands: a chain of filters has one at each of its stages."""
    velocities = [topic for topic in roles.actions if topic.msgtype in VELOCITY_COMMANDS]
    if len(velocities) < 2:
        return
    chosen = max(velocities, key=lambda topic: (topic.last_segment == "cmd_vel", topic.count))
    for topic in velocities:
        if topic is not chosen:
            roles.actions.remove(topic)
            reason = f"another velocity command; {chosen.name} is taken"
            roles.unused.append((topic, reason))


def _leave_one_way_of_marking(roles: Roles) -> None:
    """A contract marks episodes with 'during', or with 'start' and 'stop', not with both."""
    if "during" in roles.signals:
        for name in ("start", "stop"):
            if topic := roles.signals.pop(name, None):
                roles.unused.append((topic, "'during' marks the episodes"))
