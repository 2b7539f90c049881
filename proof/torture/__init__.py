"""`kvstore torture`: a real cluster under load and faults, and a verdict on what it did."""
