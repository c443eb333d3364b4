"""Rows that are sent to the loopback server."""

ROWS = [
    {
        "messages": [
            {"role": "system", "content": "Answer in one word."},
            {"role": "user", "content": f"Question {n}"},
            {"role": "assistant", "content": f"answer{n}"},
        ]
    }
    for n in range(8)
]
PAIRS = [{"prompt": f"Question {n}", "chosen": "yes", "rejected": "no"} for n in range(8)]
