"""Backups: their files, how they are made, verified, restored, and kept up to date.

Usable without a server: a backup is a file that says what it holds, and proves it.
"""
