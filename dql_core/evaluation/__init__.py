"""How good a policy is: rollouts in an environment, and how sure one can be of the result."""
