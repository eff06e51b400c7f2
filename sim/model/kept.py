"""Compiled code that is kept between processes, and run without numba: ``Kept``.

numba compiles a loop the first time that it is called with arguments of its types. To import
numba and to load what it keeps itself takes half a second of each process, more than many a
program's run; so its machine code is kept here, and loaded by llvmlite alone. A file's name says
what the code follows from: the text of ``sim/model/loops.py``, the types, the processor and the
system, the versions of numba and llvmlite.

``compiled`` is for what is called too seldom for that: numba keeps its code in the same folder.
"""

import ctypes
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import cache, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Kept", "compiled", "folder"]

_LOOPS = Path(__file__).with_name("loops.py")
_NAME = "loop"
_DIGEST = hashlib.sha256().digest_size
# Of an argument: numpy's letter for its items, and how many dimensions an array has.
Type = tuple[str, int | None]
_REAL, _WHOLE, _NONE = ("d", None), ("q", None), ("", None)
_COMPILING = threading.RLock()
_NOTHING = {0, -2}  # what numba's native functions give where nothing went wrong


@cache
def folder() -> Path | None:
    """Where compiled code is kept: ``$NUMBA_CACHE_DIR``, ``numba/`` of ``$OTTAVA_BUILD``, or the
    user's cache, never next to the sources; ``None`` where nothing can be: every process compiles
    anew."""
    build = os.environ.get("OTTAVA_BUILD")
    own = Path(build) if build else Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ottava")
    found = Path(os.environ.get("NUMBA_CACHE_DIR") or own / "numba").resolve()
    try:
        found.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=found).close()
    except OSError:
        return None
    return found


def compiled(function: Callable) -> Callable:
    """``function``, compiled on its first call by numba, which compiles anew where a source
    changes."""
    @cache
    def native() -> Callable:
        import numba

        where = folder()
        if where is None:
            return numba.njit(error_model="numpy", nogil=True)(function)
        # numba chooses the folder of a function, and makes it, when it is decorated.
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(where)
        try:
            return numba.njit(cache=True, error_model="numpy", nogil=True)(function)
        finally:
            numba.config.CACHE_DIR = before

    @wraps(function)
    def called(*arguments: Any) -> Any:
        return native()(*arguments)

    return called


class Kept:
    """The function ``name`` of ``sim.model.loops``, for arrays in C order, numbers and ``None``.
    It gives nothing, and lets other threads run."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._found: dict[tuple[Type, ...], Callable[..., int]] = {}

    def __call__(self, *arguments: Any) -> None:
        types: list[Type] = []
        words: list[Any] = []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                assert argument.flags.c_contiguous, f"{self._name} takes arrays in C order"
                types.append((argument.dtype.char, argument.ndim))
                words += [argument.__array_interface__["data"][0], *argument.shape]
            elif argument is None:
                types.append(_NONE)
            else:
                types.append(_REAL if isinstance(argument, float) else _WHOLE)
                words.append(argument)
        key = tuple(types)
        native = self._found.get(key)
        if native is None:
            with _COMPILING:
                native = self._found[key] = _native(self._name, key)
        result, error = ctypes.c_void_p(), ctypes.c_void_p()
        status = native(ctypes.addressof(result), ctypes.addressof(error), *words)
        assert status in _NOTHING, f"{self._name} gave {status}"


def _native(name: str, types: Sequence[Type]) -> Callable[..., int]:
    """Loaded, from what is kept where it is whole."""
    code = _read(path := _path(name, types))
    if code is None:
        code = _code(name, types)
        _write(path, code)
    address = _engine().load(code)
    words: list[Any] = [ctypes.c_void_p, ctypes.c_void_p]
    for char, dimensions in types:
        if dimensions is not None:
            words += [ctypes.c_void_p, *[ctypes.c_int64] * dimensions]
        elif char:
            words.append(ctypes.c_double if char == "d" else ctypes.c_int64)
    return ctypes.CFUNCTYPE(ctypes.c_int32, *words)(address)


def _path(name: str, types: Sequence[Type]) -> Path | None:
    where = folder()
    if where is None:
        return None
    told = (_sources(), name, *types)
    return where / f"{name}-{hashlib.sha256(repr(told).encode()).hexdigest()[:24]}.o"


@cache
def _sources() -> tuple[str, ...]:
    """What all code follows from."""
    numba = find_spec("numba")  # found, not imported
    assert numba is not None and numba.origin is not None, "numba is a dependency of sim"
    texts = _LOOPS, Path(__file__), Path(numba.origin).with_name("_version.py")
    return (hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest(),
            *_engine().sources)


def _read(path: Path | None) -> bytes | None:
    """Code, whose digest stands before it; ``None`` where there is none or it is not whole."""
    try:
        data = b"" if path is None else path.read_bytes()
    except OSError:
        return None
    code = data[_DIGEST:]
    return code if code and hashlib.sha256(code).digest() == data[:_DIGEST] else None


def _write(path: Path | None, code: bytes) -> None:
    """At once or not at all: other processes read it."""
    if path is None:
        return
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            file.write(hashlib.sha256(code).digest() + code)
        part.replace(path)
    except OSError:  # a full disk, a folder that is gone: the next process compiles anew
        if part is not None:
            part.unlink(missing_ok=True)


def _code(name: str, types: Sequence[Type]) -> bytes:
    """The machine code of one function, ``_NAME``, compiled by numba."""
    import llvmlite.binding as llvm
    from numba import carray, cfunc, from_dtype, njit
    from numba import types as numba_types

    from sim.model import loops

    words: list[str] = []  # of the native function: an array is a pointer and its shape
    given: list[str] = []
    signature: list[Any] = []
    for number, (char, dimensions) in enumerate(types):
        if dimensions is not None:
            shape = [f"n{number}_{axis}" for axis in range(dimensions)]
            words += [f"x{number}", *shape]
            given.append(f"carray(x{number}, ({', '.join(shape)},))")
            signature += [numba_types.CPointer(from_dtype(np.dtype(char))),
                          *[numba_types.int64] * len(shape)]
        elif not char:
            given.append("None")
        else:
            words.append(f"x{number}")
            given.append(f"x{number}")
            signature.append(from_dtype(np.dtype(char)))
    # Inlined, counting references to arrays comes to nothing.
    inner = njit(error_model="numpy", forceinline=True)(getattr(loops, name))
    entry = eval(f"lambda {', '.join(words)}: inner({', '.join(given)})",
                 {"inner": inner, "carray": carray})
    made = cfunc(numba_types.void(*signature), error_model="numpy")(entry)
    # The wrapper for callers of C asks for Python's lock and for numba's helpers; the function
    # itself, which it calls, needs neither.
    module = llvm.parse_assembly(made.inspect_llvm())
    for function in module.functions:
        if not function.is_declaration:
            function.linkage = "internal"
    native = module.get_function(made.native_name.removeprefix("cfunc."))
    native.linkage, native.name = "external", _NAME
    return _engine().compile(module)


class _Engine:
    """Loads code into this process."""

    def __init__(self) -> None:
        import llvmlite
        import llvmlite.binding as llvm

        self._llvm = llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self._processor = llvm.get_host_cpu_name()
        self._features = llvm.get_host_cpu_features().flatten()
        self.sources = (llvm.get_process_triple(), self._processor, self._features,
                        llvmlite.__version__)
        self._engines: list[Any] = []  # code lives as long as its engine does

    def _machine(self) -> Any:
        """A new one: an engine owns what it is made with."""
        return self._llvm.Target.from_default_triple().create_target_machine(
            cpu=self._processor, features=self._features, opt=3, jit=True)

    def compile(self, module: Any) -> bytes:
        """Machine code of what ``module`` has that is called from outside."""
        machine, passes = self._machine(), self._llvm.create_new_module_pass_manager()
        passes.add_global_dead_code_eliminate_pass()
        passes.run(module, self._llvm.create_pass_builder(
            machine, self._llvm.PipelineTuningOptions()))
        # Not LLVM's table of names, in which numba's helpers are now: the next process lacks them.
        libraries = ctypes.CDLL(None)
        missing = [function.name for function in module.functions if function.is_declaration
                   and not function.name.startswith("llvm.")
                   and not hasattr(libraries, function.name)]
        assert not missing, f"a loop must need nothing of numba when it runs, not {missing}"
        return machine.emit_object(module)

    def load(self, code: bytes) -> int:
        """The address of ``_NAME``."""
        engine = self._llvm.create_mcjit_compiler(self._llvm.parse_assembly(""), self._machine())
        engine.add_object_file(self._llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        self._engines.append(engine)
        return engine.get_function_address(_NAME)


@cache
def _engine() -> _Engine:
    return _Engine()
