"""Who calls: from tokens and passwords to a session, and what is written down of it."""
