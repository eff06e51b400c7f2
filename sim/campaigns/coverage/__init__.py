"""What the campaigns exercised: of the program format, and of the generated Verilog."""
