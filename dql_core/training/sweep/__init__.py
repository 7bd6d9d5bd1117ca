"""Sweeps: the search for a better configuration, by trials that are ordinary runs."""
