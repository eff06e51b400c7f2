"""One command: what it names and whether the sequencer accepts it."""

from hdl.spec.commands import (
    INSTRUCTION,
    INSTRUCTIONS,
    Destination,
    ErrorCause,
    Opcode,
    Operand,
    largest_members,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_fits
from sim.model.memory import Fault, Tensor

__all__ = ["Command"]

_KNOWN = (Opcode.END, Opcode.FENCE, Opcode.GEMM, Opcode.VECTOR)
_MOST = (1 << 24) - 1
_USED = max(field.low + field.bits for field in INSTRUCTION.values())
_STAGES = ("multiply", "add", "scale")


class Command:
    """A command's ``fields`` (``hdl.spec.commands.COMMAND``) as a build of ``config`` sees them.

    ``instructions``: the fields of each vector instruction up to the one marked last; all eight
    where none is (``check`` refuses that).
    """

    def __init__(self, config: AcceleratorConfig, fields: dict[str, int]) -> None:
        self.config = config
        self.fields = fields
        self.instructions: list[dict[str, int]] = []
        for index in range(INSTRUCTIONS):
            word = fields["instructions"] >> 32 * index & 0xFFFF_FFFF
            instruction = unpack(INSTRUCTION, word.to_bytes(4, "little"))
            self.instructions.append(instruction | {"reserved": word >> _USED})
            if self.instructions[-1]["last"]:
                break

    @property
    def opcode(self) -> int:
        return self.fields["opcode"]

    def uses(self, name: str) -> bool:
        """Whether tensor ``name`` (a, b, c, y0, y1) is touched."""
        if name == "a":
            return True
        if name == "b":
            return self.opcode == Opcode.GEMM
        if name == "c":
            return any(i["destination"] == Destination.MEMORY for i in self.instructions)
        return any(i["y"] == int(name[1]) and i[stage] == Operand.Y
                   for i in self.instructions for stage in _STAGES)

    def tensor(self, name: str) -> Tensor:
        """Tensor ``name`` as stored."""
        fields, fmt = self.fields, self.config.format
        rows, columns = fields["m"], fields["n"]
        if self.fields["x_gather"] and name == "a":
            rows = fields["k"]  # the table
        if self.opcode == Opcode.GEMM and name == "a":
            columns = fields["k"]
            if fields["a_transposed"]:
                rows, columns = columns, rows
        elif name == "b":
            rows = fields["k"]
            if fields["b_transposed"]:
                rows, columns = columns, rows
        elif name == "c":
            columns = 1 if fields["row_result"] else columns
            if fields["c_transposed"]:
                rows, columns = columns, rows
        # A is wide only as the X of a VECTOR command, B never.
        wide = {"a": "x_wide" if self.opcode == Opcode.VECTOR else None, "b": None,
                "c": "c_wide", "y0": "y0_wide", "y1": "y1_wide"}[name]
        encoding = fmt.encodings[fields[f"{name}_e5m2"] if fmt.hybrid else 0]
        if fmt.storage_bytes == 1 and wide is not None and fields[wide]:
            encoding = None
        return Tensor(fields[f"{name}_address"], fields[f"{name}_stride"], rows, columns, encoding)

    def check(self) -> None:
        """Raise the first ``Fault``: opcode, shape, size, K, fields, alignment, rows on chip."""
        if self.opcode not in _KNOWN:
            raise Fault(ErrorCause.BAD_OPCODE)
        if self.opcode in (Opcode.END, Opcode.FENCE):
            return
        shape = [self.fields[name] for name in "mkn"]
        if 0 in shape:
            raise Fault(ErrorCause.BAD_SHAPE)
        if max(shape) > _MOST:
            raise Fault(ErrorCause.OVERSIZE)
        if (self.opcode == Opcode.GEMM and self.config.acc == "exact"
                and self.fields["k"] > self.config.k_max):
            raise Fault(ErrorCause.K_RANGE)
        if not self._fields_valid():
            raise Fault(ErrorCause.BAD_FIELD)
        for name in ("a", "b", "c", "y0", "y1"):
            if self.uses(name) and not self._aligned(self.tensor(name)):
                raise Fault(ErrorCause.MISALIGNED)
        if not self._fits():
            raise Fault(ErrorCause.OVERSIZE)

    def _fields_valid(self) -> bool:
        if self.fields["reserved"]:
            return False
        gathers = self.fields["x_gather"]
        if self.opcode == Opcode.VECTOR and (self.fields["k"] != 1 and not gathers or any(
                self.fields[name] for name in ("a_transposed", "b_transposed", "row_max"))):
            return False
        if self.opcode == Opcode.GEMM and gathers:
            return False
        if (self.fields["c_transposed"] or self.fields["row_result"]) and any(
                i["reduce"] and i["destination"] == Destination.MEMORY for i in self.instructions):
            return False
        return (bool(self.instructions[-1]["last"])
                and all(self._instruction_valid(i) for i in self.instructions)
                and self._registers_reduced())

    def _instruction_valid(self, instruction: dict[str, int]) -> bool:
        known = all(instruction[name] <= last
                    for name, last in largest_members(self.config).items())
        known = known and not instruction["reserved"]
        return known and sum(instruction[stage] == Operand.Y for stage in _STAGES) <= 1

    def _registers_reduced(self) -> bool:
        """Whether each row register is reduced into by an instruction before those that read it."""
        held = {Operand.R0} if self.fields["row_max"] else set()
        for instruction in self.instructions:
            read = {instruction[stage] for stage in _STAGES} & {Operand.R0, Operand.R1}
            if not read <= held:
                return False
            if instruction["reduce"]:
                held.add((Operand.R0, Operand.R1)[instruction["reduce_to"]])
        return True

    @staticmethod
    def _aligned(tensor: Tensor) -> bool:
        """BF16 tensors stand at even addresses with even strides."""
        return tensor.element_bytes == 1 or not (tensor.address | tensor.stride) & 1

    def _fits(self) -> bool:
        """Lists that keep a block on chip (BUFFER) need its rows in an accumulation bank, and so
        do row maxima of A·B and results of one item a row.

        Lists without BUFFER stream longer rows: each instruction computes or reads its input again.
        """
        kept = any(i["destination"] == Destination.BUFFER for i in self.instructions)
        if not kept and not self.fields["row_max"] and not self.fields["row_result"]:
            return True
        return row_fits(self.config, self.fields["n"])
