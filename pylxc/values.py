"""Value classes that cost next to nothing to make: attrs' words, with methods that all classes share.

attrs compiles the methods of each class when its module is imported, which takes 0.5 ms. The hundred classes of a build
took a third of the time of a command that finds everything in the cache, and attrs itself another tenth. Here one
``__init__``, ``__eq__``, ``__hash__`` and ``__repr__`` serve all classes: they read the form of the class they are in.
Making a *value* takes one or two microseconds longer. What no common command loads may well be attrs' own.

Invariant: to its users a class from here is an attrs class. ``attrs.fields``, ``evolve``, ``asdict`` and ``has`` know
it, ``inspect.signature`` shows its fields, and a frozen one raises attrs' ``FrozenInstanceError``; for each of these
attrs is imported then, and asked what it would have made (:class:`_Twin`). Type checkers see attrs' own decorators.

Source: https://www.attrs.org/en/stable/api.html.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Factory", "as_dict", "defaults_of", "define", "evolve", "field", "frozen")

_NOTHING: Any = object()


class _Factory:
    """A default that is made for each value, with ``takes_self`` from what the value has already."""

    __slots__ = ("factory", "takes_self")

    def __init__(self, factory: Callable[..., Any], *, takes_self: bool = False) -> None:
        self.factory, self.takes_self = factory, takes_self


class _Field:
    """A field: what was said of it. ``name`` comes with the class; ``alias`` is its name as an argument."""

    __slots__ = ("alias", "converter", "default", "eq", "hash", "init", "kw_only", "name", "repr")

    def __init__(  # noqa: PLR0913  attrs' keywords
        self,
        *,
        default: Any = _NOTHING,
        factory: Callable[[], Any] | None = None,
        eq: bool = True,
        hash: bool | None = None,  # noqa: A002
        repr: bool | Callable[[Any], str] = True,  # noqa: A002
        init: bool = True,
        alias: str | None = None,
        converter: Callable[[Any], Any] | None = None,
    ) -> None:
        self.name, self.kw_only = "", False
        self.default = default if factory is None else _Factory(factory)
        self.alias, self.converter = alias, converter
        self.eq, self.hash = eq, hash
        self.repr, self.init = repr, init

    def is_made(self) -> bool:
        """Say whether its default is made, of nothing, for each value that is not given one."""
        return isinstance(self.default, _Factory) and self.init and not self.default.takes_self

    def is_late(self) -> bool:
        """Say whether its default is made when the other fields have their values."""
        return isinstance(self.default, _Factory) and not self.is_made()


class _Form:
    """What the shared methods ask of a class: its fields, in the orders and forms in which they need them."""

    def __init__(self, cls: type, fields: tuple[_Field, ...]) -> None:
        taken = [(str(one.alias), one) for one in fields if one.init]
        self.fields = fields
        self.accepted = frozenset(alias for alias, _ in taken)
        self.order = tuple(alias for alias, one in taken if not one.kw_only)
        self.factories = tuple((alias, one.default.factory) for alias, one in taken if one.is_made())
        self.late = tuple((one.name, one.default) for one in fields if one.is_late())
        self.defaults = {
            alias: _NOTHING if one.is_late() else one.default
            for alias, one in taken
            if one.default is not _NOTHING and not one.is_made()
        }
        self.converters = tuple((alias, one.converter) for alias, one in taken if one.converter is not None)
        self.renamed = tuple((alias, one.name) for alias, one in taken if alias != one.name)
        self.compared = _reader(one.name for one in fields if one.eq)
        self.hashed = _reader(one.name for one in fields if (one.eq if one.hash is None else one.hash))
        self.post = hasattr(cls, "__attrs_post_init__")

    def is_too_much(self, args: tuple[Any, ...], given: dict[str, Any]) -> bool:
        """Say whether there are more arguments than fields, or one comes twice."""
        return len(args) > len(self.order) or not given.keys().isdisjoint(self.order[: len(args)])


def _reader(names: Any) -> Callable[[object], object]:
    """Return what reads these attributes of a value, all at once."""
    chosen = tuple(names)
    return attrgetter(*chosen) if chosen else lambda _: ()


class _Twin:
    """An attribute of a class that only attrs can give: it makes the same class, once it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, _: object, cls: Any) -> Any:
        import inspect  # noqa: PLC0415  with attrs, all that is heavy here

        import attrs  # noqa: PLC0415

        twin = attrs.make_class(cls.__name__, {one.name: _said_to_attrs(one, cls) for one in cls.__form__.fields})
        cls.__attrs_attrs__, cls.__signature__ = attrs.fields(twin), inspect.signature(twin)
        return getattr(cls, self._name)


def _said_to_attrs(one: _Field, cls: type) -> Any:
    import attrs  # noqa: PLC0415

    about = {name: getattr(one, name) for name in ("alias", "converter", "eq", "hash", "init", "kw_only", "repr")}
    if isinstance(one.default, _Factory):
        about["default"] = attrs.Factory(one.default.factory, takes_self=one.default.takes_self)  # type: ignore[call-overload]
    elif one.default is not _NOTHING:
        about["default"] = one.default
    annotations = (getattr(base, "__annotations__", {}) for base in cls.__mro__)
    return attrs.field(type=next(found[one.name] for found in annotations if one.name in found), **about)


# -- the methods that all classes share -----------------------------------------------------------------------------


def _init(self: Any, *args: Any, **given: Any) -> None:
    form: _Form = self.__form__
    state = (
        {**form.defaults, **dict(zip(form.order, args, strict=False)), **given} if args else {**form.defaults, **given}
    )
    for name, make in form.factories:
        if name not in state:
            state[name] = make()
    if state.keys() != form.accepted or (args and form.is_too_much(args, given)):
        type(self).__signature__.bind(*args, **given)  # raises TypeError, with the words for what is wrong
    for alias, convert in form.converters:
        state[alias] = convert(state[alias])
    for alias, name in form.renamed:
        state[name] = state.pop(alias)
    self.__dict__.update(state)
    for name, one in form.late:
        if self.__dict__.get(name, _NOTHING) is _NOTHING:
            self.__dict__[name] = one.factory(*((self,) if one.takes_self else ()))
    if form.post:
        self.__attrs_post_init__()


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    compared = self.__form__.compared
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash((self.__class__, self.__form__.hashed(self)))


def _repr(self: Any) -> str:
    shown = (
        f"{one.name}={(repr if one.repr is True else one.repr)(getattr(self, one.name))}"
        for one in self.__form__.fields
        if one.repr
    )
    return f"{type(self).__qualname__.rpartition('>.')[2]}({', '.join(shown)})"


def _refuse(_: Any, *__: object) -> NoReturn:
    from attrs.exceptions import FrozenInstanceError  # noqa: PLC0415

    raise FrozenInstanceError


# -- the decorators -------------------------------------------------------------------------------------------------


def _fields_of(cls: Any, *, kw_only: bool) -> tuple[_Field, ...]:
    """Return the fields of a class, those of its bases first. Their values are taken out of the class."""
    found: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        form: _Form | None = base.__dict__.get("__form__")
        if form is None and "__attrs_attrs__" in base.__dict__:
            raise TypeError(
                f"{base.__name__} is attrs' own: make it, or {cls.__name__} as well, with the same decorator"
            )
        found.update({one.name: one for one in form.fields} if form else {})
    for name, annotation in cls.__annotations__.items():
        if annotation.startswith("ClassVar"):
            continue
        said = cls.__dict__.get(name, _NOTHING)
        one = said if isinstance(said, _Field) else _Field(default=said)
        one.name, one.alias, one.kw_only = name, one.alias or name.lstrip("_"), kw_only
        found.pop(name, None)  # one that is declared anew comes with the others of its class
        found[name] = one
        if said is not _NOTHING:
            delattr(cls, name)
    return tuple(found.values())


def _made(cls: Any, *, kw_only: bool, is_frozen: bool) -> Any:
    cls.__form__ = _Form(cls, _fields_of(cls, kw_only=kw_only))
    cls.__attrs_attrs__, cls.__signature__ = _Twin("__attrs_attrs__"), _Twin("__signature__")
    shared: dict[str, Any] = {
        "__init__": _init,
        "__repr__": _repr,
        "__eq__": _eq,
        "__hash__": _hash if is_frozen else None,
    }
    shared["__match_args__"] = cls.__form__.order
    if is_frozen:
        shared |= {"__setattr__": _refuse, "__delattr__": _refuse}
    for name, method in shared.items():
        if name not in cls.__dict__:
            setattr(cls, name, method)
    return cls


def _frozen(cls: Any = None, *, kw_only: bool = False) -> Any:
    """Make a class of values that do not change; see ``attrs.frozen``."""
    if cls is None:
        return lambda cls: _made(cls, kw_only=kw_only, is_frozen=True)
    return _made(cls, kw_only=kw_only, is_frozen=True)


def _define(cls: Any) -> Any:
    """Make a class of values that change; see ``attrs.define``."""
    return _made(cls, kw_only=False, is_frozen=False)


def _evolve(value: Any, /, **changes: Any) -> Any:
    """Return a value that differs from another one in some fields; see ``attrs.evolve``."""
    fields = [one for one in type(value).__form__.fields if one.init]
    return type(value)(**{**{str(one.alias): getattr(value, one.name) for one in fields}, **changes})


def as_dict(value: Any) -> dict[str, Any]:
    """Return the fields of a value by their names; what is in them stays as it is."""
    return {one.name: getattr(value, one.name) for one in value.__form__.fields}


def defaults_of(cls: Any) -> dict[str, Any]:
    """Return the fields of a class by their names, each with its default: with an object where there is none."""
    form: _Form = cls.__form__
    return {one.name: one.default.factory() if one.is_made() else one.default for one in form.fields}


if TYPE_CHECKING:
    from attrs import Factory, define, evolve, field, frozen
else:
    Factory, define, evolve, field, frozen = _Factory, _define, _evolve, _Field, _frozen
