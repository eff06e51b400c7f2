"""Gradients against central differences of the loss."""

import numpy as np

from compiler.training.gradients.network import gradients_of
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Weights

# In float64 a difference of 1e-5 leaves errors of 1e-11 of the loss: smaller gradients are zeros.
STEP, ZERO = 1e-5, 1e-8


def arrays_of(model):
    return {name: values.astype(np.float64) for name, values in parameters(model).items()}


def slopes(loss, array):
    """Central differences of ``loss(array)``, item by item."""
    found = np.zeros_like(array)
    for index in np.ndindex(*array.shape):
        ends = []
        for move in (STEP, -STEP):
            moved = array.copy()
            moved[index] += move
            ends.append(loss(moved))
        found[index] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def relative(found, true):
    """The error of an array over its norm; of what should be zero, its own norm over ``ZERO``."""
    length = np.linalg.norm(true)
    return np.linalg.norm(found - true) / length if length > ZERO else (
        np.linalg.norm(found) / ZERO * 1e-6)


def worst_parameter(model, batch, kind, numerics=None, wanted=None):
    """The name of the parameter whose gradient errs most, its relative error, and how many items
    were checked; the differences are those of the exact loss."""
    arrays, exact = arrays_of(model), Exact()
    numerics = numerics or exact
    names = list(arrays) if wanted is None else wanted
    _, gradients = gradients_of(model, Weights(arrays, numerics), numerics, batch, kind, names)
    assert gradients.keys() == set(names)
    errors, checked = {}, 0
    for name in names:
        def loss(values, name=name):
            weights = Weights(arrays | {name: values}, exact)
            return gradients_of(model, weights, exact, batch, kind, ())[0]

        assert gradients[name].shape == arrays[name].shape
        errors[name] = relative(gradients[name], slopes(loss, arrays[name]))
        checked += arrays[name].size
    worst = max(errors, key=errors.__getitem__)
    return worst, errors[worst], checked
