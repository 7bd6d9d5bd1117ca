"""Flat files of other libraries, one reader each, on their way to a Minari dataset."""
