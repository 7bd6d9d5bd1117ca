"""How long a robot takes: from a command to what answers it, and from a stamp to its receipt."""
