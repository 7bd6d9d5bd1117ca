"""Bags to datasets: streams decoded and aligned, episodes cut out, written with a report."""
