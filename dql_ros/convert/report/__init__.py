"""The report of a conversion: its figures, as a document and as a page."""
