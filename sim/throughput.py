"""``python -m sim.throughput``: the campaign ``sim.campaigns.throughput``."""

import sys

from gen.cli import piped
from sim.campaigns.throughput import main

if __name__ == "__main__":
    sys.exit(piped(main))
