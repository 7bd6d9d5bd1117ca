"""The verbs of the `dql` command that need the robot side; one verb a file."""
