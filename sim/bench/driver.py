"""The C driver of a build on a bench: compiled, loaded, its registers those of the design."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cocotb.task import bridge, resume

from gen.package.driver import driver
from gen.regmap import register_map
from hdl.spec.config import AcceleratorConfig
from sim.bench.client import Client

__all__ = ["BUSY", "FAILED", "OK", "OTHER_BUILD", "Driver"]

OK, OTHER_BUILD, BUSY, _, FAILED, _ = range(6)

_READ = ctypes.CFUNCTYPE(ctypes.c_uint32, ctypes.c_void_p, ctypes.c_uint32)
_WRITE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)
_RANGE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)
_PAUSE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# The functions are static inline: a library needs names of its own.
_SHIM = """\
#include "ottava_driver.h"
int identify(const struct ottava_device *d) { return ottava_identify(d); }
int start(const struct ottava_device *d, uint64_t address, uint64_t first, uint64_t bytes) {
  return ottava_start(d, address, first, bytes);
}
int run(const struct ottava_device *d, uint64_t address, uint64_t first, uint64_t bytes) {
  return ottava_run(d, address, first, bytes, 0);
}
uint32_t error(const struct ottava_device *d, uint64_t *address) {
  return ottava_error(d, address);
}
const char *error_text(uint32_t causes) { return ottava_error_text(causes); }
const char *error_client(const struct ottava_device *d) { return ottava_error_client(d); }
uint64_t count(const struct ottava_device *d, int counter) {
  return ottava_count(d, (enum ottava_counter)counter);
}
void stop(const struct ottava_device *d) { ottava_stop(d); }
int wait_for(const struct ottava_device *d) { return ottava_wait(d, 0, 0, 0); }
"""
_FLAGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function")


class _Device(ctypes.Structure):
    _fields_ = (("read", _READ), ("write", _WRITE), ("flush", _RANGE), ("discard", _RANGE),
                ("pause", _PAUSE), ("context", ctypes.c_void_p))


class Driver:
    """The driver of ``config``, whose device is what ``client`` is the master of.

    ``ranges``: what was flushed and discarded, in order.
    """

    def __init__(self, client: Client, config: AcceleratorConfig) -> None:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            (folder / "ottava.h").write_text(register_map("h", config))
            (folder / "ottava_driver.h").write_text(driver(config))
            (folder / "shim.c").write_text(_SHIM)
            subprocess.run(["g++", "-x", "c", *_FLAGS, "-shared", "-fPIC", "-o",
                            folder / "driver.so", folder / "shim.c"], check=True)
            self._library = ctypes.CDLL(str(folder / "driver.so"))
        for name, kind in (("error_text", ctypes.c_char_p), ("error_client", ctypes.c_char_p),
                           ("count", ctypes.c_uint64), ("error", ctypes.c_uint32)):
            getattr(self._library, name).restype = kind
        self.ranges: list[tuple[str, int, int]] = []

        @resume
        async def read(offset: int) -> int:
            return await client.host.read_dword(offset)

        @resume
        async def write(offset: int, value: int) -> None:
            await client.host.write_dword(offset, value)

        def noted(what: str) -> Callable[..., None]:
            return lambda _, address, count: self.ranges.append((what, address, count))

        self._device = _Device(_READ(lambda _, offset: read(offset)),
                               _WRITE(lambda _, offset, value: write(offset, value)),
                               _RANGE(noted("flush")), _RANGE(noted("discard")), _PAUSE(), None)

    async def call(self, name: str, *arguments: Any) -> Any:
        """Result of the function ``name``, which takes as long as its accesses."""
        def called() -> Any:
            return getattr(self._library, name)(ctypes.byref(self._device), *arguments)

        return await bridge(called)()

    async def error(self) -> tuple[int, int]:
        """The causes, and the address that the first belongs to."""
        address = ctypes.c_uint64()
        causes = await self.call("error", ctypes.byref(address))
        return causes, address.value

    def error_text(self, causes: int) -> str:
        return self._library.error_text(ctypes.c_uint32(causes)).decode()
