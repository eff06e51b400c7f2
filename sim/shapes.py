"""``python -m sim.shapes``: the campaign ``sim.campaigns.shapes``."""

import sys

from gen.cli import piped
from sim.campaigns.shapes import main

if __name__ == "__main__":
    sys.exit(piped(main))
