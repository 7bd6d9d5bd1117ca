"""The control loop without ROS: what is known at a tick, how a policy is run, and its health."""
