"""The ROS 2 nodes; the only place that imports rclpy. Their decisions live in ROS-free classes.

What the launch files of this package share.
"""
