"""Bounds on what one user, request or answer takes of a node."""
