import json
import resource
import subprocess
import sys

import pytest
import torch

from tuneport_torch.engine.checkpoint import Store, read_tensors
from tuneport_torch.engine.state import is_storage_error


def save(store, step, best=None, size=64):
    torch.manual_seed(step)
    return store.save_tensors(step, {"weights": {"w": torch.randn(size)}}, {"best_step": best, "note": f"after {step}"})


def test_a_saved_checkpoint_can_be_read_back(tmp_path):
    store = Store(tmp_path / "deep" / "checkpoints")
    save(store, 3)
    saved = store.newest_intact()
    torch.manual_seed(3)
    assert (saved.step, saved.state["note"]) == (3, "after 3")
    assert torch.equal(read_tensors(saved, "weights")["w"], torch.randn(64))


def test_there_is_no_checkpoint_at_first(tmp_path):
    assert Store(tmp_path / "none").newest_intact() is None
    assert Store(tmp_path / "none").list() == []


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def removed(path):
    path.unlink()


@pytest.mark.parametrize("harm", [truncated, flipped, removed])
@pytest.mark.parametrize("file", ["weights.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_skipped_for_the_previous_one_and_the_reason_is_reported(tmp_path, file, harm):
    store = Store(tmp_path)
    save(store, 1)
    harm(save(store, 2) / file)
    reported = []
    assert store.newest_intact(reported.append).step == 1
    assert len(reported) == 1
    assert "step-00000002" in reported[0]
    assert store.at(2) is None
    save(store, 2)  # and it can be saved again
    assert store.newest_intact().step == 2


def test_leftovers_of_a_killed_save_are_not_a_checkpoint_and_are_removed(tmp_path):
    store = Store(tmp_path)
    save(store, 1)
    orphan = tmp_path / ".unfinished-step-00000002"
    orphan.mkdir()
    (orphan / "weights.safetensors").write_bytes(b"half")
    assert [kept.step for kept in store.list()] == [1]
    save(store, 2)
    assert not orphan.exists()
    assert store.newest_intact().step == 2


def test_a_full_disk_leaves_the_previous_checkpoint_in_use(tmp_path):
    """A limit on file sizes simulates a full disk: the same system calls fail."""
    store = Store(tmp_path)
    save(store, 1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(Exception) as caught:
            save(store, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert is_storage_error(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert store.newest_intact().step == 1


def test_the_newest_and_the_best_are_kept(tmp_path):
    store = Store(tmp_path, keep=2)
    for step in range(1, 6):
        save(store, step, best=2 if step >= 2 else None)
    assert [(kept.step, kept.best) for kept in store.list()] == [(2, True), (4, False), (5, False)]


def test_the_manifest_holds_size_and_digest_of_every_file(tmp_path):
    folder = save(Store(tmp_path), 1)
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert set(files) == {"state.json", "weights.safetensors"}
    assert all(facts["size"] == (folder / name).stat().st_size for name, facts in files.items())


def test_listing_and_checking_import_no_torch(tmp_path):
    save(Store(tmp_path), 1)
    code = (
        "import sys, pathlib; from tuneport_torch.engine.checkpoint import Store;"
        "store = Store(pathlib.Path(sys.argv[1]));"
        "assert store.list() and store.newest_intact(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
