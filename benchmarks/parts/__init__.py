"""The parts of `make bench-full`, one file each."""
