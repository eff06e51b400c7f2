"""Injects faults into programs, buses and hosts of the generated accelerator, by the thousand."""
