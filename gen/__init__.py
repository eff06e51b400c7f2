"""What makes files of components: Verilog, register map, headers, constraints."""

__version__ = "0.1.0"
