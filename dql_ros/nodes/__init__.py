"""The ROS 2 nodes; the only place that imports rclpy. Their decisions live in ROS-free classes."""
