"""The algorithms, how their updates run, and how what they learned chooses actions in torch."""
