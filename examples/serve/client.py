"""Fine-tune and ask with nothing but the official OpenAI client: on your own machine, where `tuneport serve` runs.

The client reads OPENAI_BASE_URL and OPENAI_API_KEY from the environment.
"""

import sys
import time
from pathlib import Path

from openai import OpenAI

model = sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m"
client = OpenAI()

with (Path(__file__).parent / "tickets.jsonl").open("rb") as rows:
    file = client.files.create(file=rows, purpose="fine-tune")
job = client.fine_tuning.jobs.create(
    model=model,
    training_file=file.id,
    suffix="tickets",
    method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
)
print(job.id)

seen: set[str] = set()
while True:
    job = client.fine_tuning.jobs.retrieve(job.id)
    events = [event for event in client.fine_tuning.jobs.list_events(job.id) if event.id not in seen]
    for event in reversed(events):
        print(event.message)
        seen.add(event.id)
    if job.status in ("succeeded", "failed", "cancelled"):
        break
    time.sleep(2)
if job.fine_tuned_model is None:
    sys.exit(f"{job.status}: {job.error.message if job.error else ''}")

print(job.fine_tuned_model)
answer = client.chat.completions.create(
    model=job.fine_tuned_model,
    messages=[
        {"role": "system", "content": "Sort the ticket."},
        {"role": "user", "content": "My parcel should have been here on Monday and nobody knows where it is."},
    ],
    temperature=0,
    stream=True,
)
for piece in answer:
    print(piece.choices[0].delta.content or "", end="", flush=True)
print()
