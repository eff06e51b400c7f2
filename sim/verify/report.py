"""What a run reports: results, bytes, errors against fp32, cycles."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from compiler.checkpoints.inputs import Step
from compiler.program.lowered import LoweredProgram
from compiler.program.tensor import Tensor
from hdl.spec.config import AcceleratorConfig
from sim.verify.compare import Comparison
from sim.verify.runner import ImageRun

__all__ = ["cosine", "report"]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Of the angle between two tensors of one shape, as vectors; 0 where one of them is zero."""
    a, b = np.float64(a).ravel(), np.float64(b).ravel()
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms else 0.0


def _truth(name: str, tensor: Tensor, step: Step, states: Mapping[str, np.ndarray]
           ) -> np.ndarray | None:
    """The fp32 rows that a result stands for; ``None`` for what fp32 keeps no track of."""
    kind = name.removeprefix(step.label)
    if not kind.endswith(f" {tensor.encoding.name}"):
        return None
    kind = kind.rsplit(" ", 1)[0]
    if kind in states and kind != "output":
        every = states[kind].reshape(step.sequences, -1, tensor.columns)
        return every[:, step.past:step.total].reshape(-1, tensor.columns)
    output = states.get("output")
    if output is None or output.shape[-1] != tensor.columns or kind not in (
            "head", "pooled", "final norm"):
        return None
    every = output.reshape(step.sequences, -1, tensor.columns)
    if tensor.rows == step.sequences < every.shape[0] * every.shape[1]:
        # One row per sequence that is not pooled: that of the step's last position.
        own = every[:, step.past:step.total]
        valid = ~np.isnan(own).any(axis=2)
        last = valid.shape[1] - 1 - valid[:, ::-1].argmax(axis=1)
        return own[np.arange(len(own)), last]
    return every[:, step.past:step.total].reshape(-1, tensor.columns)


def _lines(program: LoweredProgram, run: ImageRun, comparison: Comparison,
           steps: Sequence[Step], states: Mapping[str, np.ndarray]) -> Iterator[str]:
    for name, tensor in program.results.items():
        rows, columns = tensor.shape
        line = (f"  {name:22} {rows:4} × {columns:<5} {comparison.compared[name]:8} bytes, "
                f"{comparison.differing[name]} differ")
        step = next((s for s in steps if s.label and name.startswith(s.label)), steps[0])
        truth = _truth(name, tensor, step, states)
        if truth is not None:
            found = program.image.values(name, run.memory)
            found, truth = (rows[~np.isnan(truth).any(axis=1)] for rows in (found, truth))
            line += f", cosine to fp32 {cosine(found, truth):.5f}"
            if "head" in name:
                same = int((found.argmax(axis=1) == truth.argmax(axis=1)).sum())
                line += f", argmax equal in {same} of {len(truth)}"
        yield line


def report(config: AcceleratorConfig, program: LoweredProgram, run: ImageRun,
           comparison: Comparison, steps: Sequence[Step], states: Mapping[str, np.ndarray]
           ) -> None:
    """Print how each result compares, cycles and use of the array; the verdict is last."""
    total = comparison.total
    print("\n".join(_lines(program, run, comparison, steps, states)))
    if run.cycles:
        peak = config.dim ** 2
        print(f"cycles: {run.cycles}, utilisation {program.macs / (peak * run.cycles):.1%} of "
              f"{peak} MACs a cycle")
        print(f"the other {run.memory.size - total} bytes of memory: {comparison.stray} wrong")
    print(f"bytes compared: {total}, mismatches: {comparison.mismatches}")
