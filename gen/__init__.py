"""What turns components into files: Verilog, register map, headers, constraints."""

__version__ = "0.1.0"
