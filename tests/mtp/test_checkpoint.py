"""Checkpoints are written whole or not at all, and a damaged one is named and skipped."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError

from mtp.checkpoint import Checkpoint, save, save_tensors
from mtp.config import ModelConfig, TrainConfig
from mtp.errors import BadInput
from mtp.model.loading import load_model, with_weights
from mtp.model.model import MultiTokenTransformer
from mtp.overrides import to_json
from tests.conftest import load_checkpoint as load
from tests.conftest import newest_step

CONFIG = ModelConfig(dim=16, layers=3, attn_heads=2, vocab=19, context=12, n=2)
FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "sums.json"]


def example(step: int) -> Checkpoint:
    torch.manual_seed(step)
    model = {name: p.detach() for name, p in MultiTokenTransformer(CONFIG).named_parameters()}
    moments = {f"exp_avg.{name}": torch.randn_like(p) for name, p in model.items()}
    return Checkpoint(step, model, moments, {"step": step, "data": {"windows": 8 * step}})


def same(a: Checkpoint | None, b: Checkpoint) -> bool:
    def equal(x: dict[str, Any], y: dict[str, Any]) -> bool:
        return x.keys() == y.keys() and all(torch.equal(x[key], y[key]) for key in x)

    return a is not None and (
        (a.step, a.state) == (b.step, b.state)
        and equal(a.model, b.model)
        and equal(a.optimizer, b.optimizer)
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 5 and 10."""
    for step in (5, 10):
        save(tmp_path / "checkpoint", example(step))
    return tmp_path / "checkpoint"


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    assert load(tmp_path / "checkpoint") is None
    assert newest_step(tmp_path / "checkpoint") == 0
    path = save(tmp_path / "checkpoint", example(3))
    assert names(path) == FILES
    assert same(load(tmp_path / "checkpoint"), example(3))
    light = load(tmp_path / "checkpoint", weights_only=True)
    assert light is not None and light.optimizer == {}
    assert newest_step(tmp_path / "checkpoint") == 3


def test_the_last_two_are_kept(two: Path) -> None:
    assert names(two) == ["step-00000005", "step-00000010"]
    save(two, example(200))
    assert names(two) == ["step-00000010", "step-00000200"]
    assert newest_step(two) == 200 and same(load(two), example(200))


def cut(share: float) -> Callable[[Path], None]:
    return lambda file: os.truncate(file, int(file.stat().st_size * share))


def alter(file: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "empty": cut(0),
    "half": cut(0.5),
    "all but the end": cut(0.999),
    "altered": alter,
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_used(
    two: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage](two / "step-00000010" / file)
    assert same(load(two), example(5))
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert file in message or file == "sums.json", message  # an altered sum accuses its file
    assert "step-00000010" in message and message.startswith("warning: ")
    assert message.endswith("; using step-00000005, from before it\n")


@pytest.mark.parametrize("text", ["[]", "5", "null", '{"model.safetensors": 1}'])
def test_sums_of_another_shape_are_damage(two: Path, text: str) -> None:
    (two / "step-00000010" / "sums.json").write_text(text)
    assert same(load(two), example(5))


def test_an_empty_folder_in_a_checkpoints_place_is_damage(two: Path) -> None:
    shutil.rmtree(two / "step-00000010")
    (two / "step-00000010").mkdir()
    assert same(load(two), example(5))


def test_all_damaged_is_bad_input(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (5, 10):
        alter(two / f"step-{step:08}" / "model.safetensors")
    told = (
        r"step-00000010/model.safetensors .*; so is every earlier checkpoint: delete .* start over"
    )
    with pytest.raises(BadInput, match=told):
        load(two)
    shutil.rmtree(two / "step-00000010")
    told = r"step-00000005/model.safetensors .* altered; there is no other: delete .* start over"
    with pytest.raises(BadInput, match=told):
        load(two)
    assert not capsys.readouterr().err, "one line says it all"
    alter(two / "step-00000005" / "model.safetensors")  # and back
    assert same(load(two), example(5))


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_saved_again(two: Path) -> None:
    alter(two / "step-00000010" / "state.json")
    save(two, example(10))
    assert same(load(two), example(10)) and len(names(two)) == 2


def test_damage_to_the_optimizer_does_not_hide_the_weights(two: Path) -> None:
    alter(two / "step-00000010" / "optimizer.safetensors")
    found = load(two, weights_only=True)
    assert found is not None and found.step == 10


def test_what_a_killed_save_left_is_ignored_and_cleared(two: Path) -> None:
    for left in (".half-00000012", ".half-00000010"):
        shutil.copytree(two / "step-00000005", two / left)
    assert newest_step(two) == 10 and same(load(two), example(10))
    save(two, example(15))
    assert names(two) == ["step-00000010", "step-00000015"]


# --------------------------------------------------------------------------------------------------
# a full disk


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_space_in_rust(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


def no_quota_in_rust(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: Quota exceeded (os error 122)")


@pytest.mark.parametrize(
    ("place", "failure"),
    [
        ("safetensors.torch.save_file", no_space_in_rust),
        ("safetensors.torch.save_file", no_quota_in_rust),
        ("mtp.files.sync", no_space),
    ],
)
def test_a_write_that_fails_leaves_everything_as_it_was(
    two: Path, place: str, failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, failure)
        with pytest.raises(OSError) as error:
            save(two, example(15))
    assert error.value.errno in (errno.ENOSPC, errno.EDQUOT)
    assert names(two) == ["step-00000005", "step-00000010"]
    assert same(load(two), example(10))
    save(two, example(15))
    assert same(load(two), example(15))


FILL = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from mtp.checkpoint import save
from mtp.errors import exit_cleanly
from tests.mtp.test_checkpoint import example

@exit_cleanly
def main():
    for step in range(5, 100, 5):
        save(Path({disk!r}), example(step))
        print(step, flush=True)
main()
"""


def test_a_full_disk_keeps_the_earlier_checkpoints(tmp_path: Path) -> None:
    """On a real small tmpfs, in a mount namespace of its own."""
    disk, copy = tmp_path / "disk", tmp_path / "copy"
    disk.mkdir()
    size = sum(len(t.numpy().tobytes()) for t in example(5).model.values()) * 2  # and moments
    mount = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    small = f"mount -t tmpfs -o size={size * 5 // 2 // 1024}k none {disk} && "
    if shutil.which("unshare") is None or subprocess.run([*mount, small + "true"]).returncode:
        pytest.skip("this system lets nobody mount a small disk to fill")
    (tmp_path / "fill.py").write_text(
        FILL.format(tests=str(Path(__file__).parents[2]), disk=str(disk))
    )
    run = f"{sys.executable} {tmp_path / 'fill.py'}; code=$?; cp -r {disk} {copy}; exit $code"
    done = subprocess.run([*mount, small + run], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stdout.split() == ["5", "10"]
    assert done.stderr.count("\n") == 1
    assert "no space left on the disk" in done.stderr and str(disk) in done.stderr
    assert names(copy) == ["step-00000005", "step-00000010"]
    assert same(load(copy), example(10))


# --------------------------------------------------------------------------------------------------
# models of runs


def test_a_runs_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(to_json(TrainConfig(tokens=1e6, model=CONFIG)))
    save(tmp_path / "checkpoint", example(5))
    torch.manual_seed(5)
    expected, tokens = MultiTokenTransformer(CONFIG), torch.arange(12)[None]
    before = torch.get_rng_state()
    model = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)  # a load draws nothing
    for got, want in zip(model(tokens), expected(tokens), strict=True):
        assert torch.equal(got, want)


def test_a_models_weights_are_the_tensors_that_were_read() -> None:
    weights = example(5).model
    weights["unembeddings.0.weight"] = weights["embedding.weight"]  # tied, as in some Llamas
    model = with_weights(CONFIG, weights)
    tied = model.unembedding(1), model.embedding.weight
    assert torch.equal(*tied) and tied[0].data_ptr() != tied[1].data_ptr()  # both can be trained
    for name, weight in model.named_parameters():
        assert weight.requires_grad
        assert (weight.data_ptr() == weights[name].data_ptr()) == ("unembed" not in name)
    model(torch.arange(12)[None])[0].sum().backward()


def test_a_runs_model_is_loaded_in_another_type(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(to_json(TrainConfig(tokens=1e6, model=CONFIG)))
    save(tmp_path / "checkpoint", example(5))
    model = load_model(tmp_path, dtype=torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert model.rope.table.dtype == torch.float32
    tokens, whole = torch.arange(12)[None], load_model(tmp_path).bfloat16()
    assert all(map(torch.equal, model(tokens), whole(tokens)))


def test_a_config_with_more_layers_than_weights_is_reported(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, layers=1000)
    (tmp_path / "config.json").write_text(to_json(TrainConfig(tokens=1e6, model=config)))
    save(tmp_path / "checkpoint", example(5))
    with pytest.raises(BadInput, match=rf"^{tmp_path} has the weights of 3 layers; its config wan"):
        load_model(tmp_path)


DEEP = b"[" * 100_000  # more than Python's parser reads


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b"\xff\xfe\x00", b'{"tokens": 1}', DEEP]
)
def test_a_folder_without_a_run_or_a_checkpoint_is_bad_input(
    tmp_path: Path, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(BadInput) as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)
    if content == b'{"tokens": 1}':
        assert "no checkpoint yet" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 32}, "shape"),
        ({"vocab": 20}, "'embedding.weight' has shape (19, 16), the config wants (20, 16)"),
        ({"layers": 4}, "the checkpoint has the weights of 3 layers; its config wants 4"),
        ({"layers": 1000}, "weights of 3 layers; its config wants 1000"),
        ({"extra_layers": 1000}, "weights of 3 layers; its config wants 1003"),
        ({"head": "linear", "n": 1000}, "has 30 weights; its config wants 1000 heads"),
        ({"dim": 10**8}, "shape (19, 16), the config wants (19, 100000000)"),
        ({"vocab": 10**30}, "wants weights larger than a tensor can be"),
        ({"n": 1}, "'heads.1."),
    ],
)
def test_weights_of_another_config_are_named(changes: dict[str, Any], message: str) -> None:
    config = ModelConfig(**(vars(CONFIG) | changes))
    with pytest.raises(BadInput) as error:
        with_weights(config, example(1).model)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_record_of_sums_is_of_the_files(two: Path) -> None:
    sums = json.loads((two / "step-00000010" / "sums.json").read_text())
    assert sorted(sums) == FILES[:3]


def test_weights_are_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        save_tensors({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "w.safetensors").stat().st_mode & 0o777 == 0o644
