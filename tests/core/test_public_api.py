"""The front door: what is promised, and that it says what it does."""

from __future__ import annotations

import inspect

import pytest

import tuneport


def test_all_is_sorted_and_every_name_is_there() -> None:
    assert sorted(tuneport.__all__) == tuneport.__all__
    for name in tuneport.__all__:
        assert getattr(tuneport, name) is not None


def test_nothing_else_is_promised() -> None:
    assert set(dir(tuneport)) == {*tuneport.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tuneport.nonsense  # noqa: B018 - the access is the test


def _public() -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    for name in tuneport.__all__:
        value = getattr(tuneport, name)
        found.append((name, value))
        if inspect.isclass(value) and value.__module__.startswith("tuneport"):
            found += [
                (f"{name}.{member}", attribute)
                for member, attribute in vars(value).items()
                if not member.startswith("_") and (inspect.isfunction(attribute) or isinstance(attribute, property))
            ]
    return found


@pytest.mark.parametrize(("name", "value"), _public())
def test_every_public_name_has_a_docstring(name: str, value: object) -> None:
    if inspect.isclass(value) or inspect.isfunction(value) or isinstance(value, property):
        assert inspect.getdoc(value), f"{name} has no docstring"


def test_every_error_hangs_on_the_one_root_and_is_drawn() -> None:
    from tuneport import errors

    tree = inspect.getdoc(errors) or ""
    classes = [v for v in vars(errors).values() if inspect.isclass(v) and issubclass(v, BaseException)]
    assert len(classes) > 15
    for cls in classes:
        assert issubclass(cls, tuneport.TuneportError)
        assert cls.__name__ in tree


def test_an_error_says_its_cure() -> None:
    error = tuneport.errors.UsageError("It is wrong.", remedy="Type this.")
    assert str(error) == "It is wrong.\nType this."
    assert isinstance(error, ValueError)
