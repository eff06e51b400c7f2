"""A model by name or path as it is lowered: ``opened_model``."""

from pathlib import Path

from compiler.adapted import with_adapters
from compiler.balanced import balanced
from compiler.calibration import calibration_examples
from compiler.centred import centred
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.source import open_model
from hdl.spec.config import AcceleratorConfig

__all__ = ["opened_model"]


def opened_model(name: str, config: AcceleratorConfig | None, *, adapter: Path | None = None,
                 balance: bool = False, centring: str = "once", offline: bool = False,
                 seed: int = 0) -> Transformer:
    """As ``open_model``, with the adapters in ``adapter``, as they are merged for ``config``
    (``None``: in fp32), then balanced on ``calibration_examples``, its norms ``centred``.
    ``ValueError``, ``ModelUnavailable`` in one line."""
    model = open_model(name, offline, seed)
    if adapter is not None:
        model = with_adapters(name, model, adapter, config)
    if balance:
        model = balanced(model, calibration_examples(name, model, offline=offline, seed=seed))
    return centred(model, config, centring)
