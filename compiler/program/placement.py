"""Where tensors lie in a memory image, and what they hold at first."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from compiler.program.code_scale import CodeScale
from compiler.program.tensor import INDICES, IndexEncoding, Tensor
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, Encoding
from sim.model import codec

__all__ = ["Placement"]


class Placement:
    """Tensors for a build of ``config``, one after the other from address ``base`` on."""

    def __init__(self, config: AcceleratorConfig, base: int) -> None:
        self.config = config
        self.base = base
        self.tensors: list[Tensor] = []
        self.scales: dict[int, CodeScale] = {}
        self._contents: list[tuple[Tensor, np.ndarray]] = []
        self._cursor = base

    @property
    def size(self) -> int:
        """Bytes that tensors have taken so far."""
        return self._cursor - self.base

    def encoding(self, name: str | None = None) -> Encoding:
        """``bf16`` or an encoding of the format by name; ``None``: the format's first."""
        allowed = {e.name: e for e in (*self.config.format.encodings, BF16_ENCODING)}
        if name is None:
            return self.config.format.encodings[0]
        if name not in allowed:
            raise ValueError(f"encoding must be one of {', '.join(allowed)}, not {name!r}")
        return allowed[name]

    def empty(self, rows: int, columns: int, encoding: str | None = None, *,
              stride: int | None = None, align: int | None = None, skew: int = 0,
              name: str | None = None) -> Tensor:
        """Memory for a tensor.

        ``stride``: bytes from row to row (dense by default). The address is the next multiple of
        ``align`` (the bus width by default) plus ``skew`` bytes.
        """
        return self._place(rows, columns, self.encoding(encoding), stride, align, skew, name)

    def _place(self, rows: int, columns: int, kind: Encoding | IndexEncoding,
               stride: int | None = None, align: int | None = None, skew: int = 0,
               name: str | None = None) -> Tensor:
        align = self.config.bus_bytes if align is None else align
        if align < 1 or skew < 0:
            raise ValueError(f"align must be at least 1 and skew at least 0, "
                             f"not {align!r} and {skew!r}")
        name = name or f"tensor {len(self.tensors)}"
        stride = columns * kind.bits // 8 if stride is None else stride
        address = -(-self._cursor // align) * align + skew
        tensor = Tensor(name, address, rows, columns, kind, stride)
        self._cursor = address + tensor.span
        self.tensors.append(tensor)
        return tensor

    def constant(self, values: np.ndarray, encoding: str | None = None, **placement: Any
                 ) -> Tensor:
        """A tensor that holds ``values`` (rows × columns, or one row) rounded to ``encoding``.

        ``placement`` as for ``empty``.
        """
        values = np.atleast_2d(np.asarray(values))  # encoded a part at a time, each in float64
        return self.codes(codec.encode(self.encoding(encoding), values), encoding, **placement)

    def codes(self, codes: np.ndarray, encoding: str | None = None, **placement: Any) -> Tensor:
        """A tensor that holds exactly these codes (rows × columns, or one row)."""
        codes = np.atleast_2d(np.asarray(codes))
        rows, columns = codes.shape
        tensor = self.empty(rows, columns, encoding, **placement)
        bits = tensor.encoding.bits
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < 1 << bits:
            raise ValueError(f"codes of {tensor.name} must fit {bits} bits")
        stored = np.ascontiguousarray(codes.astype("<u2" if bits == 16 else np.uint8))
        self._contents.append((tensor, stored.view(np.uint8)))
        return tensor

    def indices(self, numbers: ArrayLike, name: str | None = None) -> Tensor:
        """A column of row numbers for ``gather``; a program that runs anew may be given others."""
        numbers = np.asarray(numbers)
        if numbers.ndim != 1 or not numbers.size or numbers.dtype.kind not in "iu":
            raise ValueError(f"indices must be one row of integers, not {numbers.ndim} dimensions "
                             f"of {numbers.dtype}")
        if not 0 <= int(numbers.min()) <= int(numbers.max()) < 1 << INDICES.bits:
            raise ValueError(f"indices must fit {INDICES.bits} bits")
        tensor = self._place(numbers.size, 1, INDICES, name=name)
        self._contents.append((tensor, numbers.astype("<u4")[:, None].view(np.uint8)))
        return tensor

    def raw(self, content: bytes, align: int, name: str) -> Tensor:
        """Bytes as they are, whole words of 32 bits, at a multiple of ``align``."""
        words = np.frombuffer(content, "<u4")[None]
        tensor = self._place(1, words.size, INDICES, align=align, name=name)
        self._contents.append((tensor, words.view(np.uint8)))
        return tensor

    def counts(self, codes: Tensor, factor: float, items: Tensor | None = None) -> None:
        """Whoever reads ``codes`` is told that they count ``factor``, times what ``items`` have for
        their row (``CodeScale``). ``ValueError``."""
        scale = CodeScale(factor, items)
        scale.check(codes)
        self.scales[codes.address] = scale

    def take_over(self, other: "Placement") -> None:
        """Go on where ``other`` has come to, with all its tensors."""
        self.tensors, self._contents = other.tensors, other._contents
        self.scales = other.scales
        self._cursor = other._cursor

    def start_after(self, other: "Placement") -> None:
        """Go on where ``other`` has come to, which keeps its own tensors and may do so too."""
        self.tensors, self._contents = list(other.tensors), list(other._contents)
        self.scales = dict(other.scales)
        self._cursor = other._cursor

    def fill(self, memory: np.ndarray) -> None:
        """Write what tensors hold into the image ``memory`` (uint8, from ``base`` on)."""
        for tensor, raw in self._contents:
            tensor.window(memory, self.base)[:] = raw
