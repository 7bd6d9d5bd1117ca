"""Colours of curves: told apart also by those who see few colours (Okabe and Ito)."""

COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#999999")
