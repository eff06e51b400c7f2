"""``python -m sim.matrix``: the campaign ``sim.campaigns.matrix``."""

import sys

from gen.cli import piped
from sim.campaigns.matrix import main

if __name__ == "__main__":
    sys.exit(piped(main))
