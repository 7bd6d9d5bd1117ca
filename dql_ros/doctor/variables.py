"""Do the environment variables lead ROS 2 where the user wants it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from dql_core.errors import ConfigError
from dql_ros.doctor.finding import Finding, failure, fine, warning
from dql_ros.domain import SAFE_DOMAINS
from dql_ros.sros2 import (
    ENABLE,
    KEYSTORE,
    STRATEGY,
    doubt_about_settings,
    require_sound_settings,
)

# docs.ros.org, "Improved Dynamic Discovery".
RANGES = ("SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT")
_PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def check_variables(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Look at those that keep nodes from finding each other if they are wrong."""
    yield _check_domain(environment.get("ROS_DOMAIN_ID", ""))
    yield _check_range(environment)
    yield from _check_profiles(environment)
    yield _check_security(environment)
    if environment.get("ROS_DISCOVERY_SERVER"):
        yield warning(
            "ROS_DISCOVERY_SERVER",
            f"is '{environment['ROS_DISCOVERY_SERVER']}': nodes meet only while it runs",
            "unset it, unless you run that server",
        )


def _check_domain(value: str) -> Finding:
    check = "ROS_DOMAIN_ID"
    if not value:
        return fine(check, "not set, so 0; give each robot in one network its own")
    if not (value.isdecimal() and int(value) <= 232):
        return failure(check, f"is '{value}', no number from 0 to 232", "export ROS_DOMAIN_ID=0")
    if int(value) not in {0, *SAFE_DOMAINS}:
        return warning(
            check,
            f"is {value}, whose ports Linux also gives to other programs",
            "choose one from 0 to 101 or from 215 to 232",
        )
    return fine(check, value)


def _check_range(environment: Mapping[str, str]) -> Finding:
    check, value = "discovery range", environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    old = environment.get("ROS_LOCALHOST_ONLY", "")
    if old:
        return warning(
            check,
            f"ROS_LOCALHOST_ONLY={old} is deprecated and overrides ROS_AUTOMATIC_DISCOVERY_RANGE",
            "unset ROS_LOCALHOST_ONLY; export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST or SUBNET",
        )
    if not value:
        return fine(check, "not set, so SUBNET: nodes on other machines are found too")
    if value not in RANGES:
        return failure(
            check,
            f"ROS_AUTOMATIC_DISCOVERY_RANGE is '{value}', none of {', '.join(RANGES)}",
            "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST or SUBNET",
        )
    if value == "OFF":
        return warning(
            check,
            "OFF: no node finds any other",
            "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST or SUBNET",
        )
    return fine(check, value)


def _check_security(environment: Mapping[str, str]) -> Finding:
    check = "security"
    try:
        require_sound_settings(environment)
    except ConfigError as error:
        found, _, remedy = str(error).partition(": ")
        return failure(check, found, remedy)
    if doubt := doubt_about_settings(environment):
        return warning(check, doubt, f"export {ENABLE}=true {STRATEGY}=Enforce")
    if environment.get(ENABLE, "") == "true":
        return fine(check, f"SROS 2 is enforced with {environment.get(KEYSTORE, '')}")
    return fine(check, "SROS 2 is off: whoever is in this network may command the robot")


def _check_profiles(environment: Mapping[str, str]) -> Iterator[Finding]:
    for variable in _PROFILES:
        value = environment.get(variable, "")
        if value and not Path(value).is_file():
            yield failure(variable, f"names '{value}', which does not exist", f"unset {variable}")
        elif value:
            yield fine(variable, value)
