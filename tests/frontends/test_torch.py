"""Modules of torch: the state dict in, the module itself out."""

import copy
import functools
import warnings
from itertools import pairwise

import chex
import jax
import numpy as np
import pytest

import dwalign
from tests import drawn
from tests.frontends import laws

torch = pytest.importorskip("torch")
pytest.importorskip("torchax")
nn = torch.nn
X = drawn.normal(8, 2, 5, 5)


class Net(nn.Module):
    """A norm, a dropout, a recurrence, a tied layer, a table outside of the state dict, a memory of the last call."""

    def __init__(self, momentum=0.1):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6, momentum=momentum), nn.Dropout(0.5)
        self.core = nn.LSTM(6, 5, batch_first=True)
        self.one, self.two, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.two.weight = self.one.weight
        self.register_buffer("table", torch.arange(9.0)[:, None], persistent=False)
        self.last = None

    def forward(self, x):
        x = self.drop(torch.relu(self.norm(self.conv(x)))).flatten(2).transpose(1, 2)
        self.last = self.core(x + torch.sin(self.table))[0].mean(1)
        return self.out(self.two(torch.relu(self.one(self.last))))


def made(**options):
    torch.manual_seed(0)
    model = Net(**options)
    model(torch.tensor(X))
    return model


def evaluated(model):
    training = model.training
    outputs = model.eval()(torch.tensor(X)).detach().numpy()
    model.train(training)
    return outputs


def test_a_module_with_all_of_these():
    model, same = made(), made()
    net, params = dwalign.from_model(model, torch.tensor(X))
    assert model.training and model.last.grad_fn is not None
    for one, two in zip(model.state_dict().values(), same.state_dict().values(), strict=True):
        assert one.device.type == "cpu" and (one == two).all()
    assert "one.weight" in params and not {"two.weight", "table"} & params.keys()

    # of a second module only the params are asked for
    other = dwalign.frontends.open_model(same).params
    assert all(np.array_equal(params[name], other[name]) for name in params | other)

    net, params = laws.there_and_back(model, X, answer=evaluated)
    assert model.two.weight is model.one.weight and model.norm.num_batches_tracked.dtype == torch.int64
    assert set(net.spec.sizes.values()) == {6, 5}


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_those_of_torch(momentum):
    model = made(momentum=momentum)
    net, params = dwalign.from_model(model, X)
    params = laws.varied(params)
    dwalign.into_model(model, params)
    outputs, new = jax.jit(net.train)(params, X)

    # in torch's own way: forget what was, and see these inputs once
    model.norm.reset_running_stats()
    model.norm.momentum = 1.0
    model.drop.eval()
    np.testing.assert_allclose(model(torch.tensor(X)).detach(), outputs, atol=1e-5)
    for name, array in new.items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(array, model.state_dict()[name].detach(), atol=1e-6, err_msg=name)
    assert np.abs(params["norm.running_var"] - new["norm.running_var"]).max() > 1e-2


def test_one_aligner_for_modules_and_for_our_own():
    sizes = (784, 5, 4, 3, 10)
    layers = [layer for m, n in pairwise(sizes) for layer in (nn.Linear(m, n), nn.ReLU())]
    theirs, params = dwalign.from_model(nn.Sequential(*layers[:-1]), torch.zeros(2, 784))
    linear = iter(sorted(params, key=lambda name: (int(name.partition(".")[0]), name.endswith("weight"))))
    ours = dwalign.networks.mlp(784, sizes[1:-1], 10)
    # bias before kernel, layer by layer, in both
    same = jax.tree.map(lambda _: params[next(linear)].T, ours.params)
    found, expected = (
        jax.jit(functools.partial(aligner.model.apply, method="encode"))(aligner.variables, v)
        for net, v in ((theirs, params), (ours, same))
        for aligner in [dwalign.load_aligner("mnist", network=net)]
    )
    chex.assert_trees_all_close(found, expected, rtol=1e-4, atol=1e-4)


def test_narrow_numbers_keep_their_type():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2)).to(torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    params = dwalign.frontends.open_model(model, X).params
    assert {leaf.dtype.name for leaf in params.values()} == {"bfloat16"}
    for tensor in model.parameters():
        tensor.data.zero_()
    after = dwalign.into_model(model, params).state_dict()
    assert all(after[name].dtype == torch.bfloat16 and (after[name] == before[name]).all() for name in before)


def test_params_of_another_module_are_refused():
    model = nn.Linear(5, 2)
    with pytest.raises(ValueError, match="must hold the arrays"):
        dwalign.into_model(model, {"weight": np.zeros((2, 5))})
    laws.other_shapes_are_refused(model, drawn.normal(8, 5))


def test_torch_counts_in_int64_without_a_warning():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(5, 2)

        def forward(self, x):
            return self.out(x * torch.arange(x.shape[1], device=x.device).to(torch.int64))

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        dwalign.from_model(Counting(), drawn.normal(8, 5))


def places(module, x):
    return module.up(x) + module.embed(torch.arange(len(x)))


def written_into(module, x):
    made = torch.zeros(len(x), 6)
    for k in range(6):
        made[:, k] = module.up(x)[:, 5 - k]
    return made


def held(module, x):
    return module.up(x) * module.scale + torch.from_numpy(np.ones(6, np.float32))


def asked_for(module, x):
    return module.up(x) * torch.tensor(3.0).item() * sum(int(k) for k in torch.arange(3)) if torch.ones(1) > 0 else x


def identity(module, x):
    return module.up(x) @ torch.eye(6)


@pytest.mark.parametrize("constants", [places, written_into, held, asked_for, identity])
def test_constants_need_no_device(constants):
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.embed, self.down = nn.Linear(5, 6), nn.Embedding(9, 6), nn.Linear(6, 2)
            self.scale = torch.ones(6)

        def forward(self, x):
            return self.down(torch.relu(constants(self, x)))

    module, x = Module().eval(), drawn.normal(4, 5)
    net, params = dwalign.from_model(module, x)
    assert dict(net.spec.sizes) == ({} if constants is written_into else {"h0": 6})
    np.testing.assert_allclose(net.apply(params, x), module(torch.tensor(x)).detach(), atol=1e-6)


def test_a_mask_may_be_asked_whether_it_is_causal():
    class Causal(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), 1)

        def forward(self, x):
            return self.body(x, mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1])).mean(1)

    module, x = Causal().eval(), drawn.normal(2, 3, 4)
    net, params = dwalign.from_model(module, x)
    assert sorted(net.spec.sizes.values()) == [2, 2, 2, 6]
    np.testing.assert_allclose(net.apply(params, x), module(torch.tensor(x)).detach(), atol=1e-5)


def test_what_is_drawn_is_drawn_again():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(5, 2)

        def forward(self, x):
            return self.out(x + torch.randn_like(x) + torch.randn(4, 5))

    x = drawn.normal(4, 5)
    net, params = dwalign.from_model(Noisy(), x)
    np.testing.assert_allclose(net.apply(params, x), jax.jit(net.apply)(params, x), rtol=1e-5)


def test_errors_name_the_line_of_the_model():
    class Wrong(nn.Module):
        def forward(self, x):
            return torch.zeros(3) + x @ x

    line = Wrong.forward.__code__.co_firstlineno + 1
    with pytest.raises(dwalign.InferenceError, match=rf"\(at test_torch\.py:{line}\)"):
        dwalign.from_model(Wrong(), drawn.normal(4, 5))


def test_a_state_dict_may_be_given():
    model, other = made(), made()
    with torch.no_grad():
        other.out.bias += 1
    (net, params), own = dwalign.from_model(model, X, params=other.state_dict()), dwalign.from_model(other, X)[1]
    assert params.keys() == own.keys() and all(np.array_equal(params[name], own[name]) for name in own)
    assert dwalign.frontends.ties(model) == {"two.weight": "one.weight"}
    with pytest.raises(ValueError, match=r"arrays of this module: missing nothing, unexpected \['more'\]; choose"):
        dwalign.from_model(model, X, params={**other.state_dict(), "more": torch.ones(1)})
    for given in (other.state_dict(), {name: other.state_dict()[name] for name in own}):
        with pytest.raises(dwalign.SpecError, match=r"found one of type torch\..*those of a model are .*open_model"):
            dwalign.align(net, params, given)


def test_shapes_are_those_of_the_params():
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)).bfloat16()
    _, params = dwalign.from_model(module, jax.numpy.zeros((2, 3), jax.numpy.bfloat16))
    shapes = dwalign.frontends.shapes_of(module)
    same = jax.tree.map(lambda shape, leaf: (shape.shape, shape.dtype) == (leaf.shape, leaf.dtype), shapes, params)
    assert all(same.values())
