"""How hard property tests look: `make proof` lets the costly ones try several times as much."""

import os

TIMES = int(os.environ.get("EXAMPLES_TIMES", "1"))
