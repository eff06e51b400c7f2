"""What a training step's image is made of, in bytes by kind."""

from compiler.checkpoints.description import Transformer
from compiler.program.tensor import Tensor
from compiler.training.programs.lower import TrainingProgram

__all__ = ["bytes_by_kind", "full_bf16_bytes"]

_SHARED = "temporary values"
_KINDS = ("weights", "weights without adapters", "masters, gradients, optimiser",
          "activations", "batch", "scales", "programs", "alignment")


def bytes_by_kind(program: TrainingProgram) -> dict[str, int]:
    """Bytes of the image by kind; they add up to its size.

    ``weights``: all that the forward pass reads but the batch; ``weights without adapters``: of
    matrices that have one. ``activations``: what is kept for the backward pass and all other
    tensors that share memory.
    """
    own, batch = program.tensors, program.batch
    state = own.state
    kinds: dict[int, str] = {}

    def mark(kind: str, *tensors: Tensor | None) -> None:
        kinds.update({tensor.address: kind for tensor in tensors if tensor is not None})

    mark("weights without adapters", *(merge.plain for merge in own.merges))
    mark("masters, gradients, optimiser", state.gradient, state.high, state.low, state.moved,
         state.room, state.first, state.second, own.trained, own.squares,
         own.groups)
    mark("batch", *batch.inputs, batch.segments, batch.labels, batch.lengths, batch.masks,
         batch.valid, batch.rows, batch.counted)
    tables = own.tables
    mark("scales", tables.table, tables.history, tables.shifted, tables.words, tables.up,
         tables.down, tables.constants, tables.products, own.largest)
    found = dict.fromkeys(_KINDS, 0)
    image = program.image
    block = next(tensor for tensor in image.tensors if tensor.name == _SHARED)
    apart = {tensor.address: tensor for tensor in image.tensors if not _inside(tensor, block)}
    for tensor in apart.values():
        kind = kinds.get(tensor.address, "weights")
        found["programs" if tensor.name.startswith("program ") else kind] += tensor.span
    found["activations"] = block.span
    found["programs"] += image.base + image.memory.size - program.update
    found["alignment"] = image.memory.size - sum(found.values())
    return found


def _inside(tensor: Tensor, block: Tensor) -> bool:
    return block.address <= tensor.address < block.address + block.span


def full_bf16_bytes(parameters: int, model: Transformer, sequences: int, length: int) -> int:
    """What full training in BF16 with AdamW takes: 8 bytes a parameter, and of each layer
    16 d + 4 F + 2 H S a position."""
    block = model.blocks[0]
    hidden = len(block.feed_forward.up.weight)
    each = 16 * model.width + 4 * hidden + 2 * block.attention.heads * length
    return 8 * parameters + each * sequences * length * len(model.blocks)
