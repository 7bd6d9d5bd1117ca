"""Printed tables, made comparable."""


def words(text: str) -> str:
    """Return the text without the lines between columns, its words one space apart."""
    return " ".join(text.replace("│", " ").split())
