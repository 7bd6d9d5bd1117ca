"""A cart, its contract, and `dql contract` called in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner, Result

from dql_ros.cli.contract import contract

SECOND = 1_000_000_000
POINT, COMMAND = "geometry_msgs/msg/PointStamped", "std_msgs/msg/Float64MultiArray"
FITTING = """\
robot: cart
rate_hz: 10.0
observation:
  - topic: /place
    type: geometry_msgs/msg/PointStamped
    fields:
      - {path: point.x, unit: m}
      - {path: point.y, unit: rad}
action:
  - topic: /commands
    type: std_msgs/msg/Float64MultiArray
    fields:
      - {path: data, indices: [0, 1], low: -1.0, high: 1.0}
"""


def record_cart(folder: Path, record: Callable[..., Path], blank: Callable[[str], Any]) -> Path:
    """A cart that is told where to go 10 times a second, for 4 seconds."""
    messages = []
    for tick in range(41):
        now = 50 * SECOND + tick * SECOND // 10
        place = blank(POINT)
        place.header.stamp.sec, place.header.stamp.nanosec = divmod(now - 3_000_000, SECOND)
        place.point.x, place.point.y = tick / 10, np.sin(tick / 5)
        command = blank(COMMAND)
        command.data = np.array([np.cos(tick / 5), tick / 80])
        messages += [("/place", POINT, now, place), ("/commands", COMMAND, now + 7, command)]
    return record(folder, messages)


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(contract, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
