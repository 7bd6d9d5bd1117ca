"""The demonstration: everything from recording to a driving robot, in one command."""
