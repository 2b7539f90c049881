"""Commands that read and write keys, and wait for them."""
