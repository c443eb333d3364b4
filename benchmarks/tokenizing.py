"""What it costs to tokenize in a process of its own, compared with calling the library in this one.

    python benchmarks/tokenizing.py                             # smollm2-135m, 4,000 paragraphs of docs and sources
    python benchmarks/tokenizing.py --base FOLDER --rows FILE   # another tokenizer; the lines of a file

Both ways run in alternation on the same texts. Times are of one pass over all of them: processor time, user and
system, of this process and the tokenizer's, and wall-clock time. The ratio is the median of the pairs' ratios.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
from tokenizers import Tokenizer as Library

from tuneport_torch.bases import resolve
from tuneport_torch.text.load import load_codec

HERE = Path(__file__).parent.parent
ROWS = 4_000


def paragraphs(count: int) -> list[str]:
    """Real texts of some hundred characters: the paragraphs of the docs and the sources, again and again."""
    files = sorted([*HERE.glob("docs/*.md"), *HERE.glob("core/**/*.py"), *HERE.glob("plugins/**/*.py")])
    found = [part for file in files for part in file.read_text(encoding="utf-8").split("\n\n") if len(part) > 60]
    return list(itertools.islice(itertools.cycle(found), count))


def seconds(processes: list[psutil.Process], work: Callable[[], object]) -> tuple[float, float]:
    """Processor and wall-clock seconds of a call."""
    used, start = _used(processes), time.perf_counter()
    work()
    wall = time.perf_counter() - start
    return _used(processes) - used, wall


def _used(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m", help="the model whose tokenizer is measured")
    parser.add_argument("--rows", type=Path, help="a text file, each line of which is a row")
    parser.add_argument("--pairs", type=int, default=15)
    asked = parser.parse_args()
    texts = asked.rows.read_text(encoding="utf-8").splitlines() if asked.rows else paragraphs(ROWS)

    codec = load_codec(resolve(asked.base))
    library = Library.from_file(str(codec.folder / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    library.post_processor = None

    def here() -> list[tuple[list[int], list[tuple[int, int]]]]:
        return [(one.ids, one.offsets) for one in library.encode_batch(texts, add_special_tokens=False)]

    def apart() -> list[tuple[list[int], Sequence[tuple[int, int]]]]:
        return [(one.ids, one.spans) for one in codec.encode_many(texts)]

    assert here() == [(ids, list(spans)) for ids, spans in apart()]  # and both are warm
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    pairs = []
    for number in range(asked.pairs):
        ways = (here, apart) if number % 2 else (apart, here)
        took = {way: seconds(processes, way) for way in ways}
        pairs.append((took[here], took[apart]))
    print(f"{len(texts):,} rows, {sum(map(len, texts)) / 1e6:.1f} million characters, {asked.pairs} pairs")
    for place, name in enumerate(("processor time", "wall-clock time")):
        inside, outside = ([pair[way][place] for pair in pairs] for way in (0, 1))
        ratios = [two / one for one, two in zip(inside, outside, strict=True)]
        print(
            f"{name}: here {statistics.median(inside):.3f} s, apart {statistics.median(outside):.3f} s, "
            f"ratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        )
    codec.close()


if __name__ == "__main__":
    main()
