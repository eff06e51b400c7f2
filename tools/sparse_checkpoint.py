"""A checkpoint of a large model's shapes in a file of few blocks: ``--folder DIR [--layers 32]``.

LLaMA-2-7B's by default, 13.5 GB in BF16, of which a file system that knows holes stores some 2 %:
every 64th page holds random numbers, the first rows of the embedding all do, and gains are 1. What
``python -m sim.run DIR --by-layer`` takes of memory and time is that of a real one.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_PAGE, _EVERY = 4096, 64
_ROWS = 256  # of the embedding, that are full


def tensors(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes as Hugging Face has them, of Llama."""
    width, hidden, words = (config[name] for name in (
        "hidden_size", "intermediate_size", "vocab_size"))
    keys = width // config["num_attention_heads"] * config["num_key_value_heads"]
    yield "model.embed_tokens.weight", (words, width)
    for index in range(config["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        for name, rows in (("q", width), ("k", keys), ("v", keys), ("o", width)):
            yield f"{layer}.self_attn.{name}_proj.weight", (rows, width)
        for name, shape in (("gate", (hidden, width)), ("up", (hidden, width)),
                            ("down", (width, hidden))):
            yield f"{layer}.mlp.{name}_proj.weight", shape
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"{layer}.{name}.weight", (width,)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (words, width)


def write(folder: Path, layers: int, seed: int = 0) -> int:
    """The folder's bytes as ``stat`` counts them."""
    config: dict[str, Any] = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
        "intermediate_size": 11008, "num_attention_heads": 32, "num_key_value_heads": 32,
        "num_hidden_layers": layers, "vocab_size": 32000, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": False,
        "rope_theta": 10000.0}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    shapes, places, place = dict(tensors(config)), dict[str, int](), 0
    for name, shape in shapes.items():
        places[name] = place
        place += 2 * int(np.prod(shape))
    text = json.dumps({name: {
        "dtype": "BF16", "shape": shape,
        "data_offsets": [places[name], places[name] + 2 * int(np.prod(shape))]}
        for name, shape in shapes.items()}).encode()
    text += b" " * (-len(text) % 8)
    start, rng = 8 + len(text), np.random.default_rng(seed)
    path = folder / "model.safetensors"
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(start + place)
        for name, shape in shapes.items():
            first = places[name]
            last = first + 2 * int(np.prod(shape))
            if len(shape) == 1:
                pages = [(first, np.ones(shape))]
            else:
                # The sum of a row's squares is about 1, as in a model that was trained.
                size = (_EVERY / shape[1]) ** 0.5
                pages = [(at, rng.normal(0, size, min(_PAGE, last - at) // 2))
                         for at in range(first, last, _EVERY * _PAGE)]
                if "embed" in name:
                    pages.append((first, rng.normal(0, 1, (_ROWS, shape[1]))))
            for at, values in pages:
                words = values.astype(np.float32).view(np.uint32) >> 16
                file.seek(start + at)
                file.write(words.astype("<u2").tobytes())
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--folder", type=Path, required=True, help="where it goes")
    parser.add_argument("--layers", type=int, default=32, help="how many (32)")
    options = parser.parse_args()
    size = write(options.folder, options.layers)
    stored = 512 * (options.folder / "model.safetensors").stat().st_blocks
    print(f"{options.folder}: {size} bytes, {stored} of them stored")


if __name__ == "__main__":
    main()
