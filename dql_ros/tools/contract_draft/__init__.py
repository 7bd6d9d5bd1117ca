"""Drafts a contract from a recording."""
