"""How Fast DDS reaches other programs: by UDP only, since shared memory has locks.

A subscriber that is suspended while it holds one delays all who publish to it, the command of an
emergency stop included; see docs/decisions/0007-discovery-profile.md.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dql_ros.processes import environment_of

# By these a user chooses a profile of Fast DDS 2 (until Jazzy) and 3.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_PROFILES = Path(__file__).with_name("fastdds")
# By these a user chooses how Fast DDS finds and reaches others.
_CHOICES = (
    *PROFILE_VARIABLES,
    "FASTDDS_BUILTIN_TRANSPORTS",
    "ROS_STATIC_PEERS",
    "ROS_DISCOVERY_SERVER",
)
_SHARED_MEMORY = re.compile(r"/dev/shm/fast(rtps|dds)_")


def share_no_memory(rmw: str) -> None:
    """Change this process's environment to be `without_shared_memory`, before ``rclpy.init``."""
    _replace_environment(without_shared_memory(os.environ, rmw))


def without_shared_memory(environment: Mapping[str, str], rmw: str) -> dict[str, str]:
    """Return ``environment``, changed to let Fast DDS share no memory with other programs.

    ``rmw_fastrtps`` adds shared memory where the discovery range is LOCALHOST, whatever a profile
    says, and leaves all to the profile where it is SYSTEM_DEFAULT; our profile for that asks for
    the same range. What the user has chosen is kept: a profile, transports, and peers or a server
    for discovery beyond this machine.

    Args:
        environment: Environment variables.
        rmw: ROS's middleware, as ``rclpy.utilities.get_rmw_implementation_identifier`` names it.

    Source: ``participant.cpp`` of rmw_fastrtps_shared_cpp; docs.ros.org, "Improved Dynamic
    Discovery".
    """
    changed = dict(environment)
    chosen = {name for name in _CHOICES if environment.get(name)}
    is_local_only = environment.get("ROS_LOCALHOST_ONLY") == "1"
    if is_local_only or environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "LOCALHOST":
        changed.pop("ROS_LOCALHOST_ONLY", None)
        changed["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SYSTEM_DEFAULT"
        profiles = ("loopback_2.xml", "loopback_3.xml")
    else:
        chosen -= {"ROS_STATIC_PEERS", "ROS_DISCOVERY_SERVER"}  # they go with the profile
        profiles = ("network.xml", "network.xml")
    if chosen or "fastrtps" not in rmw:
        return dict(environment)
    for variable, profile in zip(PROFILE_VARIABLES, profiles, strict=True):
        changed[variable] = str(_PROFILES / profile)
    return changed


def shared_memory_warning() -> str:
    """Say so if this process, with a node, shares memory with other programs; else empty."""
    try:
        is_shared = _SHARED_MEMORY.search(Path("/proc/self/maps").read_text())
    except OSError:
        return ""
    chosen = [name for name in _CHOICES if os.environ.get(name)]
    if not (is_shared and chosen):
        return ""
    return (
        "Fast DDS shares memory with other programs here; a suspended program can then "
        f"delay commands by a second: unset {', '.join(chosen)}, and this node uses UDP only"
    )


@contextmanager
def inside(domain: int, rmw: str) -> Iterator[None]:
    """Make this process's environment that of ``domain``, as nodes have it, until the block ends.

    ``rclpy`` reads it when a context is initialised and its first node is made, and not again.
    """
    before = os.environ.copy()
    changed = without_shared_memory(environment_of(domain), rmw)
    try:
        _replace_environment(changed)
        yield
    finally:
        _replace_environment(before)


def _replace_environment(wanted: dict[str, str]) -> None:
    for key in set(os.environ) - set(wanted):
        del os.environ[key]
    os.environ.update(wanted)
