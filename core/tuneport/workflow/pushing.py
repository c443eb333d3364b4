"""Publishes a model on a hub, with the results of its run."""

from __future__ import annotations

from tuneport.contract.facts import Publication, PushRequest
from tuneport.doors import public
from tuneport.refs import Ref
from tuneport.workflow.naming import find_ref
from tuneport.workflow.opening import open_model
from tuneport.workflow.reporting import found_comparison


@public()
def push(
    ref: str | Ref,
    repository: str,
    *,
    kind: str = "merged",
    private: bool = False,
    dtype: str | None = None,
    dry_run: bool = False,
) -> Publication:
    """Export a model and upload it to `repository` (owner/name) on the Hugging Face hub, with a model card that has
    its lineage and, if its run compared it with its base, the scores. `dry_run` only checks whether it is possible.

    Raises UnsupportedError if the backend does not support this kind, UnavailableError without a token or a network,
    and UsageError if the repository holds something else.
    """
    ref = find_ref(ref)
    found = found_comparison(ref)
    request = PushRequest(private=private, dtype=dtype, comparison=found.to_dict() if found else None, dry_run=dry_run)
    return open_model(ref).push(repository, kind, request)
