"""Plain data shared by hardware, reference models and tools; no hardware is described here."""
