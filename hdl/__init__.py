"""Amaranth components of Ottava, one folder per layer, in the order of the data flow."""
