"""Tokens per second of answers that follow a JSON Schema and of free ones of the same model in one process.

    python benchmarks/structured.py                        # SmolLM2-135M, 1 and 8 answers at a time
    python benchmarks/structured.py --model torch:./my-model --rows 1 16 --tokens 128 --json structured.json

Free and bound runs take turns, so that a busy machine slows both. Every answer has at most a fixed number of tokens.
The schema is an array of tickets, so that a bound answer seldom ends earlier.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import tuneport

QUESTION = "List ten support tickets of a bank about topic {}, with label, urgency and a summary of each."
TICKET = {
    "type": "object",
    "properties": {
        "label": {"enum": ["card", "transfer", "refund", "other"]},
        "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
        "summary": {"type": "string", "minLength": 20},
    },
    "required": ["label", "urgency", "summary"],
}
SCHEMA = {"type": "array", "items": TICKET, "minItems": 10}


def tokens_per_second(model: tuneport.Model, rows: int, tokens: int, **more: Any) -> float:
    """Answer so many questions together, once."""
    start = time.perf_counter()
    replies = model.reply_many([QUESTION.format(one) for one in range(rows)], max_tokens=tokens, **more)
    return sum(one.completion_tokens or 0 for one in replies) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="torch:smollm2-135m")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    model = tuneport.open_model(asked.model)
    model.reply("Hello", schema=SCHEMA, max_tokens=8)  # loads the model and reads the schema
    found = []
    for rows in asked.rows:
        rounds = [
            (
                tokens_per_second(model, rows, asked.tokens),
                tokens_per_second(model, rows, asked.tokens, schema=SCHEMA),
            )
            for _ in range(asked.rounds)
        ]
        free, bound = (statistics.median(one[side] for one in rounds) for side in (0, 1))
        ratio = statistics.median(one[1] / one[0] for one in rounds)
        found.append({"rows": rows, "free": free, "bound": bound, "ratio": ratio})
        print(f"{rows:3} rows: free {free:7.1f} tokens/s, bound {bound:7.1f} tokens/s, ratio {ratio:.2f}", flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
