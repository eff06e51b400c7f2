"""A build as a package for other people's tools: FuseSoC, IP-XACT readers, Vivado."""

from pathlib import Path

__all__ = ["WAIVERS"]

WAIVERS = Path(__file__).with_name("waivers.vlt")
"""What Verilator's ``-Wall`` says of generated Verilog that is no fault, each with its reason."""
