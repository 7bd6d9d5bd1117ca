"""Diffusion-QL on logged robot data: data sets, training, export and runtime, without ROS."""

__version__ = "0.1.0"
