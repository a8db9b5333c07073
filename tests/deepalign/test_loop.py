"""The training loop around any step: what it keeps, what it survives, what it says; nothing here compiles."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dwalign.deepalign import CheckpointError, Checkpoints, DeepAlign, TrainState, train_aligner
from dwalign.deepalign.step import device_mesh
from dwalign.files import unsealed
from dwalign.networks import mlp
from tests.compiled import all_compilations
from tests.files.test_writing import full_disk

MODEL = DeepAlign(mlp(2, (3,), 2).spec, None)
START = TrainState(jnp.int32(0), {"params": {"w": jnp.float32(0)}}, (), jnp.int32(0))


def count(state):
    """A step whose variables and losses show how many there were."""
    after = state.step + 1
    return state._replace(step=after, variables={"params": {"w": after * 1.0}}), jnp.arange(4.0) + after


def by_step(*values):
    """The validation that gives these values at steps 2, 4, ..."""
    return lambda aligner: values[int(aligner.variables["params"]["w"]) // 2 - 1]


def train(folder, validate=by_step(3.0, 1.0, 2.0), step=count, **options):
    options = dict(steps=6, validate_every=2, folder=folder, info={}) | options
    return train_aligner(MODEL, step, START, validate=validate, **options)


def interrupted(folder, monkeypatch, name, step):
    """A run that is killed as it saves the checkpoint `name` of this step."""
    save = Checkpoints.save

    def killed(self, now, *rest):
        if (self.folder.name, now) == (name, step):
            raise KeyboardInterrupt
        save(self, now, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", killed)
        train(folder)


def test_the_best_by_validation_is_kept(tmp_path, caplog):
    trained = train(tmp_path)
    assert trained.best_step == 4 and float(trained.aligner.variables["params"]["w"]) == 4
    assert Checkpoints(tmp_path / "checkpoints" / "best", writable=False).info() == {"validation_barrier": 1.0}
    assert not caplog.messages, "who reads is not told how Orbax would write"


@pytest.mark.parametrize("name, step", [("best", 2), ("last", 2), ("best", 4), ("last", 4), ("last", 6)])
def test_killed_between_two_checkpoints(tmp_path, monkeypatch, name, step):
    whole = train(tmp_path / "whole")
    interrupted(tmp_path / "cut", monkeypatch, name, step)
    resumed = train(tmp_path / "cut", resume=True)
    assert resumed.metrics == whole.metrics and resumed.best_step == whole.best_step
    assert resumed.aligner.variables == whole.aligner.variables


def test_starting_again_removes_what_was_there(tmp_path):
    train(tmp_path)
    again = train(tmp_path, by_step(5.0, 4.0, 6.0))
    assert again.best_step == 4 and [row["validation_barrier"] for row in again.metrics] == [5, 4, 6]
    again = train(tmp_path, by_step(5.0), steps=2)
    assert again.best_step == 2 and [row["step"] for row in again.metrics] == [2]
    assert Checkpoints(tmp_path / "checkpoints" / "last").latest() == 2
    # the same step once more, which Orbax alone refuses
    assert train(tmp_path, by_step(7.0), steps=2).metrics[0]["validation_barrier"] == 7


def test_an_interrupted_replacement_is_put_back(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "a")
    checkpoints.save(1, {"w": jnp.ones(2)}, {})

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints._manager, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(1, {"w": jnp.zeros(2)}, {})
    found = Checkpoints(tmp_path / "a").restore({"w": jnp.zeros(2)})
    assert found["w"].tolist() == [1, 1]
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("part", ["losses", "variables"])
def test_divergence_is_named_before_validation(tmp_path, part):
    def diverge(state):
        after, losses = count(state)
        if int(state.step) == 3 and part == "losses":
            losses = losses.at[1].set(jnp.nan)
        if int(state.step) == 3 and part == "variables":
            after = after._replace(variables={"params": {"w": jnp.float32(jnp.inf)}})
        return after, losses

    def validate(aligner):
        assert np.isfinite(aligner.variables["params"]["w"]) and int(aligner.variables["params"]["w"]) == 2
        return 1.0

    with pytest.raises(FloatingPointError, match=r"before step 4; lower the learning rate.*step 2 is intact"):
        train(tmp_path, validate, diverge)


def test_validation_that_is_never_finite(tmp_path):
    with pytest.raises(FloatingPointError, match="validation must be finite at least once"):
        train(tmp_path, by_step(np.nan, np.inf, np.nan))
    trained = train(tmp_path / "later", by_step(np.nan, 2.0, 3.0), steps=4)
    assert trained.best_step == 4


def test_resume_after_a_validation_that_was_not_finite(tmp_path):
    train(tmp_path, by_step(np.nan, 2.0), steps=4)
    assert train(tmp_path, by_step(np.nan, 2.0, 1.0), resume=True).best_step == 6


def test_resume_with_a_log_cut_short(tmp_path, monkeypatch):
    whole = train(tmp_path / "whole")
    interrupted(tmp_path / "cut", monkeypatch, "last", 4)
    log = tmp_path / "cut" / "metrics.jsonl"
    log.write_text(log.read_text()[:-9])
    assert train(tmp_path / "cut", resume=True).metrics == whole.metrics
    assert [unsealed(json.loads(line)) for line in log.read_text().splitlines()] == whole.metrics


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda log: log.unlink(), "must hold the records up to step 6 to resume"),
        (lambda log: log.write_text("{oops\n" + log.read_text()), "line 1 must be a record"),
        (lambda log: log.write_text(log.read_text()[:-9]), "found the last of step 4"),
        (lambda log: log.write_text(""), "found none"),
        (lambda log: log.write_bytes(b"\xff\xfe"), "must hold the records"),
    ],
    ids=["missing", "broken", "cut", "empty", "binary"],
)
def test_resume_without_the_records(tmp_path, damage, message):
    train(tmp_path)
    damage(tmp_path / "metrics.jsonl")
    with pytest.raises(CheckpointError, match=rf"metrics\.jsonl.*{message}"):
        train(tmp_path, resume=True, steps=8)


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="must be a writable folder"):
        train(tmp_path / "file")
    (tmp_path / "run" / "metrics.jsonl").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl must be writable"):
        train(tmp_path / "run")


def test_another_model_with_equal_shapes_is_told_apart(tmp_path):
    checkpoints = Checkpoints(tmp_path / "a")
    state = {"u": jnp.zeros(2), "v": jnp.ones(2)}
    checkpoints.save(1, state, {"about": 1})
    assert checkpoints.info() == {"about": 1} and checkpoints.restore(state)["v"].tolist() == [1, 1]
    others = [
        {"u": state["u"], "w": state["v"]},
        {"u": state["u"]},
        {**state, "v": jnp.ones(2, int)},
        {**state, "w": 0},
    ]
    for other in others:
        with pytest.raises(CheckpointError, match="must be one of this model"):
            checkpoints.restore(other)


def test_checkpoints_without_names_are_read(tmp_path):
    """As they were written before names were."""
    checkpoints = Checkpoints(tmp_path / "a")
    args = checkpoints._ocp.args
    tree = args.StandardSave({"0": jnp.arange(3.0)})
    checkpoints._manager.save(7, args=args.Composite(state=tree, info=args.JsonSave({"about": 1})), force=True)
    assert checkpoints.info() == {"about": 1}
    assert checkpoints.restore({"w": jnp.zeros(3)})["w"].tolist() == [0, 1, 2]
    with pytest.raises(CheckpointError, match="shape"):
        checkpoints.restore({"w": jnp.zeros(4)})


def test_what_every_device_has_is_saved_once_and_compiles_nothing(tmp_path):
    everywhere = jax.NamedSharding(device_mesh(2), jax.P())
    state = jax.device_put({"w": np.arange(6.0, dtype=np.float32).reshape(2, 3), "n": np.int32(7)}, everywhere)
    assert len(state["w"].sharding.device_set) == 2
    checkpoints = Checkpoints(tmp_path / "a")
    with all_compilations() as compiled:
        checkpoints.save(1, state, {})
    assert not compiled
    back = checkpoints.restore(state)
    assert back["w"].tolist() == [[0, 1, 2], [3, 4, 5]] and back["n"] == 7 and back["w"].sharding == everywhere


def flip(file, place=0.5):
    data = bytearray(file.read_bytes())
    data[int(place * len(data))] ^= 1
    file.write_bytes(data)


def test_every_file_of_a_checkpoint_may_be_damaged_and_the_one_before_is_offered(tmp_path):
    state = {"w": np.random.default_rng(0).normal(size=2000).astype(np.float32), "b": np.arange(3)}
    checkpoints = Checkpoints(tmp_path / "a")
    for step in (1, 2, 3):
        checkpoints.save(step, state, {"about": "x"})
    assert checkpoints.steps() == [2, 3]
    refused = 0
    for file in [file for file in (tmp_path / "a" / "3").rglob("*") if file.stat().st_size and file.is_file()]:
        data = file.read_bytes()
        for place in (0.0, 0.3, 0.5, 0.9):
            flip(file, place)
            try:
                reader = Checkpoints(tmp_path / "a", writable=False)
                about, found = reader.info(), reader.restore(state)
                assert about == {"about": "x"} and all(np.array_equal(found[k], state[k]) for k in state), file
            except CheckpointError as error:
                refused += 1
                assert "step 3" in str(error) and "step 2 is intact: delete" in str(error)
            file.write_bytes(data)
    assert refused >= 8
    assert not list(tmp_path.glob(".*")) and checkpoints.steps() == [2, 3]


def test_numbers_that_changed_are_named_and_nothing_is_offered_where_nothing_is_intact(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "a")
    monkeypatch.setattr("dwalign.deepalign.checkpoints.checksum", lambda *_: 0)
    checkpoints.save(1, {"w": jnp.ones(2)}, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"step 1 .*others than were saved in \['w'\].*delete .*a to start again"):
        checkpoints.restore({"w": jnp.ones(2)})


def test_a_checkpoint_on_a_full_disk_leaves_those_before(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path / "a")
    checkpoints.save(1, {"w": jnp.ones(2)}, {})
    with full_disk(100_000), pytest.raises(CheckpointError, match=r"step 2 .*File too large.*step 1 is kept"):
        checkpoints.save(2, {"w": jnp.zeros(30_000), "key": jax.random.key(0)}, {})

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    monkeypatch.setattr(checkpoints._manager, "save", full)
    for step in (1, 2):
        with pytest.raises(CheckpointError, match=rf"step {step} .*No space left.*step 1 is kept"):
            checkpoints.save(step, {"w": jnp.zeros(2)}, {})
    assert checkpoints.restore({"w": jnp.zeros(2)})["w"].tolist() == [1, 1]


def test_a_resume_goes_back_one_checkpoint_to_the_same_end(tmp_path):
    whole = train(tmp_path / "whole")
    train(tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / "last" / "6")
    resumed = train(tmp_path / "cut", resume=True)
    assert resumed.metrics == whole.metrics and resumed.aligner.variables == whole.aligner.variables


def test_a_best_checkpoint_of_another_run_is_named(tmp_path):
    train(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "best" / "4")
    with pytest.raises(CheckpointError, match=r"best must hold the checkpoint of step 4.*metrics\.jsonl.*found \[2\]"):
        train(tmp_path, resume=True)
