"""What a program's image takes, and what the same model would in fp32."""

from collections import Counter

from compiler.lowering.programs import Programs
from compiler.program.lowered import LoweredProgram
from compiler.work import Work
from hdl.spec.config import AcceleratorConfig

__all__ = ["against_fp32", "sizes_of"]

_KINDS = ("weights", "scales", "other constants", "results", "temporary values")


def sizes_of(program: LoweredProgram) -> Counter[str]:
    """Bytes of the image's tensors by what they are for: ``weights`` are constants of the format or
    whose codes have scales, ``scales`` what their rows count; gaps belong to none."""
    sizes, image = Counter[str](), program.image
    items = {scale.items.address: scale.items for scale in image.scales.values()
             if scale.items is not None}
    codes = {encoding.name for encoding in image.config.format.encodings}
    for tensor in {tensor.address: tensor for tensor in image.tensors}.values():
        within = sum(own.span for own in items.values()
                     if tensor.address <= own.address < tensor.address + tensor.span)
        kind = ("results" if tensor.name in program.results else
                "temporary values" if tensor.name == "temporary values" else
                "weights" if tensor.encoding.name in codes else "other constants")
        sizes[kind] += tensor.span - within
        sizes["scales"] += within
    return sizes


def against_fp32(work: Work) -> str:
    """The image's bytes but for the program's own, by kind, and their share of what the model takes
    in fp32: twice what the image of a ``bf16`` build takes, which holds the same tensors."""
    config = work.config
    plain = AcceleratorConfig("bf16", dim=config.dim, lanes=config.lanes)
    wide = Programs(plain, work.model, level=work.level, layers=work.layers).lower(
        work.inputs, work.step_lengths)
    own, other = sizes_of(work.program), sizes_of(wide)
    parts = ", ".join(f"{own[kind]} {kind}" for kind in _KINDS)
    total, whole = sum(own.values()), 2 * sum(other.values())
    return (f"memory: {parts}: {total} bytes, {total / whole:.4f} of {whole} in fp32")
