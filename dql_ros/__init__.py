"""ROS 2 side of the project: contract, message codecs, bag conversion and nodes."""

__version__ = "0.1.0"
