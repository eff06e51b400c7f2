"""Batched simulation: Verilated designs under ctypes, driven from C++ and numpy."""
