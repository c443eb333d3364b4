"""A text that comes in pieces, broken between words where a terminal's line ends."""

from __future__ import annotations

_TAB = 8


class Flow:
    """Holds a word back until it has ended, so that it stands whole on one line of `width` cells.

    Between two wide characters, such as Chinese ones, a line may break too. A word that is wider than a line is shown
    as it comes, and the terminal breaks it.
    """

    def __init__(self, width: int) -> None:
        self._width = max(width, 1)
        self._used = 0  # cells of the line so far
        self._gap = ""  # blanks behind what was shown; they are dropped where the line breaks
        self._word = ""
        self._is_long = False  # whether the beginning of this word was shown because it fills a line

    def feed(self, text: str) -> str:
        """What can be shown now."""
        return "".join(self._next(one) for one in text)

    def end(self) -> str:
        """What was held back."""
        shown = self._placed()
        gap, self._gap = self._gap, ""
        return shown + gap

    def _next(self, character: str) -> str:
        from rich.cells import get_character_cell_size

        if character == "\n":
            shown = self._placed()
            self._gap, self._used = "", 0
            return shown + character
        if character in " \t":
            shown = self._placed()
            self._gap += character
            return shown
        shown = self._placed() if get_character_cell_size(character) > 1 else ""
        self._word += character
        if shown or self._is_long or get_character_cell_size(character) > 1 or self._cells(self._word) >= self._width:
            is_long = self._is_long or self._cells(self._word) >= self._width
            shown += self._placed()
            self._is_long = is_long
        return shown

    def _placed(self) -> str:
        """The word behind the gap, or on the next line."""
        word, self._word = self._word, ""
        goes_on, self._is_long = self._is_long, False
        if not word:
            return ""
        size, gap = self._cells(word), self._gap
        self._gap = ""
        if goes_on:
            self._used = (self._used + size) % self._width
            return word
        behind = self._behind(gap)
        if self._used and behind + size > self._width:
            self._used = size % self._width if size > self._width else size
            return f"\n{word}"
        self._used = behind + size if behind + size <= self._width else (behind + size) % self._width
        return gap + word

    def _behind(self, gap: str) -> int:
        used = self._used
        for blank in gap:
            used = used + 1 if blank == " " else (used // _TAB + 1) * _TAB
        return used

    @staticmethod
    def _cells(text: str) -> int:
        from rich.cells import cell_len

        return cell_len(text)
