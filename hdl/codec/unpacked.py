"""The unpacked operand: what decoders give and what the array computes with.

Two forms share one meaning, sign · significand · 2^exponent with the significand in [1, 2):

- flat members ``sign exponent significand is_zero is_nar`` for the ports of single blocks;
- one compact vector for array wires and PE registers, {is_nar, sign, exponent, significand},
  in which the hidden bit of the significand doubles as "not zero".
"""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Shape, Value, signed, unsigned
from amaranth.lib.wiring import Flow, Member

from hdl.spec.formats import Format

__all__ = [
    "UNPACKED_FIELDS",
    "connect_unpacked",
    "operand_shape",
    "pack_operand",
    "unpack_operand",
    "unpacked_fields",
    "unpacked_members",
]

UNPACKED_FIELDS = ("sign", "exponent", "significand", "is_zero", "is_nar")


def unpacked_members(fmt: Format, flow: Flow, prefix: str = "") -> dict[str, Member]:
    """Flat members of one unpacked operand of ``fmt``, for a component's signature.

    ``{prefix}sign`` 1, ``{prefix}exponent`` signed(fmt.exponent_bits), unbiased,
    ``{prefix}significand`` fmt.significand_bits with the hidden bit on top, ``{prefix}is_zero``,
    ``{prefix}is_nar`` (NaR, NaN or Inf). At most one flag is set; while one is, consumers treat
    exponent and significand as don't-care (the sign still holds for a zero).
    """
    shapes = (1, signed(fmt.exponent_bits), fmt.significand_bits, 1, 1)
    return {prefix + name: flow(shape) for name, shape in zip(UNPACKED_FIELDS, shapes, strict=True)}


def unpacked_fields(component: object, prefix: str = "") -> dict[str, Value]:
    """The flat members of ``component`` that start with ``prefix``, by bare name."""
    return {name: getattr(component, prefix + name) for name in UNPACKED_FIELDS}


def connect_unpacked(m: Module, target: Mapping[str, Value], source: Mapping[str, Value]) -> None:
    """Drive the fields of ``target`` from those of ``source`` (both from ``unpacked_fields`` or
    ``unpack_operand``), combinationally."""
    m.d.comb += [target[name].eq(source[name]) for name in UNPACKED_FIELDS]


def operand_shape(fmt: Format) -> Shape:
    """Shape of the compact vector of one operand of ``fmt``."""
    return unsigned(fmt.significand_bits + fmt.exponent_bits + 2)


def pack_operand(fields: Mapping[str, Value]) -> Value:
    """The compact vector of flat ``fields``. All zeros is the number +0."""
    return Cat(fields["significand"][:-1], ~fields["is_zero"], fields["exponent"].as_unsigned(),
               fields["sign"], fields["is_nar"])


def unpack_operand(fmt: Format, operand: Value) -> dict[str, Value]:
    """The flat fields held by compact vector ``operand``; wiring and one inverter."""
    significand_bits, top = fmt.significand_bits, fmt.significand_bits + fmt.exponent_bits
    is_nar = operand[top + 1]
    return {
        "sign": operand[top],
        "exponent": operand[significand_bits:top].as_signed(),
        "significand": operand[:significand_bits],
        "is_zero": ~operand[significand_bits - 1],
        "is_nar": is_nar,
    }
