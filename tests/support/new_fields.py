"""``python -m support.new_fields``: three fields more in the tables, and everything that follows.

The tables are changed before anything that derives from them is imported. Each check names a place
that would have to be changed by hand if it repeated what the tables say.
"""

from dataclasses import replace

from hdl.spec import command_fields, instructions
from hdl.spec.command_fields import CommandField, Role, Unit
from hdl.spec.features import Feature
from hdl.spec.instructions import InstructionField
from hdl.spec.meaning import Trait
from hdl.spec.opcodes import Opcode, When

COMMAND, INSTRUCTION = command_fields.COMMAND, instructions.INSTRUCTION
COMMAND["y0_first"] = CommandField(
    "y0_first", 0, 29, 1, "Y0 is M×1: one item per row", (When((Opcode.VECTOR,)),), strict=True,
    needs=(Feature.FUNCTIONS,), minor=1, tensor="y0", role=Role.COLUMN, units=(Unit.DRAIN,))
COMMAND["silent_list"] = CommandField(
    "silent_list", 0, 30, 1, "no instruction stores", bars=Trait.STORES, units=(Unit.VECTOR,))
COMMAND["row_result"] = replace(COMMAND["row_result"], strict=True, minor=2)
INSTRUCTION["whole"] = InstructionField(
    "whole", 0, 28, 1, "works on whole rows, reduces none", traits=Trait.WHOLE_ROWS,
    bars=Trait.REDUCES, needs=(Feature.FUNCTIONS,))


STORE, WHOLE = 2 << 22 | 1 << 24, 1 << 28
BASE = 0x1000


def configs():
    """A build of all functions and one of softmax alone."""
    from hdl.spec.config import AcceleratorConfig

    return AcceleratorConfig("posit8", dim=4), AcceleratorConfig("posit8", dim=4,
                                                                functions="softmax")


def check_plan() -> None:
    from hdl.ports.plan import plan_layout
    from hdl.spec.commands import ISA_MINOR
    from sim.cycles.plan import PLAN

    assert ISA_MINOR == 2
    members = set(plan_layout(configs()[0]).members) & set(PLAN.names or ())
    assert {"y0_first", "silent_list"} <= members


def check_legality() -> None:
    from hdl.spec.commands import ErrorCause
    from sim.model.command import Command

    config, less = configs()
    base = dict.fromkeys(COMMAND, 0) | {"m": 3, "k": 1, "n": 4, "instructions": STORE}

    def judged(build, **fields):
        return Command(build, base | fields).invalid

    vector, gemm, bad = int(Opcode.VECTOR), int(Opcode.GEMM), ErrorCause.BAD_FIELD
    assert judged(config, opcode=vector, y0_first=1) is None
    assert judged(config, opcode=gemm, y0_first=1) is bad
    assert judged(less, opcode=vector, y0_first=1) is bad
    assert judged(config, opcode=gemm, silent_list=1) is bad
    assert judged(config, opcode=gemm, silent_list=1, instructions=1 << 24) is None
    assert judged(config, opcode=gemm, instructions=STORE | WHOLE) is None
    assert judged(less, opcode=gemm, instructions=STORE | WHOLE) is bad
    assert judged(config, opcode=gemm, instructions=1 << 24 | WHOLE | 1 << 16) is bad
    assert Trait.WHOLE_ROWS in Command(config, base | {
        "opcode": gemm, "instructions": STORE | WHOLE}).traits


def check_effect_and_text() -> None:
    """The tensor's shape, the sum with an item per row, and the command as text and back."""
    import numpy as np

    from compiler.program.assembly.listing import assemble, disassemble, program_bytes
    from compiler.program.builder import ProgramBuilder, read
    from compiler.program.epilogue import Epilogue
    from sim.model.command import Command
    from sim.model.machine import Machine

    config, _ = configs()
    builder = ProgramBuilder(config, BASE)
    x, column = np.arange(12).reshape(3, 4), np.array([[8], [16], [-8]])
    out = builder.empty(3, 4, "bf16")
    builder.vector(builder.constant(x, "bf16"), out,
                   Epilogue(bias=builder.constant(np.zeros((1, 4)), "bf16")))
    y = builder.constant(column, "bf16")
    builder._commands[-1] |= {"y0_first": 1, "y0_address": y.address, "y0_stride": y.stride}
    memory, address = builder.build()
    view = Command(config, dict.fromkeys(COMMAND, 0) | builder._commands[0]).tensor("y0")
    assert (view.rows, view.columns) == (3, 1)
    ending = Machine(config).run(memory, address, BASE)
    assert ending.error is None and (read(memory, out, BASE) == x + column).all()
    lines = disassemble(memory, address, BASE)
    assert ", y0 first, " in lines[1]
    assert assemble("\n".join(lines)) == program_bytes(memory, address, BASE)


def check_pages() -> None:
    from gen.docs import PAGES
    from gen.header import c_header

    page = PAGES["commands.md"]()
    assert "| 0 | 29 | `y0_first` | Y0 is M×1: one item per row | VECTOR, builds of FUNCTIONS, " \
        "else 0; ISA 1.1 |" in page and "| 0 | 28 | `whole` |" in page
    assert "ottava_command_set_silent_list" in c_header(configs()[0])


def check_requirements() -> None:
    from compiler.program.builder import ProgramBuilder
    from compiler.program.epilogue import Epilogue
    from hdl.spec.commands import HEADER, HEADER_BYTES, unpack

    def minor(columns, **options):
        made = ProgramBuilder(configs()[0])
        rows = made.empty(3, columns, "bf16")
        made.vector(made.empty(3, 4), rows, Epilogue(**options))
        memory, address = made.build()
        return unpack(HEADER, memory[address:address + HEADER_BYTES].tobytes())["isa_minor"]

    assert minor(4) == 0 and minor(1, row_result=True) == 2


def check_campaigns() -> None:
    """Points, random instructions, what is spoiled."""
    from compiler.program.instruction import Instruction
    from sim.campaigns.coverage.spec import flags, points

    config, less = configs()
    assert "y0_first" in flags(config, Opcode.VECTOR) and "y0_first" not in flags(
        config, Opcode.GEMM) and "y0_first" not in flags(less, Opcode.VECTOR)
    assert ("posit8", "GEMM", "whole", "1") in points(config)
    assert not hasattr(Instruction(), "whole")  # an option of the compiler is its author's to add


def main() -> None:
    check_plan()
    check_legality()
    check_effect_and_text()
    check_pages()
    check_requirements()
    check_campaigns()
    print("plan, cycle model, legality, tensors, machine, text, pages, header, campaigns follow")


if __name__ == "__main__":
    main()
