"""What is wrong now, from what the nodes say, and the recordings of what happened."""
