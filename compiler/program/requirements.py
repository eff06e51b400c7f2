"""What a program needs of the build that runs it."""

from collections.abc import Mapping, Sequence
from typing import Any

from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import COMMAND, INSTRUCTION, Feature, Opcode, features_of, meanings
from hdl.spec.config import AcceleratorConfig
from hdl.spec.features import LANES, SOFTMAX_MODES, SQUARES

__all__ = ["Requirements"]

_FUNCTIONS = {Feature.FUNCTIONS: "all", SQUARES[0]: "all", SOFTMAX_MODES: "softmax",
              Feature.BACKWARD: "training",
              Feature.SCALES: "scales"}
"""The least set of functions that brings a feature."""


class Requirements:
    """``features``, out of those of the build, and ``minor``, the oldest ISA that knows all."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.features = Feature(0)
        self.minor = 0

    def add(self, fields: Mapping[str, int], tensors: Sequence[Tensor],
            instructions: Sequence[Instruction]) -> None:
        """Those of a command. ``ValueError`` where the build lacks one."""
        listed = [instruction.values for instruction in instructions]
        told: list[Any] = [Opcode(fields["opcode"]).meaning,
                *(meaning for values in listed for meaning in meanings(values).values()),
                *(field for values in listed for name, field in INSTRUCTION.items()
                  if values.get(name)),
                # What is not strict may stand in any program: a build without it passes it over.
                *(field for name, field in COMMAND.items() if field.strict and fields.get(name))]
        built = features_of(self.config)
        self.features |= built & LANES
        for choice in dict.fromkeys(choice for entry in told for choice in entry.needs):
            if choice in _FUNCTIONS and not built & choice:
                raise ValueError(f"functions must be {_FUNCTIONS[choice]} in a build that runs "
                                 f"such instructions, not {self.config.functions!r}")
            if not built & choice:
                raise ValueError(f"build must have {choice.name} for such commands, "
                                 f"not {built.name}")
            self.features |= built & choice
        self.minor = max(self.minor, *(entry.minor for entry in told))
        for tensor in tensors:
            if tensor.encoding in self.config.format.encodings:
                self.features |= Feature[tensor.encoding.name.upper()]
