"""The C interface of accelerator.cpp."""

import ctypes
from functools import cache
from pathlib import Path

from sim.harness.stalls import ProfileStruct
from sim.harness.traffic import TrafficWord

__all__ = ["HEADERS", "SOURCES", "load"]

_HERE = Path(__file__).parent
SOURCES = (_HERE / "accelerator.cpp",)
HEADERS = tuple(_HERE / f"{name}.hpp"
                for name in ("axi_pins", "axi_checker", "dram", "axi_memory", "lite_host", "bench"))


@cache
def load(path: Path) -> ctypes.CDLL:
    """The library at ``path``, its functions typed."""
    library = ctypes.CDLL(str(path))
    pointer, word, number = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int
    signatures = {
        "new": (pointer, word), "free": (None, pointer), "reset": (None, pointer, number, number),
        "run_for": (None, pointer, word), "wait": (ctypes.c_int64, pointer, ctypes.c_int64),
        "write": (number, pointer, ctypes.c_uint32, ctypes.c_uint32),
        "read": (number, pointer, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32)),
        "traffic": (number, pointer, ctypes.POINTER(TrafficWord), word),
        "interrupt": (number, pointer), "skipped": (word, pointer),
        "write_under_way": (number, pointer),
        "trace": (number, pointer, ctypes.c_char_p),
        "coverage": (number, pointer, ctypes.c_char_p),
        "image": (None, pointer, pointer, pointer, word, word),
        "profile": (None, pointer, ctypes.POINTER(ProfileStruct)), "seed": (None, pointer, word),
        "fault": (None, pointer, word, word, number, number, number),
        "clear_faults": (None, pointer), "freeze": (None, pointer, number, ctypes.c_int64),
        "thaw": (None, pointer),
        "statistics": (None, pointer, ctypes.POINTER(word)), "clear_statistics": (None, pointer),
        "violations": (word, pointer, ctypes.POINTER(ctypes.c_char_p)),
        "clear_violations": (None, pointer),
    }
    for name, (result, *arguments) in signatures.items():
        function = getattr(library, f"bench_{name}")
        function.restype, function.argtypes = result, arguments
    return library
