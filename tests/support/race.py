"""One of two processes that want one product at once: ``python -m support.race``.

Arguments: the product, the folder where both meet, a name of this process, and ``locked`` or
``free``, without locks. Prints a digest of the product; each making of it is a line in ``made``.
"""

import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gen import cached, top
from gen.design import Design, Module
from hdl.spec.config import AcceleratorConfig
from sim.harness import batch, verilate
from synth import flow, kept
from synth.hierarchy import Unit
from synth.library import library_named

__all__ = ["PRODUCTS"]

_WIRE = "module wire_8(input [7:0] a, output [7:0] y);\n  assign y = ~a;\nendmodule\n"
_LATER = 0.5  # seconds in which the second process comes to the lock
_LOST = 600  # seconds after which the other process cannot be alive


def _verilog(folder: Path) -> bytes:
    return cached.generated(AcceleratorConfig("posit8", dim=4)).text.encode()


def _native(folder: Path) -> bytes:
    return verilate.build_native(folder / "one.cpp").read_bytes()


def _verilated(folder: Path) -> bytes:
    return verilate.build_library("", "top", []).read_bytes()


def _batch(folder: Path) -> bytes:
    return batch.Batch(_WIRE, "wire_8").run({"a": np.arange(256)})["y"].tobytes()


def _netlist(folder: Path) -> bytes:
    unit = Unit("wire_8", _WIRE)
    return repr(flow.Flow(library_named("ottava")).map_unit(unit, "quick")).encode()


def _write_design(config: AcceleratorConfig, name: str, **_: object) -> Design:
    text = f"// {config.fmt} {name}\n" * 100_000
    return Design(name, {name: Module(name, text, ())})


def _write_library(folder: Path, library: Path, *_: object) -> None:
    library.write_bytes(bytes(1_000_000))


# The call that wants the product, what makes it, and a short stand-in where making takes long.
PRODUCTS: dict[str, tuple[Callable[[Path], bytes], Any, str, Callable[..., Any] | None]] = {
    "verilog": (_verilog, top, "design", _write_design),
    "native": (_native, verilate, "run_tool", None),
    "verilated": (_verilated, verilate, "_build", _write_library),
    "batch": (_batch, batch.Batch, "_compile", None),
    "netlist": (_netlist, flow.Flow, "_run", None),
}


def _meet(folder: Path, kind: str, name: str) -> None:
    (folder / f"{kind} {name}").touch()
    asked = time.monotonic()
    while len(list(folder.glob(f"{kind} *"))) < 2:
        if time.monotonic() > asked + _LOST:
            raise RuntimeError(f"no other process {kind}")
        time.sleep(0.01)


@contextmanager
def _free(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield


def main() -> None:
    product, place, name, kind = sys.argv[1:]
    folder = Path(place)
    want, owner, maker, stand_in = PRODUCTS[product]
    honest = stand_in or getattr(owner, maker)

    def make(*arguments: Any, **options: Any) -> Any:
        with (folder / "made").open("a") as file:
            file.write(f"{name}\n")
        if kind == "free":
            _meet(folder, "makes", name)
        else:
            time.sleep(_LATER)
        return honest(*arguments, **options)

    setattr(owner, maker, make)
    if kind == "free":
        users: tuple[Any, ...] = (cached, verilate, batch, kept)
        for user in users:
            user.locked = _free
    _meet(folder, "asks", name)
    print(hashlib.sha256(want(folder)).hexdigest())


if __name__ == "__main__":
    main()
