"""Amaranth components of Ottava, one folder a floor, in the order in which data flows."""
