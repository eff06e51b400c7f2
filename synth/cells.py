"""This project's own small cell library as data, and the Liberty text that it makes.

No foundry made these cells. Their areas are transistor counts divided by the NAND2's four, in
NAND2-equivalents; their delays follow the method of logical effort: a cell of unit drive takes
``TAU * (parasitic + load / inverter input)``, and each of its inputs loads its driver with
``effort`` inverters. The library needs nothing but this text, so that areas can be had wherever
Python runs; figures that are published are of a real library.
"""

from dataclasses import dataclass

__all__ = ["CELLS", "Cell", "liberty"]

TAU = 0.018  # ns: a fan-out-of-4 inverter then takes 90 ps, as at 0.18 um
INPUT = 0.006  # pF: what the unit inverter's input loads its driver with
FLOP_TO_OUTPUT = 8.0  # in TAU, from the clock; two latches of which one opens
SETUP = 0.06  # ns


@dataclass(frozen=True)
class Cell:
    """A combinational cell with output ``Y``.

    ``transistors``: of its static CMOS form, which gives the area. ``effort``: logical effort of
    an input. ``parasitic``: delay without load, in units of ``TAU``; cells with an inverter at
    their output count both stages. ``sense``: Liberty's timing sense.
    """

    name: str
    function: str
    transistors: int
    effort: float
    parasitic: float
    sense: str = "negative_unate"

    @property
    def inputs(self) -> list[str]:
        return sorted({letter for letter in self.function if letter.isupper()})

    @property
    def area(self) -> float:
        return self.transistors / 4


CELLS: tuple[Cell, ...] = (
    Cell("INV", "!A", 2, 1, 1),
    Cell("BUF", "A", 4, 1, 3, "positive_unate"),
    Cell("NAND2", "!(A*B)", 4, 4 / 3, 2),
    Cell("NAND3", "!(A*B*C)", 6, 5 / 3, 3),
    Cell("NAND4", "!(A*B*C*D)", 8, 2, 4),
    Cell("NOR2", "!(A+B)", 4, 5 / 3, 2),
    Cell("NOR3", "!(A+B+C)", 6, 7 / 3, 3),
    Cell("AND2", "A*B", 6, 4 / 3, 4, "positive_unate"),
    Cell("OR2", "A+B", 6, 5 / 3, 4, "positive_unate"),
    Cell("AOI21", "!((A*B)+C)", 6, 2, 7 / 3),
    Cell("AOI22", "!((A*B)+(C*D))", 8, 2, 4),
    Cell("OAI21", "!((A+B)*C)", 6, 2, 7 / 3),
    Cell("OAI22", "!((A+B)*(C+D))", 8, 2, 4),
    Cell("MUX2", "(A*!S)+(B*S)", 12, 2, 5, "non_unate"),
    Cell("XOR2", "(A*!B)+(!A*B)", 10, 2.5, 4, "non_unate"),
    Cell("XNOR2", "(A*B)+(!A*!B)", 10, 2.5, 4, "non_unate"),
)
FLOP_TRANSISTORS = 24

_HEADER = f"""\
/* Ottava's own cells: areas in NAND2-equivalents (transistors / 4), delays by logical effort,
   tau = {TAU * 1000:.0f} ps. Made by `python -m synth.cells`, where method and table are. */
library(ottava) {{
  delay_model : table_lookup;
  time_unit : "1ns";
  voltage_unit : "1V";
  current_unit : "1uA";
  leakage_power_unit : "1nW";
  pulling_resistance_unit : "1kohm";
  capacitive_load_unit (1, pf);
  nom_voltage : 1.8;
  nom_temperature : 25;
  nom_process : 1;
  lu_table_template(linear) {{
    variable_1 : input_net_transition;
    variable_2 : total_output_net_capacitance;
    index_1 ("0.01, 1.0");
    index_2 ("0.0, 0.2");
  }}
"""


def _table(kind: str, at_no_load: float) -> str:
    """A delay or a transition: linear in the load, the same for every input slope."""
    row = f'"{at_no_load:.5f}, {at_no_load + TAU * 0.2 / INPUT:.5f}"'
    return f"        {kind}(linear) {{ values ({row}, {row}); }}\n"


def _timing(related: str, kind: str, delay: float) -> str:
    tables = "".join(_table(name, value) for name, value in (
        ("cell_rise", delay), ("cell_fall", delay),
        ("rise_transition", delay), ("fall_transition", delay)))
    return (f'      timing() {{\n        related_pin : "{related}";\n        {kind};\n'
            f"{tables}      }}\n")


def _input(name: str, effort: float, extra: str = "") -> str:
    return (f"    pin({name}) {{ direction : input; capacitance : {effort * INPUT:.5f};"
            f"{extra} }}\n")


def _combinational(cell: Cell) -> str:
    pins = "".join(_input(name, cell.effort) for name in cell.inputs)
    timings = "".join(_timing(name, f"timing_sense : {cell.sense}", TAU * cell.parasitic)
                      for name in cell.inputs)
    return (f"  cell({cell.name}) {{\n    area : {cell.area};\n{pins}"
            f'    pin(Y) {{\n      direction : output;\n      function : "{cell.function}";\n'
            f"{timings}    }}\n  }}\n")


def _flop() -> str:
    setup = "".join(f'        {edge}_constraint(scalar) {{ values ("{SETUP}"); }}\n'
                    for edge in ("rise", "fall"))
    data = ('\n      timing() {\n        related_pin : "CK";\n'
            f"        timing_type : setup_rising;\n{setup}      }}\n   ")
    output = _timing("CK", "timing_type : rising_edge", TAU * FLOP_TO_OUTPUT)
    return (f"  cell(DFF) {{\n    area : {FLOP_TRANSISTORS / 4};\n"
            '    ff(IQ, IQN) { clocked_on : "CK"; next_state : "D"; }\n'
            + _input("D", 2, data) + _input("CK", 2, " clock : true;") +
            '    pin(Q) {\n      direction : output;\n      function : "IQ";\n'
            f"{output}    }}\n  }}\n")


def liberty() -> str:
    """Text of the library in the Liberty format."""
    return _HEADER + "".join(map(_combinational, CELLS)) + _flop() + "}\n"


if __name__ == "__main__":
    print(liberty(), end="")
