"""A checkpoint of one's own: write a tiny BERT as Hugging Face lays it out, load it, run it.

    python examples/own_checkpoint.py [FOLDER]

Any folder with ``config.json`` and ``model.safetensors`` of the BERT or Llama family goes the same
way; FOLDER takes the one that is written here, which is otherwise thrown away.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from compiler.checkpoints import load
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.source import fp32_states
from compiler.lowering.lower import lower, make_steps
from hdl.spec.config import AcceleratorConfig
from sim.verify.compare import compare
from sim.verify.expected import expected
from sim.verify.report import report
from sim.verify.runner import RunError, on_machine, on_rtl

WIDTH, HIDDEN, HEADS, LAYERS, WORDS, POSITIONS = 8, 16, 2, 1, 20, 12
CONFIG = {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
          "hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_attention_heads": HEADS,
          "num_hidden_layers": LAYERS, "vocab_size": WORDS, "type_vocab_size": 2,
          "max_position_embeddings": POSITIONS, "layer_norm_eps": 1e-12}


def tensors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random weights under the names that BERT has."""
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (rows, WIDTH)
        for name, rows in (("word", WORDS), ("position", POSITIONS), ("token_type", 2))}
    linear = [("attention.self.query", WIDTH, WIDTH), ("attention.self.key", WIDTH, WIDTH),
              ("attention.self.value", WIDTH, WIDTH), ("attention.output.dense", WIDTH, WIDTH),
              ("intermediate.dense", HIDDEN, WIDTH), ("output.dense", WIDTH, HIDDEN)]
    for layer in range(LAYERS):
        for name, outputs, inputs in linear:
            shapes[f"encoder.layer.{layer}.{name}.weight"] = outputs, inputs
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (outputs,)
    norms = ["embeddings", *(f"encoder.layer.{layer}.{part}" for layer in range(LAYERS)
                             for part in ("attention.output", "output"))]
    for name in norms:
        shapes |= {f"{name}.LayerNorm.{part}": (WIDTH,) for part in ("weight", "bias")}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    save_file(tensors(np.random.default_rng(2)), folder / "model.safetensors")


def run(folder: Path) -> int:
    """Load what lies in ``folder``, lower it, run it on the Verilog; 1 where a byte differs."""
    config = AcceleratorConfig("posit8", dim=4, lanes=4)
    model = load(folder)
    ids = np.random.default_rng(3).integers(0, WORDS, (1, POSITIONS))
    inputs = Inputs("ids", ids)
    program = lower(config, model, inputs)
    print(f"{model.name}: {len(model.blocks)} layers, {POSITIONS} positions, {program.macs} MACs")
    try:
        machine, rtl = on_machine(program.image, config), on_rtl(program.image, config)
    except RunError as error:
        print(f"stopped: {error}")
        return 1
    layers, steps = range(len(model.blocks)), make_steps(model, inputs, None)
    by_model = compare(program, rtl)
    report(config, program, rtl, by_model, steps, fp32_states(model, inputs, layers))
    by_arithmetic = compare(program, machine, expected(config, model, inputs, steps, layers=layers))
    print(f"model against arithmetic: {by_arithmetic.total} bytes, "
          f"mismatches: {by_arithmetic.mismatches}")
    return int(any(check.mismatches or not check.total for check in (by_model, by_arithmetic)))


def main() -> int:
    parser = argparse.ArgumentParser(description="A checkpoint of one's own on the accelerator.")
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER")
    chosen = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as spare:
        folder = chosen or Path(spare, "tiny-bert")
        write(folder)
        return run(folder)


if __name__ == "__main__":
    sys.exit(main())
