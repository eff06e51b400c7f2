"""A program's memory as plain files, for a board: what lies where, and what its host writes.

``image.json`` names files of bytes with the addresses that they go to, the address that a host
starts, the tensors that it writes and reads, and for programs that are fitted before each start
(``compiler.program.template``) the fields that it writes.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compiler.program.image import ProgramImage, placed
from compiler.program.tensor import Tensor
from gen.cli import appearing

__all__ = ["write_board"]


def write_board(folder: Path, image: ProgramImage, *, inputs: Sequence[Tensor], weights: int = 0,
                more: Mapping[str, Any] | None = None) -> list[str]:
    """Files for ``image`` in ``folder``: their names. The first ``weights`` bytes are a file of
    their own, which stays where it is for other programs. ``OSError``."""
    folder.mkdir(parents=True, exist_ok=True)
    cuts = {"weights.bin": slice(0, weights), "program.bin": slice(weights, image.memory.size)}
    if not weights:
        cuts = {"memory.bin": slice(0, image.memory.size)}
    parts = []
    for name, cut in cuts.items():
        content = image.memory[cut].tobytes()
        with appearing(folder / name) as file:
            file.write_bytes(content)
        parts.append({"file": name, "address": image.base + cut.start, "bytes": len(content),
                      "crc32": zlib.crc32(content)})
    results = [tensor for tensor in image.tensors if tensor.name in image.results]
    about = {"config": image.config.as_dict(), "config_hash": f"{image.config.hash:#x}",
             "memory": parts, "bytes": image.memory.size, "start": image.address,
             "inputs": [placed(tensor) for tensor in inputs],
             "results": [placed(tensor, image.scales.get(tensor.address)) for tensor in results],
             **(more or {})}
    with appearing(folder / "image.json") as file:
        file.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return [*cuts, "image.json"]
