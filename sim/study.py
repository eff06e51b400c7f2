"""``python -m sim.study``: the campaign ``sim.campaigns.study``."""

import sys

from gen.cli import piped
from sim.campaigns.study.command import main

if __name__ == "__main__":
    sys.exit(piped(main))
