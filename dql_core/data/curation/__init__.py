"""New datasets out of finished ones: whole episodes chosen, joined, cut and split."""
