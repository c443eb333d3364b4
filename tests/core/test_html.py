"""The HTML builder: what is not HTML is escaped, and tables keep their columns."""

from __future__ import annotations

import pytest

from tuneport.plugin import html


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<b>&\"'", "&lt;b&gt;&amp;&quot;&#x27;"),
        ("a\x00\x1b[31m", "a\ufffd\ufffd[31m"),
        ("left\u202eright\u2066", "left\ufffdright\ufffd"),
        ("\ud800 and \uffff", "\ufffd and \ufffd"),
        ("lines\r\nand\ttabs", "lines\nand\ttabs"),
    ],
)
def test_text_is_escaped_in_elements_and_attributes(text: str, escaped: str) -> None:
    assert html.tag("p", text, title=text) == f'<p title="{escaped}">{escaped}</p>'


def test_html_is_not_escaped_again_and_numbers_are_text() -> None:
    assert html.join([html.tag("b", 1), None, ["<", 2.5]]) == "<b>1</b>&lt;2.5"


def test_attributes_are_left_out_bare_or_written() -> None:
    assert html.tag("input", hidden=True, checked=False, data_x=None, class_="a", width=2.50) == (
        '<input hidden class="a" width="2.5">'
    )


def test_a_table_escapes_cells_and_marks_columns_of_numbers() -> None:
    table = html.table(["name", "rows"], [["<x>", 3], html.tag("tr", html.tag("td", "own row"))], numbers=["rows"])
    assert '<th scope="col">name</th><th scope="col" class="number">rows</th>' in table
    assert '<td data-name="name">&lt;x&gt;</td><td class="number" data-name="rows">3</td>' in table
    assert "<tr><td>own row</td></tr>" in table


def test_a_row_with_too_few_cells_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        html.table(["a", "b"], [["only one"]])
