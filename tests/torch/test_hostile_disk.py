"""What a disk can do to checkpoints: the newest intact one is used, and faults of newer ones are reported."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tiny_victims import NOT_PERMITTED, Victims, checkpoint
from tuneport.local import Saved
from tuneport_torch.engine.checkpoint import Store, read_tensors

SIZE = 6_000  # numbers, so that each file of tensors spans six blocks
FILES = ("weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two checkpoints; state.json is large enough to span blocks too, as Python's random state makes it."""
    store = Store(tmp_path / "checkpoints")
    for step in (1, 2):
        store.save_tensors(
            step, checkpoint(step, SIZE), {"best_step": 1, "python_random": list(random.Random(step).getstate()[1])}
        )
    return store


def assert_goes_back(store: Store, file: str) -> None:
    """The older checkpoint is used, the damaged file is named, and listing works."""
    reported: list[str] = []
    saved = store.newest_intact(reported.append)
    assert saved is not None
    assert saved.step == 1
    assert len(reported) == 1
    assert reported[0].startswith("Checkpoint step-00000002 is not used: ")
    assert file in reported[0]
    assert reported[0].endswith("Trying the one before.")
    assert store.list()[0].step == 1
    assert store.at(2) is None


def assert_whole(saved: Saved, size: int = SIZE) -> None:
    for name, tensors in checkpoint(saved.step, size).items():
        assert torch.equal(read_tensors(saved, name)["w"], tensors["w"])


@pytest.mark.parametrize("file", FILES)
def test_a_file_cut_at_any_block_is_passed_over(store: Store, file: str) -> None:
    path = store.folder / "step-00000002" / file
    whole = path.read_bytes()
    for size in {*range(0, len(whole), 4096), len(whole) - 1}:
        path.write_bytes(whole[:size])
        assert_goes_back(store, file)
    path.write_bytes(whole + bytes(4096))  # as a file system leaves a file whose size was stored too early
    assert_goes_back(store, file)
    path.write_bytes(whole)
    assert_whole(store.newest_intact())


def flip(store: Store, seed: int, flips: int) -> None:
    draw = random.Random(seed)
    contents = {file: (store.folder / "step-00000002" / file).read_bytes() for file in FILES}
    for _ in range(flips):
        file = draw.choice(FILES)
        data, place = bytearray(contents[file]), draw.randrange(len(contents[file]))
        data[place] ^= 1 << draw.randrange(8)
        (store.folder / "step-00000002" / file).write_bytes(data)
        assert_goes_back(store, file)
        (store.folder / "step-00000002" / file).write_bytes(contents[file])
    assert store.newest_intact().step == 2


def test_a_flipped_bit_anywhere_is_detected(store: Store) -> None:
    flip(store, 4, 400)


@pytest.mark.soak
def test_a_flipped_bit_anywhere_is_detected_forty_thousand_times(store: Store) -> None:
    flip(store, 5, 40_000)


def test_each_byte_of_the_manifest_counts(store: Store) -> None:
    """It is the only file without a stored digest."""
    path, draw = store.folder / "step-00000002" / "manifest.json", random.Random(3)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
        assert_goes_back(store, "manifest.json")


def missing(path: Path) -> None:
    path.unlink()


def a_folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def zeroed(path: Path) -> None:
    """As after a power cut on a file system that knew the size before the bytes."""
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [missing, a_folder_instead, zeroed])
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_no_longer_itself_is_passed_over(store: Store, file: str, harm: Callable[[Path], None]) -> None:
    harm(store.folder / "step-00000002" / file)
    assert_goes_back(store, file)


def test_a_file_in_place_of_a_checkpoint_is_skipped(store: Store) -> None:
    shutil.rmtree(store.folder / "step-00000002")
    (store.folder / "step-00000002").write_text("not a folder")
    assert_goes_back(store, "manifest.json")


def test_a_checkpoint_under_another_ones_name_is_passed_over(store: Store) -> None:
    shutil.rmtree(store.folder / "step-00000002")
    shutil.copytree(store.folder / "step-00000001", store.folder / "step-00000002")
    assert_goes_back(store, "manifest.json")


def test_when_no_checkpoint_is_intact_the_log_says_that_training_starts_over(store: Store) -> None:
    for step in (1, 2):
        zeroed(store.folder / f"step-0000000{step}" / "weights.safetensors")
    reported: list[str] = []
    assert store.newest_intact(reported.append) is None
    assert [line.split(":")[0] for line in reported] == [
        f"Checkpoint step-0000000{step} is not used" for step in (2, 1)
    ]
    assert reported[1].endswith("There is none before it: starting over.")


def test_a_damaged_newer_checkpoint_does_not_push_out_an_intact_one(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=1)
    for step in (4, 9):
        store.save_tensors(step, checkpoint(step, 8), {"best_step": None})
    zeroed(tmp_path / "step-00000009" / "weights.safetensors")
    store.save_tensors(5, checkpoint(5, 8), {"best_step": None})
    assert [kept.step for kept in store.list()] == [5]
    assert store.newest_intact().step == 5


FULL = """
import sys
from pathlib import Path
from tiny_victims import checkpoint
from tuneport_torch.engine.checkpoint import Store
from tuneport_torch.engine.state import is_storage_error

disk = Path(sys.argv[1])
store = Store(disk / "checkpoints")
store.save_tensors(1, checkpoint(1, 6_000), {"best_step": 1})
failed = whole = 0
for ballast in range(0, 4096 * 60, 4096):
    try:
        (disk / "ballast").write_bytes(bytes(ballast))
    except OSError:
        break
    try:
        store.save_tensors(2, checkpoint(2, 6_000), {"best_step": 1})
    except Exception as error:
        assert is_storage_error(error), repr(error)
        assert "No space left" in str(error), error
        failed += 1
        assert [path.name for path in store.folder.iterdir()] == ["step-00000001"]
        assert store.newest_intact().step == 1
    else:
        whole += 1
        assert store.newest_intact().step == 2
        for path in (store.folder / "step-00000002").iterdir():
            path.unlink()
        path.parent.rmdir()
    (disk / "ballast").unlink()
(disk / "ballast").unlink(missing_ok=True)
store.save_tensors(2, checkpoint(2, 6_000), {"best_step": 1})
assert store.newest_intact().step == 2
print(failed, whole)
"""


def test_a_disk_that_is_full_at_any_block_of_a_save_leaves_the_one_before(tmp_path: Path) -> None:
    """A real one: a file system of 192 KiB in memory, with one more full block each time."""
    mount = f'mount -t tmpfs -o size=192k tmpfs {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, FULL]
    if shutil.which("unshare") is None or subprocess.run([*command[:3], "true"], check=False).returncode:
        pytest.skip("mounting a file system in a namespace of our own is not permitted here")
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    failed, whole = map(int, ended.stdout.split())
    assert failed >= 12
    assert whole >= 3


@pytest.fixture(scope="module")
def victims():
    program = Victims()
    yield program
    program.close()


def killed_at(victims: Victims, folder: Path, call: int) -> bool:
    """Kill a process as it enters or leaves its `call`-th system call of a save; False when it has none so late.
    What is left is whole.
    """
    store = Store(folder, keep=1)
    before = store.newest_intact()
    victims.start(do="save", folder=str(folder), size=64, kill_at=call)
    ended = victims.end()
    if ended == NOT_PERMITTED:
        pytest.skip("following a process by ptrace is not permitted here")
    assert ended in (0, -signal.SIGKILL)
    reported: list[str] = []
    saved = store.newest_intact(reported.append)
    assert reported == []  # a kill leaves no incomplete folder under a checkpoint's name
    if before is not None:
        assert saved is not None
        assert before.step <= saved.step <= before.step + 1
        assert_whole(saved, 64)
        assert_whole(store.at(1), 64)  # the best
    return ended != 0


def kill_at_calls(victims: Victims, folder: Path, every: int) -> int:
    """Kill a save at every `every`-th system call, until one finishes. Returns the number of kills."""
    assert not killed_at(victims, folder, 10**9)
    assert not killed_at(victims, folder, 10**9)
    kills = 0
    while killed_at(victims, folder, 1 + kills * every):
        kills += 1
    return kills


def test_a_kill_at_any_stage_of_a_save_leaves_the_newest_intact_one_in_use(victims: Victims, tmp_path: Path) -> None:
    assert kill_at_calls(victims, tmp_path, 11) >= 20


@pytest.mark.soak
def test_a_kill_at_each_system_call_of_a_save_leaves_the_newest_intact_one_in_use(
    victims: Victims, tmp_path: Path
) -> None:
    assert kill_at_calls(victims, tmp_path, 1) >= 200
