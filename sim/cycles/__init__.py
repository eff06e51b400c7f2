"""The cycle model: what a program costs, from the configuration and its commands alone."""
