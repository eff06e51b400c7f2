"""Faults put into generated Verilog, so that a check proves that it can fail."""

import re

__all__ = ["with_fault"]


def with_fault(verilog: str, module: str, output: str, value: int) -> str:
    """``verilog`` with one more input, ``fault``, in ``module``: while it is 1, bit 0 of port
    ``output`` flips whenever the port carries ``value``.

    One build so serves both the check (``fault`` 0) and its negative control (``fault`` 1).
    """
    body = re.search(rf"^module {module}\((.*?)\);(.*?)^endmodule", verilog, re.M | re.S)
    if body is None:
        raise ValueError(f"verilog must hold a module {module!r}")
    ports = re.findall(r"^  (input|output) (\[\d+:0\] )?(\S+);$", body[2], re.M)
    widths = {name: width for _, width, name in ports}
    if output not in widths:
        raise ValueError(f"output must be one of {', '.join(widths)}, not {output!r}")
    inner = f"{module}_sound"
    listed = ", ".join([f"{kind} {width}{name}" for kind, width, name in ports] + ["input fault"])
    connected = ", ".join(f".{name}({'sound' if name == output else name})"
                          for _, _, name in ports)
    wrapper = (f"module {module}({listed});\n  wire {widths[output]}sound;\n"
               f"  {inner} inner({connected});\n"
               f"  assign {output} = sound ^ (fault && sound == {value});\nendmodule\n")
    return re.sub(rf"^module {module}\(", f"module {inner}(", verilog, flags=re.M) + wrapper
