"""Checkpoints that several ranks write in shards: whole or not at all, verified, and no more memory
than a rank's own shards."""

import os
import shutil
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mtp import checkpoint, sharded
from mtp.errors import BadInput
from mtp.training import distributed
from mtp.training.saving import Saver
from tests.conftest import load_checkpoint
from tests.mtp.test_checkpoint import DAMAGES
from tests.mtp.training.allocations import Allocations
from tests.mtp.training.helpers import free_port

MATRICES, ROWS, COLUMNS = 8, 64, 256


def full(step: int, name: str) -> torch.Tensor:
    """A weight as step `step` has it; rows do not divide by the ranks."""
    g = torch.Generator().manual_seed(step + 1000 * len(name))
    return torch.randn(ROWS + 1, COLUMNS, generator=g)


def tensors_of(step: int, start: str = "w") -> dict[str, torch.Tensor]:
    return {start * (i + 1): full(step, start * (i + 1)) for i in range(MATRICES)}


def join(rank: int, world: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.start()


def sharded_tensors(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return {
        name: distribute_tensor(w, mesh, [Shard(0)], src_data_rank=None)
        for name, w in tensors.items()
    }


def write(rank: int, world: int, port: int, folder: Path) -> None:
    """Save steps 5, 10 and 15, the last two in one go, and read the newest back."""
    join(rank, world, port)
    saver = Saver(folder)
    for step in (5, 10, 15):
        weights, moments = tensors_of(step), tensors_of(step, "m")
        saver.save(sharded_tensors(weights), sharded_tensors(moments), {"step": step})
    saver.wait()
    found = Saver(folder).newest()
    assert found is not None and found.step == 15
    assert_read(found)


def assert_read(found: checkpoint.Saved) -> None:
    """Sharded tensors are filled with their shards."""
    weights, moments = tensors_of(found.step), tensors_of(found.step, "m")
    zeros = [{name: torch.zeros_like(w) for name, w in each.items()} for each in (weights, moments)]
    into = [sharded_tensors(each) for each in zeros]
    found.read_into(*into)
    for got, want in zip(into, (weights, moments), strict=True):
        for name, tensor in got.items():
            assert isinstance(tensor, DTensor)
            assert torch.equal(tensor.full_tensor(), want[name])


def read(rank: int, world: int, port: int, folder: Path, step: int) -> None:
    join(rank, world, port)
    found = Saver(folder).newest()
    assert found is not None and found.step == step, found
    assert_read(found)


def measured(rank: int, world: int, port: int, folder: Path) -> None:
    """Saving takes a rank a copy of its shards, reading and drawing some whole tensors at a time.
    What is counted includes the shards themselves."""
    join(rank, world, port)
    weights, moments = sharded_tensors(tensors_of(20)), sharded_tensors(tensors_of(20, "m"))
    own = sum(
        tensor.to_local().nbytes
        for each in (weights, moments)
        for tensor in each.values()
        if isinstance(tensor, DTensor)
    )
    tensor = 4 * (ROWS + 1) * COLUMNS
    with Allocations() as counted:
        distributed.staged(weights | moments, {})
        assert counted.peak == 2 * own, (counted.peak, own)
    saver = Saver(folder)
    saver.save(weights, moments, {"step": 20})
    saver.wait()
    found = Saver(folder).newest()
    assert found is not None
    with Allocations() as counted:
        found.read_into(weights, moments)
        assert counted.peak <= own + 2 * tensor, (counted.peak, own, tensor)
    with Allocations() as counted:
        for name, w in weights.items():
            sharded.copy_into(w, full(20, name))
        assert counted.peak <= own / 2 + 3 * tensor, (counted.peak, own, tensor)


def lose_a_rank(rank: int, world: int, port: int, folder: Path) -> None:
    """The other rank dies while a checkpoint is being written."""
    join(rank, world, port)
    saver = Saver(folder)
    saver.save(sharded_tensors(tensors_of(25)), {}, {"step": 25})
    saver.wait()
    if rank == 1:
        os._exit(9)
    time.sleep(0.5)
    saver.save(sharded_tensors({"w": full(30, "w")}), {}, {"step": 30})
    with pytest.raises(Exception, match=r"."):
        saver.wait()
    os._exit(0)


def on(processes: ForkServerContext, world: int, job: Any, *arguments: object) -> list[int | None]:
    port = free_port()
    started = [
        processes.Process(target=job, args=(rank, world, port, *arguments)) for rank in range(world)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        process.kill()
    return [process.exitcode for process in started]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, processes: ForkServerContext) -> Path:
    """A folder with the checkpoints that two ranks wrote of steps 10 and 15."""
    folder = tmp_path_factory.mktemp("sharded") / "checkpoint"
    assert on(processes, 2, write, folder) == [0, 0]
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "checkpoint"))


def test_the_last_two_are_kept_and_each_rank_wrote_a_file(folder: Path) -> None:
    assert [path.name for path in checkpoint.saved(folder)] == ["step-00000010", "step-00000015"]
    files = sorted(path.name for path in (folder / "step-00000015").iterdir())
    assert files == [".metadata", "__0_0.distcp", "__1_0.distcp", "state.json", "sums.json"]


def test_one_process_reads_all_of_it(folder: Path) -> None:
    found = load_checkpoint(folder)
    assert found is not None and found.step == 15
    for got, want in ((found.model, tensors_of(15)), (found.optimizer, tensors_of(15, "m"))):
        assert got.keys() == want.keys()
        assert all(torch.equal(got[name], want[name]) for name in want)


def test_three_ranks_read_what_two_wrote(folder: Path, processes: ForkServerContext) -> None:
    assert on(processes, 3, read, folder, 15) == [0, 0, 0]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", ["__1_0.distcp", ".metadata", "sums.json"])
def test_a_damaged_file_is_named_and_the_checkpoint_before_it_used(
    folder: Path, file: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    DAMAGES[damage](folder / "step-00000015" / file)
    found = checkpoint.newest(folder)
    assert found is not None and found.step == 10
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "step-00000015" in message
    assert file in message or file == "sums.json"


def test_all_ranks_agree_to_pass_over_what_one_finds_damaged(
    folder: Path, processes: ForkServerContext
) -> None:
    DAMAGES["altered"](folder / "step-00000015" / "__1_0.distcp")
    assert on(processes, 2, read, folder, 10) == [0, 0]


def test_memory_is_bounded_by_the_shards(folder: Path, processes: ForkServerContext) -> None:
    assert on(processes, 2, measured, folder) == [0, 0]


def test_a_rank_that_dies_leaves_the_checkpoint_before(
    tmp_path: Path, processes: ForkServerContext
) -> None:
    folder = tmp_path / "checkpoint"
    assert on(processes, 2, lose_a_rank, folder) == [0, 9]
    found = checkpoint.newest(folder)
    assert found is not None and found.step == 25


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    found = checkpoint.newest(folder)
    assert found is not None
    with pytest.raises(
        BadInput, match=r"has model\.w of shape \(65, 256\); the run wants \(3, 2\)"
    ):
        found.read_into({"w": torch.zeros(3, 2)}, {})
    with pytest.raises(BadInput, match=r"has model\.other of shape"):
        found.read_into({"other": torch.zeros(3, 2)}, {})
