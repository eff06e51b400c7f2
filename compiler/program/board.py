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

_WEIGHTS = "weights.bin"


def write_board(folder: Path, image: ProgramImage, *, inputs: Sequence[Tensor], weights: int = 0,
                shape: str = "", more: Mapping[str, Any] | None = None) -> list[str]:
    """Files for ``image`` in ``folder``: their names. The first ``weights`` bytes are a file of
    their own, which stays where it is for other programs: where it is there already it must be the
    same. ``shape``: of the inputs, a part of the names of all other files. ``OSError``,
    ``ValueError`` where other weights are there."""
    folder.mkdir(parents=True, exist_ok=True)
    suffix = f"-{shape}" if shape else ""
    about_name = f"image{suffix}.json"
    cuts = {_WEIGHTS: slice(0, weights),
            f"program{suffix}.bin": slice(weights, image.memory.size)}
    if not weights:
        cuts = {f"memory{suffix}.bin": slice(0, image.memory.size)}
    parts = []
    for name, cut in cuts.items():
        content = image.memory[cut].tobytes()
        if name != _WEIGHTS or not _there(folder / name, content):
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
    with appearing(folder / about_name) as file:
        file.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return [*cuts, about_name]


def _there(path: Path, content: bytes) -> bool:
    """Whether it is there; ``ValueError`` where it has another content."""
    if not path.exists():
        return False
    if path.stat().st_size != len(content) or path.read_bytes() != content:
        raise ValueError(f"{path} must be the weights of this model and build, which programs that "
                         "are there share: other ones need a folder of their own")
    return True
