"""The simulated robot without ROS: environments, episodes, commands, faults and films."""
