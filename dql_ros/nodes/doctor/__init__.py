"""What `dql doctor` runs in processes of its own, since it imports rclpy."""
