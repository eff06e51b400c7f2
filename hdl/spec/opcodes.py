"""What a command may be, and when a statement about commands holds."""

from dataclasses import dataclass

from hdl.spec.features import ACCUMULATORS, RESERVED
from hdl.spec.meaning import Meaning, Member, Trait

__all__ = ["COMPUTING", "Opcode", "When"]

_RESERVED = Meaning("reserved, refused as BAD_OPCODE", needs=RESERVED)


class Opcode(Member):
    """0 is no command, so that cleared memory stops the program."""

    END = 1, Meaning("as FENCE, then ends the program")
    FENCE = 2, Meaning("waits until every command before it has finished, its writes answered")
    GEMM = 3, Meaning("C = list(A·B): every instruction runs over the product",
                      needs=(ACCUMULATORS,), traits=Trait.COMPUTES)
    VECTOR = 4, Meaning("C = list(X): every instruction runs over a tensor in memory",
                        traits=Trait.COMPUTES)
    COPY = 5, _RESERVED
    TRANSPOSE = 6, _RESERVED
    INT8_GEMM = 32, _RESERVED


COMPUTING = tuple(opcode for opcode in Opcode if Trait.COMPUTES in opcode.meaning.traits)
"""Opcodes of commands with a shape, tensors and a list; the fields of others are not judged."""


@dataclass(frozen=True)
class When:
    """Commands of one of ``opcodes``, and with ``flag`` those alone whose field of that name is
    not 0."""

    opcodes: tuple[Opcode, ...] = COMPUTING
    flag: str = ""
