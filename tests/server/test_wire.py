"""The unmodified official client, from an uploaded file to an answer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from serving import Served, jsonl, until_over

QUESTION = [{"role": "user", "content": "PIN please"}]


@pytest.fixture
def tuned(client: openai.OpenAI):
    file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="gray", training_file=file.id, suffix="My Test!", seed=7, metadata={"run": "1"}
    )
    assert job.status == "validating_files"
    return until_over(client, job.id)


def test_a_file_becomes_a_job_becomes_a_model_that_answers(client: openai.OpenAI, tuned) -> None:
    assert tuned.status == "succeeded", tuned
    assert (tuned.seed, tuned.metadata, tuned.error) == (7, {"run": "1"}, None)
    assert tuned.fine_tuned_model.startswith("ft:gray:")
    assert tuned.fine_tuned_model in [one.id for one in client.models.list()]
    assert client.models.retrieve(tuned.fine_tuned_model).owned_by == tuned.organization_id
    answer = client.chat.completions.create(model=tuned.fine_tuned_model, messages=QUESTION, n=2)
    assert [one.message.content for one in answer.choices] == ["pin", "pin"]
    pieces = client.chat.completions.create(model=tuned.fine_tuned_model, messages=QUESTION, stream=True)
    chunks = list(pieces)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == "pin"
    assert chunks[-1].choices[0].finish_reason == "stop"
    several = ["", ""]
    for one in client.chat.completions.create(model="gray", messages=QUESTION, stream=True, n=2):
        several[one.choices[0].index] += one.choices[0].delta.content or ""
    assert several == ["Hello!", "Hello!"]
    assert client.files.content(tuned.result_files[0]).text.startswith("step,train_loss,")


def test_events_are_listed_newest_first_in_pages_with_stable_ids(client: openai.OpenAI, tuned) -> None:
    whole = [one.id for one in client.fine_tuning.jobs.list_events(tuned.id)]
    assert len(whole) == len(set(whole)) >= 6
    assert [one.id for one in client.fine_tuning.jobs.list_events(tuned.id, limit=2)] == whole
    messages = [one.message for one in client.fine_tuning.jobs.list_events(tuned.id)]
    assert messages[-1] == f"Created fine-tuning job: {tuned.id}"
    assert "Step 1/1: training loss=0.50" in messages
    client.models.delete(tuned.fine_tuned_model)
    assert [one.id for one in client.fine_tuning.jobs.list_events(tuned.id)] == whole


def test_a_deleted_model_is_gone_and_its_job_is_kept(client: openai.OpenAI, tuned) -> None:
    client.chat.completions.create(model=tuned.fine_tuned_model, messages=QUESTION)
    assert client.models.delete(tuned.fine_tuned_model).deleted
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model=tuned.fine_tuned_model, messages=QUESTION)
    with pytest.raises(openai.NotFoundError):
        client.models.delete(tuned.fine_tuned_model)
    assert client.fine_tuning.jobs.retrieve(tuned.id).status == "succeeded"
    with pytest.raises(openai.PermissionDeniedError):
        client.models.delete("gray")


def test_the_error_for_a_checkpoint_names_the_model_to_use(client: openai.OpenAI, tuned) -> None:
    name = f"{tuned.fine_tuned_model}:ckpt-step-1"
    for use in (
        lambda: client.chat.completions.create(model=name, messages=QUESTION),
        lambda: client.models.retrieve(name),
        lambda: client.fine_tuning.jobs.create(model=name, training_file=tuned.training_file),
    ):
        with pytest.raises(openai.NotFoundError, match="is a checkpoint") as error:
            use()
        assert error.value.code == "model_not_found"
        assert error.value.body["message"].endswith(f"Use the model itself: {tuned.fine_tuned_model}")


def test_a_tuned_model_can_be_the_base_of_another(client: openai.OpenAI, tuned) -> None:
    file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune")
    job = until_over(client, client.fine_tuning.jobs.create(model=tuned.fine_tuned_model, training_file=file.id).id)
    assert job.fine_tuned_model.startswith("ft:gray:")


def test_jobs_are_listed_newest_first_by_metadata_and_by_cursor(client: openai.OpenAI, tuned) -> None:
    jobs = client.fine_tuning.jobs
    more = [jobs.create(model="gray", training_file=tuned.training_file).id for _ in range(3)]
    assert len({*more}) == 3
    assert [one.id for one in jobs.list(limit=2)] == [*more[::-1], tuned.id]
    assert [one.id for one in jobs.list(metadata={"run": "1"})] == [tuned.id]
    assert list(jobs.list(metadata={"run": "2"})) == []
    assert [one.id for one in jobs.list(extra_query={"metadata": "null"})] == more[::-1]
    assert [until_over(client, one).status for one in more] == ["succeeded"] * 3


def test_files_are_listed_by_cursor_and_have_the_uploaded_bytes(client: openai.OpenAI) -> None:
    names = ["../../etc/passwd", "wörter.jsonl", "c.jsonl"]
    files = [client.files.create(file=(name, jsonl()), purpose="fine-tune") for name in names]
    assert [one.filename for one in files] == ["passwd", "wörter.jsonl", "c.jsonl"]
    assert [one.id for one in client.files.list(limit=1)] == [one.id for one in files[::-1]]
    assert [one.id for one in client.files.list(order="asc")] == [one.id for one in files]
    assert client.files.content(files[0].id).read() == jsonl()
    assert client.files.delete(files[0].id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(files[0].id)


def test_each_token_sees_only_what_it_owns(shared: Served, client: openai.OpenAI, tuned) -> None:
    with shared.client(shared.add_token("stranger"), max_retries=0) as other:
        assert list(other.files.list()) == []
        assert list(other.fine_tuning.jobs.list()) == []
        assert [one.id for one in other.models.list()] == ["gray"]
        for ask in (
            lambda: other.files.retrieve(tuned.training_file),
            lambda: other.files.delete(tuned.training_file),
            lambda: other.fine_tuning.jobs.retrieve(tuned.id),
            lambda: other.fine_tuning.jobs.cancel(tuned.id),
            lambda: other.fine_tuning.jobs.list_events(tuned.id),
            lambda: other.models.delete(tuned.fine_tuned_model),
            lambda: other.chat.completions.create(model=tuned.fine_tuned_model, messages=QUESTION),
        ):
            with pytest.raises(openai.NotFoundError):
                ask()
        with pytest.raises(openai.BadRequestError, match="there is no file"):
            other.fine_tuning.jobs.create(model="gray", training_file=tuned.training_file)


def test_cancel_is_final_and_may_be_repeated(client: openai.OpenAI, tuned) -> None:
    with pytest.raises(openai.BadRequestError, match="already completed"):
        client.fine_tuning.jobs.cancel(tuned.id)
    with pytest.raises(openai.BadRequestError, match="already completed"):
        client.fine_tuning.jobs.resume(tuned.id)


def test_more_models_than_the_limit_all_answer(own: Served) -> None:
    own.end()
    own._arguments += ("--limit", "models=1")
    own.start()
    with own.client() as client:
        file = client.files.create(file=("rows.jsonl", jsonl()), purpose="fine-tune").id
        made = [client.fine_tuning.jobs.create(model="gray", training_file=file).id for _ in range(2)]
        names = ["gray", *(until_over(client, one).fine_tuned_model for one in made)] * 3
        with ThreadPoolExecutor(9) as pool:
            asked = pool.map(lambda one: client.chat.completions.create(model=one, messages=QUESTION), names)
            answers = [one.choices[0].message.content for one in asked]
    assert answers == ["Hello!", "pin", "pin"] * 3
