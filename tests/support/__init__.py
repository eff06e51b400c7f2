"""What tests share: drivers, oracles, faults, and what they require of the machine."""
