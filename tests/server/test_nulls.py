"""A null anywhere in a request's body counts as absent."""

from __future__ import annotations

import openai

from serving import jsonl, until_over


def test_nulls_in_bodies_count_as_absent(client: openai.OpenAI) -> None:
    turn = {"role": "user", "content": "hi", "name": None, "tool_calls": None, "audio": None, "function_call": None}
    nothing = dict.fromkeys(("reasoning_effort", "verbosity", "stop", "tools", "response_format", "seed", "n", "user"))
    asked = {"model": "gray", "messages": [turn], "extra_body": {**nothing, "stream_options": None}}
    said = client.chat.completions.create(**asked).choices[0].message
    again = [turn, said.model_dump(), {**turn, "content": [{"type": "text", "text": "and?", "cache_control": None}]}]
    assert client.chat.completions.create(model="gray", messages=again).choices
    file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
    details = {"hyperparameters": {"n_epochs": None, "batch_size": None, "learning_rate_multiplier": None}}
    job = client.fine_tuning.jobs.create(
        model="gray",
        training_file=file,
        extra_body={
            "suffix": None,
            "seed": None,
            "validation_file": None,
            "integrations": None,
            "metadata": {"team": None},
            "hyperparameters": None,
            "method": {"type": "supervised", "supervised": details, "dpo": None, "reinforcement": None},
        },
    )
    assert until_over(client, job.id).status == "succeeded"
    upload = client.uploads.create(
        bytes=3,
        filename="a.jsonl",
        mime_type="application/jsonl",
        purpose="fine-tune",
        extra_body={"expires_after": None},
    )
    part = client.uploads.parts.create(upload.id, data=b"{}\n")
    done = client.uploads.complete(upload.id, part_ids=[part.id], extra_body={"md5": None})
    assert done.status == "completed"


def test_a_null_within_a_schema_is_a_value(client: openai.OpenAI) -> None:
    parameters = {"type": "object", "properties": {"a": {"const": None}, "b": {"enum": [None, 1], "default": None}}}
    tool = {
        "type": "function",
        "function": {"name": "f", "description": None, "parameters": parameters, "strict": None},
    }
    asked = {"model": "gray", "messages": [{"role": "user", "content": "hi"}]}
    assert client.chat.completions.create(**asked, tools=[tool]).choices
