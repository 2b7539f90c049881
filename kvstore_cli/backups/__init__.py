"""Commands that make backups, keep them up to date, restore them and prove them."""
