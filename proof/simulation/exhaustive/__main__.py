"""Run the exhaustive checker from the command line; see the package's text."""

import sys

from proof.simulation.exhaustive.checks import main

if __name__ == "__main__":
    sys.exit(main())
