"""Value classes are to their users what attrs would have made of them."""

from __future__ import annotations

import inspect
import pickle
from copy import copy, deepcopy
from typing import ClassVar

import attrs
import pytest

from pylxc import values


def both(make):
    """Make a class twice: by ``pylxc.values``, and by attrs itself."""
    return make(values), make(attrs)


def make_point(maker):
    @maker.frozen
    class Point:
        KNOWN: ClassVar[int] = 1
        x: int
        _y: int = 2
        tags: list[str] = maker.field(factory=list, hash=False)
        note: str = maker.field(default="", eq=False, repr=False)
        square: int = maker.field(default=maker.Factory(lambda self: self.x**2, takes_self=True))
        name: str = maker.field(default="a", converter=str.upper)
        seen: dict[str, int] = maker.field(factory=dict, init=False, repr=len, eq=False)

    return Point


def make_named(maker):
    @maker.frozen(kw_only=True)
    class Named:
        name: str
        size: int = 0

    @maker.frozen(kw_only=True)
    class Sized(Named):
        more: str = "m"
        name: str = "again"

    return Sized


def make_counter(maker):
    @maker.define
    class Counter:
        count: int = 0
        names: list[str] = maker.field(factory=list)

    return Counter


CALLS = [
    ((1,), {}),
    ((1, 3), {"tags": ["t"]}),
    ((), {"x": 1, "y": 5, "note": "n", "square": None, "name": "é"}),
    ((1, 2, [], "", 3, "b"), {}),
]
WRONG = [
    ((), {}),
    ((1,), {"x": 1}),
    ((1,), {"z": 1}),
    ((1,), {"_y": 1}),
    ((1, 2, [], "", 3, "b", {}), {}),
    ((), {"y": 1}),
]


@pytest.mark.parametrize(("args", "given"), CALLS)
def test_a_value_is_made_shown_and_taken_apart_as_attrs_does(args, given):
    ours, theirs = both(make_point)
    mine, other = ours(*args, **given), theirs(*args, **given)
    assert repr(mine) == repr(other)
    assert attrs.asdict(mine) == attrs.asdict(other)
    assert list(attrs.asdict(mine)) == list(attrs.asdict(other)) == list(values.as_dict(mine))
    assert attrs.evolve(mine, x=9).x == values.evolve(mine, x=9).x == 9
    assert repr(values.evolve(mine, y=0)) == repr(attrs.evolve(other, y=0))


@pytest.mark.parametrize(("args", "given"), WRONG)
def test_wrong_arguments_are_refused(args, given):
    for point in both(make_point):
        with pytest.raises(TypeError, match="argument"):
            point(*args, **given)


def test_attrs_and_inspect_know_the_class():
    for make in (make_point, make_named, make_counter):
        ours, theirs = both(make)
        assert attrs.has(ours)
        assert inspect.signature(ours) == inspect.signature(theirs)
        for mine, other in zip(attrs.fields(ours), attrs.fields(theirs), strict=True):
            for fact in ("name", "alias", "type", "eq", "hash", "init", "kw_only"):
                assert getattr(mine, fact) == getattr(other, fact), (mine.name, fact)
            assert (mine.default is attrs.NOTHING) == (other.default is attrs.NOTHING)


def test_values_are_equal_by_the_fields_that_count():
    for point in both(make_point):
        assert point(1) == point(1, note="another")
        assert point(1) != point(2)
        assert point(1) != (1, 2)
        assert hash(point(1)) == hash(point(1, tags=[], note="another"))
        assert len({point(1, tags=()), point(1, tags=()), point(2, tags=())}) == 2
    mine, other = (make_named(maker)(name="a") for maker in (values, values))
    assert mine != other, "classes of one name are two classes"


def test_a_frozen_value_does_not_change_and_another_one_does():
    for point in both(make_point):
        value = point(1)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            value.x = 2
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            del value.x
    for counter in both(make_counter):
        value = counter()
        value.count = 4
        assert (value.count, counter().count, counter().names is counter().names) == (4, 0, False)
        with pytest.raises(TypeError, match="unhashable"):
            hash(value)


def test_fields_come_from_the_bases_first_and_may_be_given_anew():
    for sized in both(make_named):
        assert repr(sized(name="n")).endswith("Sized(size=0, more='m', name='n')")
        with pytest.raises(TypeError):
            sized("n")
    assert list(values.defaults_of(make_named(values)).items()) == [("size", 0), ("more", "m"), ("name", "again")]


def test_a_class_of_attrs_own_is_no_base():
    with pytest.raises(TypeError, match="Counter is attrs' own"):

        @values.define
        class More(make_counter(attrs)):
            more: int = 0


@values.frozen
class Kept:
    """What pickle finds by its name."""

    number: int
    words: tuple[str, ...] = ()


def test_values_are_copied_and_pickled():
    value = Kept(1, ("a",))
    unpickled = pickle.loads(pickle.dumps(value))  # noqa: S301  written above
    for again in (copy(value), deepcopy(value), unpickled):
        assert again == value
        assert hash(again) == hash(value)
        assert again is not value


def test_a_method_of_the_class_itself_stays():
    @values.frozen
    class Shout:
        text: str

        def __repr__(self):
            return self.text.upper()

        def __eq__(self, other):
            return isinstance(other, Shout)

        def __hash__(self):
            return 1

        def __attrs_post_init__(self):
            if not self.text:
                raise ValueError("empty")

    assert repr(Shout("a")) == "A"
    assert Shout("a") == Shout("b")
    assert hash(Shout("a")) == 1
    with pytest.raises(ValueError, match="empty"):
        Shout("")
