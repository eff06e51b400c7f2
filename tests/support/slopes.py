"""Gradients against the slopes of what they are of."""

import numpy as np
import pytest


def assert_slopes(loss, weights, gradients, move=1e-6):
    """How many ``gradients``, each of which is, where it is largest, what ``loss`` of ``weights``
    by name changes by."""
    assert gradients.keys() == weights.keys()
    for name, gradient in gradients.items():
        index = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        ends = []
        for own in (move, -move):
            moved = weights | {name: weights[name].copy()}
            moved[name][index] += own
            ends.append(loss(moved))
        # A key's bias moves all scores of a softmax's row alike: its slope is zero.
        slope = (ends[0] - ends[1]) / (2 * move)
        assert slope == pytest.approx(gradient[index], rel=1e-3, abs=1e-6), name
    return len(gradients)
