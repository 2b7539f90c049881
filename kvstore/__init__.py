"""A replicated key-value store."""

__version__ = "0.2.0"
