"""The files that bags are kept in: MCAP, sqlite and ROS 1, whole or compressed, sound or damaged.

Each kind of file becomes a `StorageFile`: its channels, its counts, and segments that are read one
at a time into blocks of serialised messages. What is wrong with a file is a `DamageError`; the
caller decides whether that ends the reading or is a loss to report.
"""
