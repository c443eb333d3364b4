"""Read a server's lists to their end or to a bound, whatever the server does with its cursor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tuneport.errors import BackendError

MOST_PAGES = 200
MOST_ITEMS = 20_000
_MOST_THIN = 2  # pages on which hardly anything is new
_SMALL, _MOST_SMALL = 10, 50  # a list that grows while it is read may bring one new item a page, forever


class Pages:
    """The items of a list, each once. Afterwards, `is_complete` says whether the server's list has ended.

    Stops at a page that brings nothing new, at the second one that brings hardly anything, and at a bound.
    """

    def __init__(self, first: Any, *, most_pages: int = MOST_PAGES, most_items: int = MOST_ITEMS) -> None:
        self._page = first
        self._most_pages = most_pages
        self._most_items = most_items
        self._seen: set[str] = set()
        self.is_complete = False

    def __iter__(self) -> Iterator[Any]:
        for page in self.pages():
            yield from page

    def pages(self) -> Iterator[list[Any]]:
        """The new items of each page; items that are not objects are left out."""
        thin = small = 0
        for _ in range(self._most_pages):
            items = items_of(self._page)
            new = self._select_new(items)
            yield new
            self.is_complete = not self._page.has_next_page()
            thin += bool(items) and len(new) * 10 < len(items)
            small += len(new) < _SMALL
            stalls = not new or thin >= _MOST_THIN or small >= _MOST_SMALL
            if self.is_complete or stalls or len(self._seen) >= self._most_items:
                return
            self._page = self._page.get_next_page()

    def require_complete(self, what: str) -> None:
        """Raise BackendError where the list has not ended."""
        if not self.is_complete:
            raise BackendError(
                f"The list of {what} does not end: {len(self._seen):,} were read, and more are announced.",
                remedy="Check the server's own page.",
            )

    def _select_new(self, items: list[Any]) -> list[Any]:
        new = []
        for one in items:
            key = identity_of(one)
            if key not in self._seen:
                self._seen.add(key)
                new.append(one)
        return new


def items_of(page: Any) -> list[Any]:
    """The objects of a page; a server may send null, or anything, for its list."""
    data = getattr(page, "data", None)
    return [one for one in data if hasattr(one, "to_dict")] if isinstance(data, list) else []


def identity_of(item: Any) -> str:
    """The id of an item, else its time and message."""
    found = getattr(item, "id", None)
    if isinstance(found, str) and found:
        return found
    return f"{getattr(item, 'created_at', '')} {getattr(item, 'message', '')}"
