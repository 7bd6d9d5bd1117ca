"""Bags: reading, writing, and turning them into datasets, without a ROS installation."""
