"""The program builder: places tensors in a memory image and emits commands for the accelerator."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compiler.program.epilogue import STORE, Epilogue, keeps_order
from compiler.program.hazards import Hazards, in_place
from compiler.program.instruction import Instruction, instruction_words
from compiler.program.operands import first_of_two, second_result
from compiler.program.placement import Placement
from compiler.program.requirements import Requirements
from compiler.program.scalar import Scalar
from compiler.program.tensor import INDICES, IndexEncoding, Tensor, overlap
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    ISA_MAJOR,
    MAGIC,
    PROGRAM_ALIGNMENT,
    Destination,
    Opcode,
    Role,
    means,
    pack,
    roles,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, E5M2
from hdl.spec.timing import row_columns, row_fits
from sim.model import codec

__all__ = ["ProgramBuilder", "read", "read_codes"]


class ProgramBuilder(Placement):
    """One program and the image of the memory that it works on.

    The program follows the tensors; ``base`` is a multiple of 64. A command that reads or
    overwrites what an earlier one still works on gets a FENCE before it. A result may take the
    place of the command's own X, Y0 or Y1 (``hazards.in_place``). Every misuse is a ``ValueError``
    of one line.
    """

    def __init__(self, config: AcceleratorConfig, base: int = 0) -> None:
        if base % PROGRAM_ALIGNMENT:
            raise ValueError(f"base must be a multiple of {PROGRAM_ALIGNMENT}, not {base!r}")
        super().__init__(config, base)
        self._commands: list[dict[str, int]] = []
        self._requirements = Requirements(config)
        self._hazards = Hazards()
        self._table: Tensor | None = None

    # Commands

    def gemm(self, a: Tensor, b: Tensor, out: Tensor, epilogue: Epilogue = STORE, *,
             a_transposed: bool = False, b_transposed: bool = False, out_transposed: bool = False,
             row_max: bool = False) -> None:
        """out = epilogue(A · B). ``a_transposed``: ``a`` holds Aᵀ, K×M; ``b_transposed``: Bᵀ, N×K.

        ``out_transposed``: ``out`` is N×M and takes the transposed result. ``row_max``: R0 starts
        as IMM0 times the maximum of each row of A · B.

        A softmax takes its row maxima while the array drains, if there is no bias and the scale
        is positive. One of rows that do not stay on chip is streamed. With a bias it takes two
        commands through a BF16 tensor, which is exact unless the lanes are FP32.
        """
        m, k = a.shape[::-1] if a_transposed else a.shape
        n, found = b.shape if b_transposed else b.shape[::-1]
        if found != k:
            raise ValueError(f"{b.name} must have K = {k} as {a.name} has, not {found}")
        for tensor in (a, b):
            if tensor.encoding not in self.config.format.encodings:
                raise ValueError(f"{tensor.name} must hold {self.config.fmt} as an operand of a "
                                 f"GEMM, not {tensor.encoding.name}")
        most = self.config.k_most
        if self.config.exact_sums and k > most:
            bound = f"k_max = {most}" if self.config.acc == "exact" else most
            raise ValueError(f"K must be at most {bound} with the {self.config.acc} "
                             f"accumulator, not {k}")
        fields = {"opcode": Opcode.GEMM, "k": k, "a_transposed": int(a_transposed),
                  "b_transposed": int(b_transposed), "row_max": int(row_max)}
        fields |= self._placed(Opcode.GEMM, "b", b)
        self._command(fields, (m, n), a, [b], out, out_transposed, epilogue)

    def vector(self, x: Tensor, out: Tensor, epilogue: Epilogue = STORE, *,
               out_transposed: bool = False) -> None:
        """out = epilogue(x), as ``gemm``."""
        fields = {"opcode": Opcode.VECTOR, "k": COMMAND["k"].default}
        self._command(fields, x.shape, x, [], out, out_transposed, epilogue)

    def gather(self, table: Tensor, indices: Tensor, out: Tensor, epilogue: Epilogue = STORE, *,
               out_transposed: bool = False) -> None:
        """out = epilogue(X): row i of X is that row of ``table`` that ``indices`` has at i.

        ``indices``: M×1, dense, from ``indices``. A number beyond the table stops the program.
        """
        if indices.encoding != INDICES or indices.columns != 1 or indices.stride != 4:
            raise ValueError(f"{indices.name} must be a dense column of indices, not "
                             f"{indices.rows}×{indices.columns} of {indices.encoding.name}")
        fields = {"opcode": Opcode.VECTOR, "k": table.rows, "x_gather": 1}
        fields |= self._placed(Opcode.VECTOR, "b", indices)
        self._command(fields, (indices.rows, table.columns), table, [indices], out,
                      out_transposed, epilogue)

    def fence(self) -> None:
        """Later commands start when every earlier one has written its last byte."""
        self.command(opcode=Opcode.FENCE)
        self._hazards.settled()

    def end(self) -> None:
        """Ends the program; ``build`` adds it where it is missing."""
        self.command(opcode=Opcode.END)

    def command(self, **fields: int) -> None:
        """One command from its fields as they are, with no check but their widths."""
        pack(COMMAND, fields, COMMAND_BYTES)
        self._commands.append(fields)

    @property
    def commands(self) -> tuple[dict[str, int], ...]:
        """The fields of every command so far."""
        return tuple(self._commands)

    # The image

    @property
    def address(self) -> int:
        """Where the program goes if no more tensors are placed."""
        return -(-self._cursor // PROGRAM_ALIGNMENT) * PROGRAM_ALIGNMENT

    @property
    def image_bytes(self) -> int:
        """The image's size, with the program as it is so far."""
        size = self.address - self.base + HEADER_BYTES + COMMAND_BYTES * len(self._commands)
        return -(-size // PROGRAM_ALIGNMENT) * PROGRAM_ALIGNMENT

    def build(self, *, seed: int | None = None, spare: int = 0, **header: int
              ) -> tuple[np.ndarray, int]:
        """The image (uint8, from ``base`` on) and the program's address on the bus.

        Bytes that no constant holds are 0, or random from ``seed``. ``spare`` bytes follow the
        program. ``header`` overrides fields of the program's header.
        """
        address, program = self.address, self._program(header)
        size = address - self.base + len(program) + spare
        size = -(-size // PROGRAM_ALIGNMENT) * PROGRAM_ALIGNMENT
        if seed is None:
            memory = np.zeros(size, dtype=np.uint8)
        else:
            memory = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        self.fill(memory)
        start = address - self.base
        memory[start:start + len(program)] = np.frombuffer(program, dtype=np.uint8)
        return memory, address

    def followed(self, name: str) -> tuple[int, "ProgramBuilder"]:
        """Close this program, which becomes part of the image as tensor ``name``: its address, and
        the builder of another program on the same memory."""
        address = self.raw(self._program({}), PROGRAM_ALIGNMENT, name).address
        after = type(self)(self.config, self.base)
        after.take_over(self)
        return address, after

    def _program(self, header: dict[str, int]) -> bytes:
        """Header, with some fields overridden, and commands, END among them."""
        if not self._commands or self._commands[-1].get("opcode") != Opcode.END:
            self.end()
        values = {"magic": MAGIC, "isa_major": ISA_MAJOR, "isa_minor": self._requirements.minor,
                  "features": int(self._requirements.features), "commands": len(self._commands),
                  "config_hash": self.config.hash,
                  "scalars": 0 if self._table is None else self._table.address}
        program = pack(HEADER, values | header, HEADER_BYTES)
        return program + b"".join(pack(COMMAND, c, COMMAND_BYTES) for c in self._commands)

    # Commands in full

    def _command(self, fields: dict[str, int], shape: tuple[int, int], a: Tensor,
                 operands: list[Tensor], out: Tensor, transposed: bool, epilogue: Epilogue) -> None:
        """Check shapes, choose the instruction list, emit the command after its fence."""
        stored = (shape[0], 1) if epilogue.row_result else shape
        stored = stored[::-1] if transposed else stored
        if out.shape != stored:
            raise ValueError(f"{out.name} must be {stored[0]}×{stored[1]}, "
                             f"not {out.rows}×{out.columns}")
        fits = row_fits(self.config, shape[1])
        if epilogue.softmax and epilogue.items is not None and not fits:
            raise ValueError(f"a softmax that is divided later must have at most "
                             f"{row_columns(self.config)} columns, not {shape[1]}")
        if epilogue.softmax and epilogue.bias is not None and not fits:
            middle = self.empty(*shape, "bf16", name=f"{out.name} before softmax")
            self._command(fields, shape, a, operands, middle, False,
                          replace(epilogue, softmax=False, amax=False))
            self.vector(middle, out, Epilogue(softmax=True, amax=epilogue.amax),
                        out_transposed=transposed)
            return
        maximum = False
        if (epilogue.softmax and epilogue.bias is None and fits
                and fields["opcode"] == Opcode.GEMM):
            scale = 1.0 if epilogue.scale is None else epilogue.scale
            epilogue = replace(epilogue, scale=scale)
            maximum = not isinstance(scale, Scalar) and keeps_order(_bfloat16(scale))
            fields = fields | {"row_max": int(maximum)}
        instructions = epilogue.lower(maximum)
        if not fits and (epilogue.row_result
                         or any(i.destination == Destination.BUFFER for i in instructions)):
            raise ValueError(f"a row that is kept on chip must have at most "
                             f"{row_columns(self.config)} columns, not {shape[1]}")
        itemwise = [y for y in (epilogue.bias, epilogue.y1) if y is not None]
        reads = [a, *operands, *itemwise]
        stores = any(i.destination == Destination.MEMORY for i in instructions)
        if fields["opcode"] == Opcode.VECTOR and not operands:
            itemwise.append(a)
        replaced = [] if transposed or epilogue.row_result or not _stores_last(instructions) else [
            tensor for tensor in itemwise if in_place(out, tensor)]
        scalars = [factor for factor in (epilogue.scale, epilogue.imm1)
                   if isinstance(factor, Scalar)]
        writes = [out] if stores else []
        if epilogue.items is not None:
            if overlap(out, epilogue.items):
                raise ValueError(f"{epilogue.items.name} must not overlap {out.name}")
            writes.append(epilogue.items)
        if self._hazards.race(reads, writes, replaced, [scalar.item for scalar in scalars]):
            self.fence()
        self._hazards.issued(reads, writes)
        fields = self._fields(fields, shape, a, out, transposed, epilogue, instructions)
        self._requirements.add(fields, [*reads, out], instructions)
        self.command(**fields)

    def _fields(self, fields: dict[str, int], shape: tuple[int, int], a: Tensor, out: Tensor,
                transposed: bool, epilogue: Epilogue, instructions: Sequence[Instruction]
                ) -> dict[str, int]:
        """``fields`` of the opcode with those of shape, A or X, C, Y0, Y1 and the list."""
        opcode = fields["opcode"]
        fields = fields | self._placed(opcode, "a", a) | self._placed(opcode, "c", out) | {
            "m": shape[0], "n": shape[1], "c_transposed": int(transposed),
            "instructions": instruction_words(instructions)}
        # A flag that an epilogue has by the name of its field.
        flags = {name: int(getattr(epilogue, name)) for name, field in COMMAND.items()
                 if field.bits == 1 and hasattr(epilogue, name)}
        for name, chosen in flags.items():
            if chosen and not any(opcode in when.opcodes for when in COMMAND[name].used):
                raise ValueError(f"{name} must not be set for {Opcode(opcode).name}")
        fields |= flags
        for index, y in enumerate((epilogue.bias, epilogue.y1)):
            if y is not None:
                wanted = (shape[0], 1) if fields[f"y{index}_column"] else shape
                if any(i.y_second and i.y == index for i in instructions):
                    y = first_of_two(y, wanted[1])
                fields |= self._operand_y(opcode, f"y{index}", y, wanted)
        if epilogue.items is not None:
            fields |= second_result(out, epilogue.items, shape[0])
        for index, value in enumerate((epilogue.scale, epilogue.imm1)):
            if isinstance(value, Scalar):
                fields |= {f"imm{index}": self._number(value), f"imm{index}_scalar": 1}
            elif value is not None:
                fields[f"imm{index}"] = _bfloat16(value)
        for name in ("inverse_n", "epsilon"):
            fields[name] = int(np.float32(getattr(epilogue, name)).view(np.uint32))
        return fields

    def _number(self, scalar: Scalar) -> int:
        """The number of a scalar in the program's table."""
        table = self._table or scalar.table
        if table.address != scalar.table.address:
            raise ValueError(f"scalars of a program must be of one table, {table.name}, "
                             f"not of {scalar.table.name}")
        self._table = table
        return scalar.number

    def _operand_y(self, opcode: int, name: str, y: Tensor, shape: tuple[int, int]
                   ) -> dict[str, int]:
        if y.columns != shape[1] or y.rows not in (1, shape[0]):
            raise ValueError(f"{y.name} must be 1×{shape[1]} or {shape[0]}×{shape[1]}, "
                             f"not {y.rows}×{y.columns}")
        return self._placed(opcode, name, y, repeated=y.rows == 1)

    def _placed(self, opcode: int, name: str, tensor: Tensor, *, repeated: bool = False
                ) -> dict[str, int]:
        """The fields of a command of ``opcode`` that say where its tensor ``name`` lies and what
        it holds; ``repeated``: its one row serves for all."""
        fmt = self.config.format
        told = {Role.ADDRESS: tensor.address, Role.STRIDE: 0 if repeated else tensor.stride,
                Role.E5M2: int(fmt.hybrid and tensor.encoding == E5M2),
                Role.WIDE: int(tensor.encoding not in fmt.encodings)}
        return {field.name: told[role] for role, field in roles(name).items()
                if role in told and means(field, opcode, self.config)}


def _stores_last(instructions: Sequence[Instruction]) -> bool:
    """Whether the last instruction alone goes to memory."""
    return [i.destination == Destination.MEMORY for i in instructions] == [
        False] * (len(instructions) - 1) + [True]


def _bfloat16(value: float) -> int:
    return int(codec.encode(BF16_ENCODING, np.float64(value)))


def read_codes(memory: np.ndarray, tensor: Tensor, base: int = 0) -> np.ndarray:
    """The codes of ``tensor`` in the image, rows × columns."""
    return tensor.codes(memory, base)


def read(memory: np.ndarray, tensor: Tensor, base: int = 0) -> np.ndarray:
    """The values of ``tensor`` in the image, float64, rows × columns."""
    if isinstance(tensor.encoding, IndexEncoding):
        raise ValueError(f"{tensor.name} must hold numbers of a format, not indices")
    return codec.decode(tensor.encoding, tensor.codes(memory, base))
