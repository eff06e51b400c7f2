"""Faults put into generated Verilog, so that a check proves that it can fail."""

from gen.design import Design

__all__ = ["inverted", "with_fault"]


def with_fault(design: Design, output: str, value: int) -> str:
    """The text of ``design`` with one more input, ``fault``, at its top: while it is 1, bit 0 of
    port ``output`` flips whenever the port carries ``value``.

    One build so serves both the check (``fault`` 0) and its negative control (``fault`` 1).
    """
    return _wrapped(design, output, f"sound ^ (fault && sound == {value})", ("input fault",))


def inverted(design: Design, output: str) -> str:
    """The text of ``design`` in which bit 0 of port ``output`` is always wrong."""
    return _wrapped(design, output, "sound ^ 1'b1")


def _wrapped(design: Design, output: str, wrong: str, more: tuple[str, ...] = ()) -> str:
    """The text of ``design`` in a module of its name, whose ``output`` is ``wrong``, an expression
    of what it should be, ``sound``; ``more``: further ports."""
    top = design.modules[design.top]
    ports = {port.name: port for port in top.ports}
    if output not in ports:
        raise ValueError(f"output must be one of {', '.join(ports)}, not {output!r}")
    head, inner = f"module {top.name}(", f"{top.name}_sound"
    if top.text.count(head) != 1:
        raise ValueError(f"the text of {top.name} must begin with {head!r}")
    listed = ", ".join([*(port.declaration for port in ports.values()), *more])
    connected = ", ".join(f".{name}({'sound' if name == output else name})" for name in ports)
    return design.text.replace(top.text, top.text.replace(head, f"module {inner}(")) + (
        f"module {top.name}({listed});\n  wire [{ports[output].width - 1}:0] sound;\n"
        f"  {inner} inner({connected});\n  assign {output} = {wrong};\nendmodule\n")
