"""The error function, whose values GELU's are made of."""

import math

import numpy as np

from compiler.checkpoints.functions import erf


def test_the_error_function_is_the_library_s_however_many_values_there_are():
    x = np.concatenate([np.linspace(-7, 7, 5000), [0.0, -0.0, 1e-310, np.inf, -np.inf, np.nan]])
    wanted = np.array([math.erf(item) for item in x.tolist()])
    for count in (len(x), 1000):
        assert erf(x[-count:]).tobytes() == wanted[-count:].tobytes()
    assert erf(x[:24].reshape(4, 6)).shape == (4, 6)
    print(f"{len(x)} values")
