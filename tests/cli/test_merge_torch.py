"""`dwalign merge` on networks of torch that were trained here: two files become one, far ahead of their average.

MLPs, CNNs and residual networks start from seeds of their own. Two ViTs, which permutations alone do not bring together
from there, share their first steps, and the units of one are then shuffled: their average is as poor, and what has to
be found is known.
"""

import json

import numpy as np
import pytest

import dwalign
from dwalign.cli import main
from tests.nights import long

torch = pytest.importorskip("torch")
pytest.importorskip("torchax")
nn = torch.nn
# beside other tests more threads only wait for one another
torch.set_num_threads(1)

SPLIT = 1200


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip

    def forward(self, x):
        return torch.relu(x + self.body(x))


class ViT(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.patch = nn.Conv2d(1, width, 2, 2)
        self.place = nn.Parameter(0.1 * torch.randn(1, 16, width))
        self.block = nn.TransformerEncoderLayer(width, 2, 48, dropout=0.0, batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x):
        x = self.block(self.patch(x).flatten(2).transpose(1, 2) + self.place)
        return self.head(self.norm(x).mean(1))


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 10))


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(384, 10),
    )  # fmt: skip


def resnet():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        Residual(32), nn.Flatten(), nn.Linear(512, 10),
    )  # fmt: skip


NETWORKS = {"mlp": mlp, "cnn": cnn, "resnet": resnet, "vit": ViT}
LINES = """
import numpy as np
from tests.cli.test_merge_torch import NETWORKS

def with_inputs(make):
    return lambda: (make(), np.zeros((2, 1, 8, 8), np.float32))

mlp, cnn, resnet, vit = map(with_inputs, NETWORKS.values())
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("digits")
    images, labels = load_digits(return_X_y=True)
    images = (images / 16 - 0.3).astype(np.float32).reshape(-1, 1, 8, 8)
    np.savez(folder / "train.npz", inputs=images[:SPLIT], labels=labels[:SPLIT])
    np.savez(folder / "test.npz", inputs=images[SPLIT:], labels=labels[SPLIT:])
    (folder / "nets.py").write_text(LINES)
    return folder


def train(module, folder, seed, epochs):
    data = np.load(folder / "train.npz")
    inputs, labels = torch.tensor(data["inputs"]), torch.tensor(data["labels"])
    torch.manual_seed(seed)
    optimiser = torch.optim.Adam(module.parameters(), 3e-3)
    for _ in range(epochs):
        for index in torch.randperm(SPLIT).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(inputs[index]), labels[index]).backward()
            optimiser.step()
    return module.eval()


def pair(name, folder):
    """Two trained modules."""
    torch.manual_seed(0)
    one, two = NETWORKS[name](), NETWORKS[name]()
    if name != "vit":
        return train(one, folder, 1, 6), train(two, folder, 2, 6)
    train(one, folder, 1, 4)
    two.load_state_dict(one.state_dict())
    one, two = train(one, folder, 2, 2), train(two, folder, 3, 2)
    network, params = dwalign.from_model(two, np.zeros((2, 1, 8, 8), np.float32))
    shuffled = dwalign.permute(network.spec, params, dwalign.random_perms(network.spec, np.random.default_rng(0)))
    return one, dwalign.into_model(two, shuffled)


@pytest.mark.parametrize("name", ["resnet", "vit", *long("mlp", "cnn")])
def test_two_networks_become_one(name, folder, monkeypatch, capsys):
    from safetensors.torch import load_file, save_file

    monkeypatch.chdir(folder)
    a, b = pair(name, folder)
    for module, file in ((a, f"{name}-a.safetensors"), (b, f"{name}-b.safetensors")):
        save_file(module.state_dict(), file, metadata={"format": "pt"})
    method = "activation_matching_correlation" if name == "resnet" else "weight_matching"
    common = ["--network", f"nets.py:{name}"]
    files = [f"{name}-a.safetensors", f"{name}-b.safetensors"]

    assert main(["align", *files, *common, "--method", "weight_matching", "-o", f"{name}-b-as-a.safetensors"]) == 0
    images = torch.tensor(np.load("test.npz")["inputs"])
    with torch.no_grad():
        before = b(images)
        b.load_state_dict(load_file(f"{name}-b-as-a.safetensors"))
        after = b(images)
    assert torch.allclose(before, after, atol=1e-5 * float(before.abs().max()))

    capsys.readouterr()
    data = ["--data", "train.npz", "--test", "test.npz", "--json"]
    assert main(["merge", *files, *common, "--method", method, *data, "-o", f"{name}.safetensors"]) == 0
    judged = json.loads(capsys.readouterr().out)["judged"]
    ends = sum(judged[file]["loss"] for file in files) / 2
    plain, merged = (judged[key]["loss"] - ends for key in ("average without matching", "merged"))
    assert plain > 0.2 and merged < plain / 2

    # the file is one of torch's own, and the figures are those that torch finds
    a.load_state_dict(load_file(f"{name}.safetensors"))
    with torch.no_grad():
        found = float((a.eval()(images).argmax(1).numpy() == np.load("test.npz")["labels"]).mean())
    assert found == pytest.approx(judged["merged"]["accuracy"], abs=0.005)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.up, self.head = nn.Embedding(7, 4), nn.Linear(4, 6), nn.Linear(4, 7, bias=False)
        self.down, self.head.weight = nn.Linear(6, 4), self.words.weight

    def forward(self, tokens):
        return self.head(self.down(torch.relu(self.up(self.words(tokens)))))


def test_files_may_hold_what_is_tied_once_or_as_copies(tmp_path, monkeypatch):
    from safetensors.torch import load_file, save_file, save_model

    monkeypatch.chdir(tmp_path)
    lines = "import numpy as np\nfrom tests.cli.test_merge_torch import Tied\n"
    (tmp_path / "nets.py").write_text(lines + "tied = lambda: (Tied(), np.arange(6).reshape(2, 3))\n")
    a, b, tokens = Tied(), Tied(), torch.arange(6).reshape(2, 3)
    save_file({f"module.{name}": value.clone() for name, value in a.state_dict().items()}, "a.safetensors")
    save_model(b, "b.safetensors")
    assert "words.weight" not in load_file("b.safetensors")

    for files, model, prefix in (("ab", b, ""), ("ba", a, "module.")):
        files = [f"{name}.safetensors" for name in files]
        assert (
            main(["align", *files, "--network", "nets.py:tied", "--certify", "no", "-o", f"{prefix}o.safetensors"]) == 0
        )
        written, other = load_file(f"{prefix}o.safetensors"), Tied()
        assert list(written) == list(load_file(files[1]))
        other.load_state_dict({name.removeprefix(prefix): value for name, value in written.items()}, strict=False)
        assert torch.allclose(other(tokens), model(tokens), atol=1e-6)
        assert not torch.equal(other.up.weight, model.up.weight)


def small():
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))


def test_files_of_fewer_bits_run_as_the_model_holds_them(folder, monkeypatch):
    from safetensors.torch import load_file, save_file

    monkeypatch.chdir(folder)
    (folder / "one.py").write_text("from tests.cli.test_merge_torch import small\n")
    modules = small(), small().half()
    for module, file in zip(modules, ("wide.safetensors", "narrow.safetensors"), strict=True):
        save_file(module.state_dict(), file)
    common = ["--network", "one.py:small", "--data", "test.npz", "--method", "activation_matching", "--certify", "no"]
    assert main(["align", "wide.safetensors", "narrow.safetensors", *common, "-o", "narrow-as-wide.safetensors"]) == 0
    assert main(["merge", "narrow.safetensors", "wide.safetensors", *common, "-o", "both.safetensors"]) == 0
    kinds = {name: value.dtype for name, value in modules[1].state_dict().items()}
    for file in ("narrow-as-wide.safetensors", "both.safetensors"):
        assert {name: value.dtype for name, value in load_file(file).items()} == kinds
    # not a number has changed but for its place
    sums = [{n: float(v.double().sort().values.sum()) for n, v in of.items() if v.ndim == 1} for of in (
        modules[1].state_dict(), load_file("narrow-as-wide.safetensors"))]  # fmt: skip
    assert sums[0] == sums[1]
