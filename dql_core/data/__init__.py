"""Episodes in and out of Minari, the transition table, and the batches drawn from it."""
