"""The driver in Python: the standard library alone, so that it is one file in a package."""
