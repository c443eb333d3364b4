"""Small files that expand to large ones are a clear finding or error, in limited memory and time."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneport import Dataset
from tuneport.errors import DataError

ROW = b'{"text": "a", "label": "b"}\n'
PARENT_MB, CHILD_MB = 300, 1400
LOOK = """
import json, resource, sys
from pathlib import Path
from tuneport import Dataset, TuneportError
try:
    result = Dataset.load(sys.argv[1]).check(workers=1)
    codes, error = sorted(result.counts), None
except TuneportError as found:
    codes, error = [], str(found)
own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"codes": codes, "error": error, "own": int(own.split()[1]) >> 10, "child": child >> 10}))
"""


def check(file: Path, home: Path) -> dict:
    """The findings of a check in a separate process, and its peak memory and that of its children in MB."""
    import os

    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(file)],
        env={**os.environ, "TUNEPORT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def _zeros(times: int) -> bytes:
    return gzip.compress(ROW + b"a" * (times << 20), 9)


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "thousandfold.jsonl.gz": (lambda: _zeros(90), "expands-too-much"),
    "members.jsonl.gz": (lambda: _zeros(1) * 90, "expands-too-much"),
    "names.csv": (lambda: b"," * (1 << 18) + b"\na\n", "blank-line"),
    "repeated.csv": (lambda: b"a," * (1 << 18) + b"a\nb\n", "no-column-names"),
    "keys.jsonl": (lambda: b"{" + b'"a":1,' * 200_000 + b'"a":1}\n' + ROW, "duplicate-key"),
    "fields.csv": (lambda: b"a,b\n" + (b'"' + (b"x" * 999 + b"\n") * 16_000 + b'",') * 5 + b"1\n", "row-too-large"),
    "spaces.json": (lambda: b"{" + b" " * (70 << 20), "row-too-large"),
    "digits.json": (lambda: b"[" + b"1" * (70 << 20), "row-too-large"),
    "tiny.jsonl": (lambda: ROW + b"{}\n" * 100_000, "missing-value"),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads its memory from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_grows_is_a_finding_in_bounded_memory(name: str, tmp_path: Path) -> None:
    made, code = BOMBS[name]
    (tmp_path / name).write_bytes(made())
    found = check(tmp_path / name, tmp_path / "home")
    assert code in found["codes"], found
    assert found["own"] < PARENT_MB, found


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded with the kernel's limits")
@pytest.mark.parametrize("name", ["dictionary", "list", "page"])
def test_a_parquet_file_of_few_bytes_that_stands_for_gigabytes_is_an_error(name: str, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    large = pa.array(["x" * (1 << 20)])
    repeated = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), large)
    columns = {
        "dictionary": {"text": repeated, "label": repeated},
        "list": {"text": pa.ListArray.from_arrays(pa.array([0, 20_000], pa.int32()), repeated)},
        "page": {"text": pa.array(["\0" * (1100 << 20)])},
    }[name]
    file = tmp_path / "rows.parquet"
    parquet.write_table(pa.table(columns), file, compression="zstd", use_dictionary=name != "page")
    assert file.stat().st_size < 100_000
    found = check(file, tmp_path / "home")
    assert "needs more than 1,073,741,824 bytes of memory" in found["error"]
    assert "smaller row groups" in found["error"]
    assert found["own"] < PARENT_MB, found
    assert found["child"] < CHILD_MB, found


def test_a_parquet_file_of_many_equal_rows_stops_at_the_expansion_limit(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    text = pa.DictionaryArray.from_arrays(pa.array([0] * 80_000, pa.int32()), pa.array(["x" * 1000]))
    parquet.write_table(pa.table({"text": text, "label": text}), tmp_path / "rows.parquet", compression="zstd")
    assert "expands-too-much" in check(tmp_path / "rows.parquet", tmp_path / "home")["codes"]


BROKEN = {
    "pyarrow.py": {
        "raise OSError('Footer is broken.\\n  at page 3\\n')": "Parquet: Footer is broken. at page 3.",
        "import sys; sys.stderr.write('warning\\n' * 100_000); raise OSError('no footer')": "Parquet: no footer.",
        "import os; os._exit(3)": "Parquet: the decoding process failed: exit code 3.",
        "import os; os.kill(os.getpid(), 11)": "Parquet: the decoding process was killed; it may need more",
    },
    "msgspec.py": {"raise ImportError('no such symbol')": "process failed: ImportError: no such symbol."},
}


@pytest.mark.parametrize(("library", "code"), [(name, code) for name, codes in BROKEN.items() for code in codes])
def test_a_failure_of_the_decoding_process_is_reported_in_one_line(
    library: str, code: str, tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "rows.parquet"
    file.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / library).write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "broken")
    with pytest.raises(DataError) as caught:
        Dataset.load(file).check()
    assert BROKEN[library][code] in caught.value.message
    assert "\n" not in caught.value.message and "Traceback" not in caught.value.message
