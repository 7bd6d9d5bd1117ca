"""Is this machine fit to run a policy on a robot? One finding a check, each with its remedy."""
