"""The recorder's parameters, and what they come to."""

from __future__ import annotations

from rclpy.node import Node

from dql_ros.bag.mcap_output import COMPRESSIONS
from dql_ros.bag.recorder import RecorderOptions
from dql_ros.nodes.parameters import CONTRACT, Parameter, path_of, value_of

PARAMETERS = (
    CONTRACT,
    Parameter("out", "", "folder to record into", required=True),
    Parameter(
        "when_exists",
        "refuse",
        "if 'out' exists: refuse, or record into a folder of that name with a number",
        choices=("refuse", "number"),
    ),
    Parameter("topics", ("",), "further topics to record"),
    Parameter("record_at_start", True, "record from the beginning; else once ~/start is called"),
    Parameter(
        "depth", 10_000, "messages of a topic that may wait to be written", low=1, high=1_000_000
    ),
    Parameter(
        "compression", "zstd", "of the chunks in the MCAP files", choices=tuple(COMPRESSIONS)
    ),
    Parameter(
        "max_file_mb", 0.0, "begin another file after so many megabytes; 0 for never", 0.0, 1e9
    ),
    Parameter("max_file_s", 0.0, "begin another file after so many seconds; 0 for never", 0, 1e9),
    Parameter(
        "flush_s",
        1.0,
        "write down what came at least so often; what a kill can lose",
        0.05,
        3600.0,
    ),
    Parameter(
        "min_free_mb", 100.0, "finish the recording when the disk has less room left", 0.0, 1e9
    ),
)


def recorder_options(node: Node, contract_text: str, marker_topic: str) -> RecorderOptions:
    """Return how the parameters ask to record.

    Args:
        node: The node that has declared them.
        contract_text: The robot contract's yaml.
        marker_topic: Topic in the bag that labels appear on.
    """
    return RecorderOptions(
        out=path_of(node, "out"),
        contract_text=contract_text,
        marker_topic=marker_topic,
        numbered=value_of(node, "when_exists") == "number",
        compression=value_of(node, "compression"),
        max_file_bytes=round(value_of(node, "max_file_mb") * 1e6),
        max_file_ns=round(value_of(node, "max_file_s") * 1e9),
        flush_ns=round(value_of(node, "flush_s") * 1e9),
        min_free_bytes=round(value_of(node, "min_free_mb") * 1e6),
    )
