"""Comparing many results at once, and proving that the comparison can fail."""

import re
from collections.abc import Mapping

import numpy as np

__all__ = ["count_mismatches", "check", "with_fault"]


def count_mismatches(got: np.ndarray, expected: np.ndarray) -> int:
    """How many elements differ; ``ValueError`` where the shapes do, or nothing is compared."""
    if got.shape != expected.shape or got.size == 0:
        raise ValueError(f"results must be as many as expected and at least one, "
                         f"not {got.shape} against {expected.shape}")
    return int(np.count_nonzero(got != expected))


def check(label: str, got: np.ndarray, expected: np.ndarray,
          inputs: Mapping[str, np.ndarray] | None = None) -> int:
    """Print ``label: N cases`` and give N; ``AssertionError`` shows the first mismatch."""
    wrong = count_mismatches(got, expected)
    print(f"{label}: {got.size} cases, {wrong} mismatches")
    if wrong:
        at = np.argmax(got != expected)
        case = ", ".join(f"{name}={_show(values, at)}" for name, values in (inputs or {}).items())
        raise AssertionError(f"{label}: {wrong} of {got.size} cases differ; case {at}: "
                             f"got {got.flat[at]:#x}, expected {expected.flat[at]:#x}; {case}")
    return got.size


def _show(values: np.ndarray | int, at: int) -> str:
    value = values.flat[at] if np.ndim(values) else values
    return f"{int(value):#x}"


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
