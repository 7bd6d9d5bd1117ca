"""What each topic of a bag probably is: a command, something observed, a goal, a signal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dql_ros.tools.contract_draft.choices import SLOWEST_HZ
from dql_ros.tools.contract_draft.field_kinds import reports_command
from dql_ros.tools.contract_draft.field_lines import (
    FieldLine,
    commanded_lines,
    long_arrays,
    observed_lines,
)
from dql_ros.tools.contract_draft.frames_seen import SeenPose
from dql_ros.tools.contract_draft.topic_profile import COMMAND_TYPE, TopicProfile
from dql_ros.tools.survey import FEW
from dql_ros.tools.topic_numbers import MAX_ARRAY, field_names

# Words of a topic's last part that mean a command, and those that mean the opposite.
COMMANDING = re.compile(
    r"actions?|cmds?|commands?|controll?s?|ctrl|desired|equilibrium|jog|ref|references?|"
    r"setpoints?|targets?|teleop|trajectory"
)
MEASURED = re.compile(
    r"actual|current|echo|estimated?|feedback|measured|odom|odometry|states?|status"
)
# Words anywhere in a name that mean a command: a topic of an operator's arm, or of set-points.
OPERATED = re.compile(r"cmds?|commands?|leader|master|setpoints?|teleop")
# What is wished for, as the robot itself reports it, where a word of `MEASURED` stands beside.
WISHED = re.compile(r"commanded|desired|ref|references?|setpoints?|targets?")
# Robots that speak by a bridge publish what they obey, too; `/fmu/out` is PX4's.
PUBLISHED_BY_ROBOT = re.compile(r"/fmu/out/|/mavros/setpoint_raw/target_")
AIMED = re.compile(r"aim|destination|goals?|target|task|waypoint")
# Words of velocity commands that are not a base's.
OF_AN_ARM = re.compile(r"arm|delta|eef|gripper|servo|tcp|tool")
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
FRAMES = re.compile(r"tf2_msgs/msg/TFMessage")
OTHER_TYPES = (
    (re.compile(r"rcl_interfaces/|rosgraph_msgs/|statistics_msgs/|lifecycle_msgs/|bond/"), "ROS"),
    (re.compile(r"diagnostic_msgs/"), "diagnostics"),
    (
        FRAMES,
        "a tree of frames, which others report as poses or joints; 'tf' reads poses out of it",
    ),
    (re.compile(r"sensor_msgs/msg/(Compressed)?Image$|sensor_msgs/msg/CameraInfo$"), "a camera"),
    (re.compile(r"/Battery(State|Status)$"), "a battery"),
    (re.compile(r"sensor_msgs/msg/Joy(Feedback)?(Array)?$"), "a person's input device"),
    (re.compile(r"visualization_msgs/|shape_msgs/"), "a drawing"),
    (re.compile(r"sensor_msgs/msg/(PointCloud2?|(MultiEcho)?LaserScan)$"), "a scan"),
    (re.compile(r"nav_msgs/msg/(OccupancyGrid|GridCells|Path)$|/Costmap\w*$|map_msgs/"), "a map"),
    (re.compile(r"/srv/\w+_Event$"), "a service's events; 'episode' can use them"),
    (re.compile(r"/(action|srv)/"), "an action's or a service's own type; a contract takes none"),
    (
        re.compile(r"/Time(Reference|sync\w*)$|builtin_interfaces/|/\w*Clock\w*$"),
        "about clocks, not about the robot",
    ),
    (
        re.compile(r"/(VehicleCommand(Ack)?|Command(Long|Int|Ack))$|action_msgs/"),
        "orders to a state machine",
    ),
)
# Words of a topic's last part that mean time, where it carries one number.
ABOUT_TIME = re.compile(r"clocks?|delay|latency|ntp|ptp|rtt|time|timestamp|timesync|uptime")


@dataclass
class Roles:
    """The topics by what they are taken for.

    Attributes:
        actions: Commands.
        echoes: Set-points as a robot or its controller reports them; nobody obeys these topics.
        observations: What the policy can see.
        latched: What was sent once and holds.
        signals: By what they are, as `SIGNALS` names it.
        unused: Those that the draft makes nothing of, with the reason.
        by_receipt: Topics whose header stamps are not to be used, with the reason.
        clock: Why episodes are to be split where times cannot be right; empty if they need not.
        pose: What tf's tree has of use.
    """

    actions: list[TopicProfile] = field(default_factory=list)
    echoes: list[TopicProfile] = field(default_factory=list)
    observations: list[TopicProfile] = field(default_factory=list)
    latched: list[TopicProfile] = field(default_factory=list)
    signals: dict[str, TopicProfile] = field(default_factory=dict)
    unused: list[tuple[TopicProfile, str]] = field(default_factory=list)
    by_receipt: dict[str, str] = field(default_factory=dict)
    clock: str = ""
    pose: SeenPose | None = None

    def without(self, topic: TopicProfile, reason: str) -> Roles:
        """The same roles, but for one topic that is not used."""

        def rest(group: list[TopicProfile]) -> list[TopicProfile]:
            return [each for each in group if each is not topic]

        return replace(
            self,
            actions=rest(self.actions),
            echoes=rest(self.echoes),
            observations=rest(self.observations),
            latched=rest(self.latched),
            unused=[*self.unused, (topic, reason)],
        )


def assign(topics: Sequence[TopicProfile]) -> Roles:
    """Say what each topic probably is."""
    roles = Roles()
    for topic in topics:
        signal = _signal(topic)
        if signal is not None and signal not in roles.signals:
            roles.signals[signal] = topic
        elif reason := _uselessness(topic):
            roles.unused.append((topic, reason))
        elif _is_echo(topic):
            roles.echoes.append(topic)
        elif _is_once(topic) and not COMMAND_TYPE.search(topic.msgtype):
            roles.latched.append(topic)
        elif _is_command(topic):
            roles.actions.append(topic)
        else:
            roles.observations.append(topic)
    reports = _reports(roles.observations)
    _sort_by_fields(roles)
    _leave_parts_of_commands(roles)
    _choose_velocity(roles)
    _leave_single_orders(roles)
    _leave_copies_of_states(roles)
    _leave_copies_of_commands(roles)
    _use_frames_without_state(roles)
    _observe_what_is_no_command_by_name(roles)
    _leave_one_way_of_marking(roles)
    _use_echo_without_command(roles, reports)
    return roles


def _sort_by_fields(roles: Roles) -> None:
    """Leave out the topics of which no field can be observed, or commanded."""
    for group, lines in (
        (roles.actions, commanded_lines),
        (roles.echoes, commanded_lines),
        (roles.observations, lambda topic: observed_lines(topic, latched=False)),
        (roles.latched, lambda topic: observed_lines(topic, latched=True)),
    ):
        for topic in list(group):
            proposed = lines(topic)
            if not any(line.used and line.selection().width for line in proposed):
                group.remove(topic)
                roles.unused.append((topic, _reasons(proposed)))
    for topic in list(roles.latched):
        is_same = all(fact.is_constant for fact in topic.useful.values())
        if is_same and topic.recordings > 1 and not is_goal(topic):
            roles.latched.remove(topic)
            roles.unused.append((topic, f"sent {_times(topic)}, and always the same"))
    moving = [topic for topic in roles.observations if _moves(topic)]
    for topic in list(roles.observations) if moving else ():
        if topic not in moving:
            roles.observations.remove(topic)
            roles.unused.append((topic, "nothing of it ever changed"))


def _times(topic: TopicProfile) -> str:
    return "once" if topic.count == 1 else f"{topic.count} times"


def _reasons(lines: Sequence[FieldLine]) -> str:
    """Why nothing of a topic is used: what is said of its first fields."""
    if lines and all("constant" in line.entry for line in lines):
        return "nothing of it ever changed"
    reasons = dict.fromkeys(line.comment.partition(";")[0] for line in lines if line.comment)
    return "; ".join(list(reasons)[:2]) or "nothing of it can be used"


def _moves(topic: TopicProfile) -> bool:
    facts = topic.useful
    used = [line for line in observed_lines(topic, latched=False) if line.used]
    elements = [element for line in used for element in line.selection().read_elements]
    return any(not facts[element].is_constant for element in elements if element in facts)


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
        f"{topic.absent_from} has no message of it": bool(topic.absent_from),
        numbers.refusal: bool(numbers.refusal),
        _only_long(topic): not topic.useful,
        "about time, not about the robot": len(topic.useful) == 1 and _has_word(topic, ABOUT_TIME),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _only_long(topic: TopicProfile) -> str:
    """Why no number of a topic is useful."""
    long = long_arrays(topic)
    if not long:
        return "its messages have no numbers in common"
    path, count = next(iter(long.items()))
    return f"'{path}' has {count} elements; init proposes arrays of up to {MAX_ARRAY}"


def _is_once(topic: TopicProfile) -> bool:
    if topic.count <= FEW:
        return True
    # One goal an episode: seconds apart, each as long as an episode is.
    pause_ms = topic.timing["median_pause_ms"] or 0.0
    return _has_word(topic, AIMED) and pause_ms > 1000.0


def is_goal(topic: TopicProfile) -> bool:
    """Whether a topic that was sent once says what the robot is to do."""
    return _has_word(topic, AIMED) or _is_command(topic)


def is_like_command(topic: TopicProfile) -> bool:
    """Whether a topic would be a command if something could be made of its messages."""
    return _is_command(topic) and not PUBLISHED_BY_ROBOT.search(topic.name)


def _is_command(topic: TopicProfile) -> bool:
    if _has_word(topic, WISHED):
        return True
    if _operated(topic):
        return True
    if _has_word(topic, MEASURED):
        return False
    return _has_word(topic, COMMANDING) or COMMAND_TYPE.search(topic.msgtype) is not None


def _operated(topic: TopicProfile) -> bool:
    """Whether the parts of a name before the last mean a command."""
    owners = topic.name.rpartition("/")[0].lower()
    words = set(re.split(r"[^a-z]+", owners))
    if words & {"leader", "master"}:
        return True
    return any(map(OPERATED.fullmatch, words)) and not _has_word(topic, MEASURED)


def _is_echo(topic: TopicProfile) -> bool:
    """Whether a robot or its controller reports with it what it was told."""
    if _has_word(topic, WISHED) and _has_word(topic, MEASURED):
        return True
    is_command = _is_command(topic) or COMMAND_TYPE.search(topic.msgtype) is not None
    return is_command and PUBLISHED_BY_ROBOT.search(topic.name) is not None


def _has_word(topic: TopicProfile, words: re.Pattern[str]) -> bool:
    """Whether a word of the last part of a topic's name is one of ``words``."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", topic.last_segment)
    return any(words.fullmatch(word) for word in re.split(r"[^a-z]+", separated.lower()))


def _choose_velocity(roles: Roles) -> None:
    """Keep one of several velocity commands: a chain of filters has one at each of its stages."""
    velocities = [
        topic
        for topic in roles.actions
        if topic.msgtype in VELOCITY_COMMANDS and not _has_word(topic, OF_AN_ARM)
    ]
    if len(velocities) < 2:
        return
    chosen = max(velocities, key=lambda topic: (topic.last_segment == "cmd_vel", topic.count))
    for topic in velocities:
        if topic is not chosen:
            roles.actions.remove(topic)
            reason = f"another velocity command; {chosen.name} is taken"
            roles.unused.append((topic, reason))


def _leave_parts_of_commands(roles: Roles) -> None:
    """Keep one of the streams of a topic that commands: a command is one message."""
    by_size = sorted(roles.actions, key=lambda topic: -topic.count * len(topic.useful))
    for index, topic in enumerate(by_size):
        if any(other.name == topic.name for other in by_size[:index]):
            roles.actions.remove(topic)
            reason = "in other messages than the command that is taken; a command is one message"
            roles.unused.append((topic, reason))


def _leave_single_orders(roles: Roles) -> None:
    """Leave out what was sent a few times beside commands that came all the time."""
    frequent = [topic for topic in roles.actions if topic.count > FEW]
    for topic in list(roles.actions) if frequent else ():
        if topic not in frequent:
            roles.actions.remove(topic)
            reason = f"sent {_times(topic)}, beside {frequent[0].name}, which came all the time"
            roles.unused.append((topic, reason))


def _leave_copies_of_commands(roles: Roles) -> None:
    """Keep the most frequent of several commands to the same joints, if these are of one robot."""
    by_count = sorted(roles.actions, key=lambda topic: -topic.count)
    states = [_joints(observed_lines(each, latched=False)) for each in roles.observations]
    for index, topic in enumerate(by_count):
        joints = _joints(commanded_lines(topic))
        names = {name for _, name in joints}
        robots = sum(names <= {name for _, name in state} for state in states)
        others = by_count[:index] if joints and robots < 2 else []
        copied = next((o for o in others if joints <= _joints(commanded_lines(o))), None)
        if copied is not None:
            roles.actions.remove(topic)
            roles.unused.append((topic, f"another command to the joints of {copied.name}"))


def _leave_copies_of_states(roles: Roles) -> None:
    """Keep one of several topics that report the same quantity of the same joints."""

    def value(topic: TopicProfile) -> tuple[bool, int, int]:
        numbers = len(_joints(observed_lines(topic, latched=False)))
        return topic.last_segment == "joint_states", numbers, -topic.name.count("/")

    kept: list[TopicProfile] = []
    for topic in sorted(roles.observations, key=value, reverse=True):
        names = _joints(observed_lines(topic, latched=False))
        copied = next((each for each in kept if names and _is_copy(topic, each, names)), None)
        if copied is None:
            kept.append(topic)
        else:
            roles.unused.append((topic, f"the same joints as {copied.name}"))
    roles.observations[:] = [topic for topic in roles.observations if topic in kept]


def _use_frames_without_state(roles: Roles) -> None:
    """Observe the frames that move, by their names, where nothing else shows the robot's state."""
    for topic, reason in list(roles.unused) if not roles.observations else ():
        is_frames = FRAMES.fullmatch(topic.msgtype) is not None and topic.count > FEW
        if is_frames and topic.useful and not topic.absent_from and _moves(topic):
            roles.observations.append(topic)
            roles.unused.remove((topic, reason))


def _observe_what_is_no_command_by_name(roles: Roles) -> None:
    """Where nothing shows a state, observe what only its type says is a command."""
    named = [each for each in roles.actions if _has_word(each, COMMANDING) or _operated(each)]
    for topic in list(roles.actions) if named and not roles.observations else ():
        if topic not in named:
            roles.actions.remove(topic)
            roles.observations.append(topic)


def _is_copy(topic: TopicProfile, other: TopicProfile, names: set[tuple[str, str]]) -> bool:
    """Whether another topic has all of its joints, and is not the same of another robot."""
    if not names <= _joints(observed_lines(other, latched=False)):
        return False
    differ = topic.last_segment != other.last_segment
    return differ or min(topic.name.count("/"), other.name.count("/")) == 1


def _joints(lines: Sequence[FieldLine]) -> set[tuple[str, str]]:
    """Quantity and name of each joint that fields have: position and positions are one."""
    return {
        (field_names(line.entry["path"])[-1].rstrip("s"), name)
        for line in lines
        if line.used
        for name in line.entry.get("joints", ())
    }


def _use_echo_without_command(roles: Roles, reports: Sequence[TopicProfile]) -> None:
    """Learn from set-points that a robot reports, where no topic commands, or only now and then.

    Args:
        roles: The roles, mended in place.
        reports: Topics in which a controller reports what it was told beside what it measured.
    """
    often = [topic for topic in roles.echoes or reports if not is_rare(topic)]
    chosen = max(often, key=lambda topic: topic.count, default=None)
    if chosen is not None and all(map(is_rare, roles.actions)):
        for topic in roles.actions:
            reason = f"sent {_times(topic)}; {chosen.name} reports what came of it all the time"
            roles.unused.append((topic, reason))
        roles.actions[:] = [chosen]
        roles.unused[:] = [pair for pair in roles.unused if pair[0] is not chosen]
    else:
        chosen = None
    for topic in roles.echoes:
        if topic is not chosen:
            roles.unused.append((topic, "a set-point as the robot reports it"))
    roles.echoes[:] = [] if chosen is None else [chosen]
    for topic in list(roles.latched) if not roles.actions else ():
        if _is_command(topic):
            roles.latched.remove(topic)
            roles.actions.append(topic)


def is_rare(topic: TopicProfile) -> bool:
    """Whether a topic is no stream, as whole trajectories are not."""
    return topic.count <= FEW or (topic.rate_hz or 0.0) < SLOWEST_HZ


def _reports(topics: Sequence[TopicProfile]) -> list[TopicProfile]:
    """Topics in which a controller reports what it was told beside what it measured."""
    return [
        topic
        for topic in topics
        if topic.numbers is not None
        and not topic.absent_from
        and reports_command([element.path for element in topic.useful])
    ]


def _leave_one_way_of_marking(roles: Roles) -> None:
    """A contract marks episodes with 'during', or with 'start' and 'stop', not with both."""
    if "during" in roles.signals:
        for name in ("start", "stop"):
            if topic := roles.signals.pop(name, None):
                roles.unused.append((topic, "'during' marks the episodes"))
