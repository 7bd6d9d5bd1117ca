"""Which recorded episodes are unlike the rest, and a page of their curves."""
