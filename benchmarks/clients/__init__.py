"""What sends a load and times the answers, in each system's dialect."""
