"""A hostile model folder ends in a TuneportError or in success: within 500 MB and 10 s, never in a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import hypothesis
import pytest
from hypothesis import strategies as st

from folder_doors import ALL, DOORS, Doors
from hostile_folders import ADAPTERS, FOLDERS, OLDER, record
from hostile_ggufs import GGUFS
from mutated_folders import SETTINGS as FILES
from mutated_folders import mutate, mutate_bytes
from tuneport.errors import UnavailableError
from tuneport_torch import export
from tuneport_torch.bases import lora, resolve
from tuneport_torch.bases.headers import read_gguf
from tuneport_torch.bases.loading import load_model
from tuneport_torch.text.golden import golden_ids
from tuneport_torch.text.load import load_codec

SETTINGS = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Iterator[Doors]:
    made = Doors(tmp_path_factory.mktemp("doors-home"), tiny_llama)
    yield made
    made.close()


def assert_held(found: dict[str, str], *doors: str) -> None:
    faults = {door: said for door, said in found.items() if said.startswith("FAULT")}
    assert not faults, "\n".join(f"{door}: {said}" for door, said in faults.items())
    assert {*doors} <= {*found}


def test_a_real_folder_passes_every_door(doors: Doors, tiny_llama: Path) -> None:
    assert set(doors.go(tiny_llama, *DOORS).values()) == {"ok"}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder_is_refused_or_read(doors: Doors, tiny_llama: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    FOLDERS[name](folder)
    through = ("check", "plan", "text", "ask" if list(FOLDERS).index(name) % 2 else "train")
    assert_held(doors.go(folder, *through), *through)


@pytest.mark.soak
@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder_is_refused_or_read_by_every_door(
    doors: Doors, tiny_llama: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    FOLDERS[name](folder)
    assert_held(doors.go(folder, *DOORS), *DOORS)


@pytest.mark.parametrize(
    "name",
    [
        "vocabulary of number 2^31",
        "8 million objects next to a token",
        pytest.param("positions without end", marks=pytest.mark.soak),
        pytest.param("vocabulary numbers repeat", marks=pytest.mark.soak),
    ],
)
def test_a_hostile_folder_that_answers_is_exported_or_refused(
    doors: Doors, tiny_llama: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    FOLDERS[name](folder)
    assert_held(doors.go(folder, "follow", "export"), "follow", "export")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.soak] if number else []) for number, name in enumerate(OLDER)]
)
def test_a_hostile_tokenizer_of_an_older_kind_is_refused_or_read(
    doors: Doors, tiny_llama: Path, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    OLDER[name](folder)
    assert_held(doors.go(folder, "text"), "text")


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_hostile_adapter_is_refused_or_read(doors: Doors, tiny_llama: Path, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    ADAPTERS[name](folder)
    found = doors.go(folder / "adapter", *ALL, "train")
    assert_held(found, *ALL, "train")
    assert found["ask"] != "ok"


@pytest.mark.parametrize("name", GGUFS)
def test_a_hostile_gguf_file_is_refused(doors: Doors, tmp_path: Path, name: str) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(GGUFS[name])
    found = doors.go(file, "check", "plan")
    assert_held(found, "check", "plan")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """A folder with every kind of file that is read, an adapter over it inside."""
    folder = shutil.copytree(tiny_llama, tmp_path_factory.mktemp("whole") / "model")
    header, _ = weights(folder)
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(header, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    model = load_model(resolve(str(folder)))
    lora.attach(model, rank=2)
    lora.save_peft(model, folder / "adapter", str(folder))
    codec = load_codec(resolve(str(folder)))
    write_record = record(
        stop_ids=codec.stop_ids,
        golden=golden_ids(codec),
        template_sha256=codec.template.sha256,
    )
    codec.close()
    write_record(folder)
    return folder


def weights(folder: Path) -> tuple[dict, bytes]:
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


@pytest.fixture(scope="module")
def whole_gguf(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    return export.export_gguf(resolve(str(tiny_llama)), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def attack_folders(doors: Doors, whole: Path, scratch: Path, examples: int, *through: str) -> None:
    faults: dict[str, str] = {}

    @hypothesis.settings(SETTINGS, max_examples=examples)
    @hypothesis.given(st.sampled_from(FILES), st.integers(0, 2**32))
    def attack(file: str, seed: int) -> None:
        folder = scratch / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        mutate(folder, file, Random(seed).randrange)
        reported = folder / "adapter" / "adapter_config.json"
        reported.write_bytes(reported.read_bytes().replace(bytes(whole), bytes(folder)))
        found = doors.go(folder / "adapter" if file.startswith("adapter") else folder, *through)
        gather(faults, f"{file} {seed}", found, *through)

    attack()
    assert not faults, "\n\n".join(faults.values())


def attack_ggufs(doors: Doors, whole: Path, scratch: Path, examples: int, *through: str) -> None:
    raw = whole.read_bytes()
    header = read_gguf(whole).length
    faults: dict[str, str] = {}

    @hypothesis.settings(SETTINGS, max_examples=examples)
    @hypothesis.given(st.integers(0, 2**32))
    def attack(seed: int) -> None:
        file, random = scratch / "model.gguf", Random(seed)
        file.write_bytes(mutate_bytes(raw, random.randrange, random.choice([100, 2000, header])))
        gather(faults, f"gguf {seed}", doors.go(file, *through), *through)

    attack()
    assert not faults, "\n\n".join(faults.values())


def gather(faults: dict[str, str], what: str, found: dict[str, str], *through: str) -> None:
    """Collect failures, one case per kind, so that a long search reports all kinds at its end."""
    try:
        assert_held(found, *through)
    except AssertionError as error:
        faults.setdefault(str(error)[-200:], f"{what}: {error}")


def test_mutations_of_a_real_folder_are_refused_or_read(doors: Doors, whole: Path, tmp_path: Path) -> None:
    assert set(doors.go(whole, *ALL, "train").values()) == set(doors.go(whole / "adapter").values()) == {"ok"}
    attack_folders(doors, whole, tmp_path, 40, *ALL, "train")


def test_mutations_of_a_real_gguf_file_are_refused_or_read(doors: Doors, whole_gguf: Path, tmp_path: Path) -> None:
    assert set(doors.go(whole_gguf).values()) == {"ok"}
    attack_ggufs(doors, whole_gguf, tmp_path, 20, "check", "plan", "load")


@pytest.mark.soak
def test_many_more_mutations_are_refused_or_read(doors: Doors, whole: Path, whole_gguf: Path, tmp_path: Path) -> None:
    attack_folders(doors, whole, tmp_path, 500, *ALL, "train")
    attack_ggufs(doors, whole_gguf, tmp_path, 400, "check", "plan", "load")
    attack_ggufs(doors, whole_gguf, tmp_path, 50, *ALL, "train")


def test_half_of_a_surrogate_pair_in_a_folder_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "model")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": "\ud800"}))
    with pytest.raises(UnavailableError, match=r"tokenizer_config\.json cannot be read"):
        load_codec(resolve(str(folder)))
