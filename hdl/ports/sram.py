"""The two ports of a memory, seen from who uses them."""

from amaranth.lib.wiring import Out

from hdl.ports.parametric import Parametric, require_count

__all__ = ["SramRead", "SramWrite"]


class SramWrite(Parametric):
    """A write port.

    Members
    -------
    enable: Out(``parts``), one bit for each of as many equal parts of a word, the lowest first.
    bank: Out, where there are several ``banks``: the one that is written.
    address: Out(range(``depth``)).
    data: Out(``width``).

    Raises
    ------
    ValueError: ``width`` or ``parts`` is not a positive integer, ``depth`` or ``banks`` is below 2,
        or ``parts`` does not divide ``width``.
    """

    def __init__(self, width: int, depth: int, parts: int = 1, banks: int | None = None) -> None:
        require_count("width", width)
        require_count("depth", depth, 2)
        if require_count("parts", parts) and width % parts:
            raise ValueError(f"parts must divide width {width}, not {parts!r}")
        super().__init__({"width": width, "depth": depth, "parts": parts, "banks": banks}, {
            "enable": Out(parts), **_bank(banks), "address": Out(range(depth)),
            "data": Out(width)})


class SramRead(Parametric):
    """A read port without its data, which often go to another unit, one cycle later.

    Members
    -------
    enable: Out(1); without it the data of the last read stay.
    bank: Out, where there are several ``banks``: the one that is read.
    address: Out(range(``depth``)).

    Raises
    ------
    ValueError: ``depth`` or ``banks`` is not an integer of at least 2.
    """

    def __init__(self, depth: int, banks: int | None = None) -> None:
        require_count("depth", depth, 2)
        super().__init__({"depth": depth, "banks": banks}, {
            "enable": Out(1), **_bank(banks), "address": Out(range(depth))})


def _bank(banks: int | None) -> dict[str, object]:
    return {} if banks is None else {"bank": Out(range(require_count("banks", banks, 2)))}
