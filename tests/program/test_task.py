"""A task says which outputs and labels it can judge, also from inside a traced function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.program import CLASSIFICATION, Data, check_task, correct, cross_entropy, log_loss


def check(params, labels):
    data = Data(jnp.ones((2, 3)), labels)
    check_task("here", CLASSIFICATION, lambda params, x: x @ params, params, data)


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_labels_that_are_known_are_judged_where_params_are_traced(array):
    right, wrong = array([0, 1]), array([0, 2])
    jax.jit(lambda params: check(params, right))(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match="classes of the outputs, 0 to 1, found 0 to 2"):
        jax.jit(lambda params: check(params, wrong))(jnp.ones((3, 2)))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_probabilities_are_told_from_logits(dtype):
    logits = np.random.default_rng(0).normal(size=(7, 4, 50)).astype(np.float32) * 4
    labels = logits.argmin(-1)
    loss = jax.jit(jax.value_and_grad(lambda x: log_loss(x.astype(dtype), labels)))
    (value, slope), found = loss(logits), loss(jax.nn.softmax(logits))
    np.testing.assert_allclose(value, cross_entropy(logits, labels), rtol=1e-2)
    np.testing.assert_allclose(found[0], value, rtol=1e-2)
    assert abs(slope).max() < 1 < abs(found[1]).max() < np.inf
    # of a network that is sure, and wrong
    assert np.isfinite(jax.tree.leaves(loss(np.eye(50, dtype=np.float32)[labels - 1]))[0])


def test_sequences_count_by_the_share_that_is_right():
    """Judged as one long list of labels, each example by its own."""
    random = np.random.default_rng(0)
    outputs, labels = random.normal(size=(5, 4, 3)), random.integers(0, 3, (5, 4))
    flat = correct(jnp.asarray(outputs).reshape(20, 3), labels.ravel())
    assert set(flat.tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(correct(outputs, labels), flat.reshape(5, 4).mean(1))
    whole = cross_entropy(outputs.reshape(20, 3), labels.ravel())
    np.testing.assert_allclose(cross_entropy(outputs, labels), whole, rtol=1e-6)
    check_task("here", CLASSIFICATION, lambda params, x: x, (), Data(jnp.asarray(outputs), labels))
    with pytest.raises(ValueError, match=r"labels of shape \(5, 4\) for outputs \(5, 4, 3\), found int32 \(5,\)"):
        check_task("here", CLASSIFICATION, lambda params, x: x, (), Data(jnp.asarray(outputs), labels[:, 0]))
