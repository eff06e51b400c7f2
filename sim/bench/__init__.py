"""cocotb benches: each block and the top against the numpy models, on Icarus and Verilator.

``python -m sim.bench`` runs them. ``catalog`` lists them, ``runner`` is the only place that calls
cocotb's runner, ``support`` is what the benches (``*_tb.py``) share.
"""
