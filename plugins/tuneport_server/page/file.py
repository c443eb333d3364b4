"""The page of a file: what its check has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tuneport.plugin import html
from tuneport_server.page.frame import document, facts, link, live, moment, quiet, size_of
from tuneport_server.server import Server, owned_of, server_of
from tuneport_server.store import Owned, Row
from tuneport_server.vault import PURPOSE
from tuneport_server.wire import missing

_SHOWN_BYTES = 20_000  # of a file that a job made
_COLUMNS = ("severity", "code", "count", "finding", "remedy")
_PLACES = 3  # of a finding: messages, and places of each


def file(request: Request) -> Response:
    """`GET /files/{id}`: one file."""
    owned = owned_of(request)
    row = owned.file(request.path_params["file_id"])
    if row is None:
        raise missing("file", request.path_params["file_id"])
    known = [("id", row["id"]), ("size", size_of(row)), ("received (UTC)", moment(row["created"]))]
    counts, shown = _content(server_of(request), owned, row)
    parts = (
        html.tag("p", link("/", "Jobs"), " / ", row["id"], class_="path"),
        html.tag("h1", row["filename"]),
        live("facts", facts([*known, *counts]), class_="card"),
        live("check", shown),
    )
    return document(row["filename"], html.join(parts), owned.owner, here="/")


def _content(server: Server, owned: Owned, row: Row) -> tuple[Sequence[tuple[str, html.Child]], html.Html]:
    """Return what to show of a file's rows: counts, and the findings of its check."""
    if row["purpose"] != PURPOSE:
        try:
            with server.vault.open(row) as file:
                return (), html.join(
                    (html.tag("h2", "Content"), html.tag("pre", file.read(20_000).decode("utf-8", "replace")))
                )
        except FileNotFoundError:  # deleted since its row was read
            raise missing("file", row["id"]) from None
    result = owned.check(row["id"])
    if result is None:
        return (), quiet("The file is being checked.")
    if row["refused"]:
        return (), html.join((html.tag("h2", "Check"), html.tag("pre", row["details"], class_="error card")))
    found = _findings(result)
    shown = html.table(_COLUMNS, found) if found else quiet("No problems found.")
    counts = (
        ("rows read", f"{result['read']:,}"),
        ("rows used", f"{result['used']:,}"),
        ("rows rejected", f"{result['rejected']:,}"),
    )
    return counts, html.join((html.tag("h2", "Check"), html.tag("div", shown, class_="card")))


def _findings(result: dict[str, Any]) -> list[Sequence[html.Child]]:
    """Return a row for each code: how often it was found, its first messages with their places, and its remedy."""
    codes: dict[str, list[dict[str, Any]]] = {}
    for one in result["found"]:
        codes.setdefault(one["code"], []).append(one)
    counts = result.get("counts", {})  # results of an older server have none
    rows: list[Sequence[html.Child]] = []
    for code, found in codes.items():
        messages: dict[str, list[str]] = {}
        for one in found:
            messages.setdefault(one["message"], []).append(_place(one))
        shown = list(messages.items())[:_PLACES]
        places = sum(len(where[:_PLACES]) for _, where in shown)
        lines = [
            html.tag("div", message, html.tag("small", "; ".join(filter(None, where[:_PLACES]))))
            for message, where in shown
        ]
        total = max(len(found), counts.get(code, 0))
        more = html.tag("small", f"and {total - places:,} more") if total > places else ""
        severity = html.tag("span", found[0]["severity"], class_=found[0]["severity"])
        rows.append((severity, code, f"{total:,}", html.tag("div", *lines, more), found[0]["remedy"] or ""))
    return rows


def _place(one: dict[str, Any]) -> str:
    line, pointer = one["line"], one["pointer"]
    return " at ".join(part for part in (f"line {line}" if line else "", pointer or "") if part)


ROUTES = [Route("/files/{file_id}", file, methods=["GET"])]
