"""What took long to make, kept by content: ``kept``."""

import json
from collections.abc import Callable
from typing import Any

from gen.cli import appearing
from gen.cli.folders import build_folder, locked

__all__ = ["kept"]


def kept(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was made as ``name`` before, or is made now, by one thread of one process: ``name``
    tells all that it follows from. It lies in ``synth-cache`` of the folder of builds, as JSON."""
    place = build_folder() / "synth-cache" / f"{name}.json"
    if not place.is_file():
        with locked(place.with_suffix(".lock")):
            if not place.is_file():
                text = json.dumps(make())
                with appearing(place) as part:
                    part.write_text(text)
    return json.loads(place.read_text())
