"""A bundle over a bag, tick by tick: what it would have sent, beside what was recorded."""

TABLE, FIGURES = "replay.csv", "replay.json"
