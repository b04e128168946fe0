"""Steps in the order of what they need."""

from __future__ import annotations

import pytest

from llmser_tasks.core.errors import DeclarationError
from llmser_tasks.core.kinds import METHODS, STEPS, Method, Step, chain


def declare(monkeypatch: pytest.MonkeyPatch, method: tuple[str, ...], **needs: tuple[str, ...]) -> None:
    """A method "toy" and these steps, which need others."""
    steps = {name: (Step(title=name, place=1, needs=of), name) for name, of in needs.items()}
    toy = Method(title="toy", place=1, colour="muted", needs=method)
    monkeypatch.setitem(vars(STEPS), "_all", steps)
    monkeypatch.setitem(vars(METHODS), "_all", {"toy": (toy, "toy")})


def test_steps_come_after_what_they_need(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, ("last",), last=("middle", "first"), middle=("first",), first=(), other=())
    assert list(chain(["toy"])) == ["first", "middle", "last"]


@pytest.mark.parametrize(("method", "who"), [(("lost",), "toy"), (("first",), "first")])
def test_a_need_that_is_no_step_is_told_with_who_has_it(
    monkeypatch: pytest.MonkeyPatch, method: tuple[str, ...], who: str
) -> None:
    declare(monkeypatch, method, first=("lost",))
    with pytest.raises(DeclarationError) as told:
        chain(["toy"])
    assert str(told.value) == (
        f"{who} needs lost, which is no step; correct `needs` in its declaration, or declare the step in a file of that"
        " name."
    )


def test_steps_that_need_each_other_are_told_in_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    declare(monkeypatch, ("a", "z"), z=(), a=("b",), b=("z", "c"), c=("b",))
    with pytest.raises(DeclarationError) as told:
        chain(["toy"])
    assert str(told.value) == "b needs c, c needs b; take one of these out of `needs` in its declaration."
