"""A task says which outputs and labels it can judge, also from inside a traced function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import CLASSIFICATION, Data, check_task


def check(params, labels):
    data = Data(jnp.ones((2, 3)), labels)
    check_task("here", CLASSIFICATION, lambda params, x: x @ params, params, data)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_labels_that_are_known_are_judged_where_params_are_traced(array):
    right, wrong = array([0, 1]), array([0, 2])
    jax.jit(lambda params: check(params, right))(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="classes of the outputs, 0 to 1, found 0 to 2"):
        jax.jit(lambda params: check(params, wrong))(jnp.ones((3, 2)))
