"""``python -m sim.accuracy``: the campaign ``sim.campaigns.accuracy``."""

import sys

from gen.cli import piped
from sim.campaigns.accuracy.command import main

if __name__ == "__main__":
    sys.exit(piped(main))
