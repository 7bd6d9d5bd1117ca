"""ROS 2 side of the project: contract, message codecs, bag conversion and nodes."""

import dql_core  # noqa: F401 - keeps the libraries silent that are imported after it

__version__ = "0.1.0"
