"""What a process may take is what its machine and its container have left."""

from __future__ import annotations

from pathlib import Path

import psutil

from tuneport.local.devices import free_in_groups, free_memory


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def listed(tmp_path: Path, text: str) -> Path:
    (tmp_path / "cgroup").write_text(text)
    return tmp_path / "cgroup"


def test_no_more_is_free_than_the_machine_has():
    assert 0 < free_memory() <= psutil.virtual_memory().total


def test_a_limit_of_a_container_counts_and_file_pages_can_be_dropped(tmp_path):
    group(tmp_path / "fs", memory__max="max", memory__current=7)
    group(tmp_path / "fs/box", memory__max=1000, memory__current=700, memory__stat="anon 500\ninactive_file 150")
    assert free_in_groups(listed(tmp_path, "0::/box\n"), tmp_path / "fs") == [450]


def test_a_limit_by_the_older_version_of_control_groups_counts(tmp_path):
    limits = {"memory__limit_in_bytes": 900, "memory__usage_in_bytes": 950, "memory__stat": "inactive_file 10"}
    group(tmp_path / "fs/memory/a/b", **limits)
    listing = listed(tmp_path, "9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n")
    assert free_in_groups(listing, tmp_path / "fs") == [0]


def test_without_limits_nothing_is_limited(tmp_path):
    assert free_in_groups(tmp_path / "none", tmp_path) == []
    assert free_in_groups(listed(tmp_path, "0::/\n"), tmp_path / "none") == []
