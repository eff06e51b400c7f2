"""The cycle model: what a program costs, from the configuration and its commands alone."""

from sim.cycles.compiled import drop_stale

drop_stale()
