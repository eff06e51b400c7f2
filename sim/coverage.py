"""``python -m sim.coverage``: the campaign ``sim.campaigns.coverage``."""

import sys

from gen.cli import piped
from sim.campaigns.coverage.command import main

if __name__ == "__main__":
    sys.exit(piped(main))
