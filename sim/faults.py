"""``python -m sim.faults``: the campaign ``sim.campaigns.faults``."""

import sys

from gen.cli import piped
from sim.campaigns.faults.command import main

if __name__ == "__main__":
    sys.exit(piped(main))
