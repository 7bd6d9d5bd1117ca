"""Verbs of the `dql` command that need no ROS, one a file."""
