"""A model from Python: compile it, run inputs of one's own, let it go on with a text.

    python examples/own_texts.py

Takes models of this project, which need no network: a classifier of digits, and a small random
decoder of 40 words, run on the Verilog. ``compile`` takes any checkpoint by name or path the same
way, and ``run`` texts where it has a tokenizer: ``compile("minilm").run(["a text", "another"])``.
"""

import sys

import numpy as np

from compiler.checkpoints.digits import DRAWN, patches
from compiler.checkpoints.samples import llama
from hdl.spec.config import AcceleratorConfig
from sim.inference import compile
from sim.verify.runner import RunError


def main() -> int:
    digits = compile("digits-vit", AcceleratorConfig("posit8"))
    wrong = 0
    for digit, result in enumerate(digits.run(np.stack([patches(DRAWN[n]) for n in range(10)]))):
        label, score = result.labels[0]
        print(f"a drawn {digit} reads as {label} ({score:.2f})")
        wrong += label != str(digit)

    config = AcceleratorConfig("posit8", dim=4, lanes=4)
    decoder = compile(llama(), config, on="rtl")
    try:
        text = decoder.generate([3, 14, 15], 4, chunk=2)
    except RunError as error:
        # Every start on the Verilog is compared with the machine model: a byte that differs ends.
        print(f"stopped: {error}\nbytes compared: 0, mismatches: 1")
        return 1
    print(f"after {text.prompt.tolist()} comes {list(text.ids)}, {text.ran.cycles} cycles")
    print(f"bytes compared: {text.ran.compared}, mismatches: 0; digits misread: {wrong}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
