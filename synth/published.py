"""What "8-bit Transformer Inference and Fine-tuning for Edge Accelerators" (ASPLOS 2024) says of
its hardware: figures 11 to 13 and table 8, 40 nm at 0.9 V, and its claims.

Areas are in 10³ µm², of the vector unit in mm²; each triple is at 5, 200 and 400 MHz. Labels of the
charts' bars were assigned to bars by position. Figure 13 has bars without labels: of the whole
accelerator there are the averages of the text alone.
"""

from dataclasses import dataclass

__all__ = ["CLAIMS", "CLOCKS", "EXP", "LANES", "MAC", "MHZ", "RECIPROCAL", "VECTOR_AREA",
           "VECTOR_POWER", "Claim"]

CLOCKS = ("relaxed", "nominal", "tight")
MHZ = dict(zip(CLOCKS, (5, 200, 400), strict=True))
LANES = (8, 16, 32)

Triple = tuple[float, float, float]

MAC: dict[str, Triple] = {  # figure 12, with registers
    "posit8": (1.19, 2.16, 3.32), "fp8": (1.09, 1.98, 2.92), "e4m3": (1.04, 1.94, 2.84),
    "e5m2": (1.00, 2.02, 2.86), "bf16": (2.37, 4.07, 7.02), "int8": (0.705, 0.705, 0.808),
    "posit8 encoder": (0.330, 0.372, 0.513), "posit8 decoder": (0.269, 0.269, 0.403)}
EXP: dict[str, Triple] = {"16-bit posit, tricks": (0.646, 1.21, 1.59),
                          "bf16, tables": (1.15, 3.16, 4.78)}
RECIPROCAL: dict[str, Triple] = {"16-bit posit, tricks": (0.254, 0.254, 0.254),
                                 "bf16, tables": (0.774, 1.66, 2.47)}
VECTOR_AREA: dict[str, Triple] = {  # table 8, 8, 16 and 32 lanes at 200 MHz
    "posit8": (0.208, 0.322, 0.572), "fp8": (0.304, 0.497, 0.840)}
VECTOR_POWER: dict[str, Triple] = {"posit8": (4.27, 7.8, 18.7), "fp8": (5.76, 13.1, 30.9)}


@dataclass(frozen=True)
class Claim:
    """``says`` that ``format`` takes ``value`` times what ``against`` takes: ``of`` area or power,
    of ``what``. Lanes of fp8 are BF16: its exponential and reciprocal are the paper's BF16 units.
    """

    says: str
    what: str
    of: str
    format: str
    against: str
    value: float


CLAIMS: tuple[Claim, ...] = (
    Claim("vector unit, area: posit8 33 % below fp8", "vector", "area", "posit8", "fp8", 0.67),
    Claim("vector unit, power: posit8 35 % below fp8", "vector", "power", "posit8", "fp8", 0.65),
    Claim("accelerator, area: posit8 30 % below bf16", "accelerator", "area", "posit8", "bf16",
          0.70),
    Claim("accelerator, area: fp8 34 % below bf16", "accelerator", "area", "fp8", "bf16", 0.66),
    Claim("accelerator, power: posit8 26 % below bf16", "accelerator", "power", "posit8", "bf16",
          0.74),
    Claim("accelerator, power: fp8 32 % below bf16", "accelerator", "power", "fp8", "bf16", 0.68),
    Claim("exponential, area: 62 % below a BF16 unit's", "exp", "area", "posit8", "fp8", 0.38),
    Claim("reciprocal, area: 85 % below a BF16 unit's", "reciprocal", "area", "posit8", "fp8",
          0.15),
    Claim("exponential, power: 44 % below a BF16 unit's", "exp", "power", "posit8", "fp8", 0.56),
    Claim("reciprocal, power: 75 % below a BF16 unit's", "reciprocal", "power", "posit8", "fp8",
          0.25),
    Claim("accelerator, area: posit8 1.06 × fp8", "accelerator", "area", "posit8", "fp8", 1.06),
)
