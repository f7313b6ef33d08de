"""Options given as text, typed by the class that owns them.

Second pass of the command line: the fields of a problem, model, method or sampler are known once its class is
loaded. Text is converted by the field's annotation; ranges are checked by the class itself. A class with `from_text`,
such as a schedule, reads its own text and raises its own sentence.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ..checks import nearest
from ..model import Model

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


class _Told(ValueError):
    """A mistake that the class which read the text described itself."""


def construct(cls: type, options: Mapping[str, str], prefix: str) -> Any:
    """`cls` with typed options. Raises ValueError, one sentence: unknown option, wrong type, or the class's refusal."""
    return cls(**typed(cls, options, prefix))


def typed(cls: type, options: Mapping[str, str], prefix: str, **more: Any) -> dict[str, Any]:
    """The options converted by the constructor's annotations, or those of `more` for what the constructor does not
    take. Raises ValueError with a sentence."""
    known = more | fields(cls)
    for name in options:
        if name not in known:
            hint = nearest(name, known) if known else "it has none."
            raise ValueError(f"{prefix}{name}: {cls.__name__} has no option {name!r}; {hint}")
    return {name: convert(text, known[name], f"{prefix}{name}") for name, text in options.items()}


def fields(cls: type) -> dict[str, Any]:
    """Constructor arguments that text can give, with their types; callables and other modules are left out."""
    try:
        hints = typing.get_type_hints(cls) | typing.get_type_hints(cls.__init__)
    except (NameError, TypeError, SyntaxError):
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    known = {p.name: hints.get(p.name, Any) for p in inspect.signature(cls).parameters.values() if p.kind in named}
    return {name: annotation for name, annotation in known.items() if _is_plain(annotation)}


def _is_plain(annotation: Any) -> bool:
    if annotation in (Any, types.NoneType) or typing.get_origin(annotation) is typing.Literal:
        return True
    if arguments := _alternatives(annotation) or _items(annotation):
        return all(_is_plain(a) for a in arguments)
    return isinstance(annotation, type) and (annotation in _WORDS or hasattr(annotation, "from_text"))


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union that text can give."""
    united = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if united else ()
    return tuple(m for m in members if typing.get_origin(m) is not Callable)


def _items(annotation: Any) -> tuple[Any, ...]:
    items = typing.get_args(annotation) if typing.get_origin(annotation) is tuple else ()
    return tuple(item for item in items if item is not Ellipsis)


def convert(text: str, annotation: Any, where: str) -> Any:
    """`text` as a value of the annotated type; the items of a tuple are separated by commas. Raises ValueError."""
    try:
        return _converted(text, annotation)
    except _Told as error:
        raise ValueError(f"{where}={text}: {error}") from None
    except ValueError:
        raise ValueError(f"{where}={text}: must be {_describe(annotation)}.") from None


def _converted(text: str, annotation: Any) -> Any:
    if annotation is Any:
        annotation = int | float | bool | None | str
    if kinds := _alternatives(annotation):
        refused = ValueError(text)
        for kind in sorted(kinds, key=lambda k: k is str):  # everything is text, so text is tried last
            try:
                return _converted(text, kind)
            except _Told as error:
                refused = error
            except ValueError:
                continue
        raise refused
    if items := _items(annotation):
        parts = text.split(",")
        if Ellipsis in typing.get_args(annotation):
            items = items * len(parts)
        return tuple(_converted(part.strip(), item) for part, item in zip(parts, items, strict=True))
    if typing.get_origin(annotation) is typing.Literal:
        return {str(choice): choice for choice in typing.get_args(annotation)}[_known(text, annotation)]
    if hasattr(annotation, "from_text"):
        try:
            return annotation.from_text(text)
        except ValueError as error:
            raise _Told(str(error)) from None
    for kind in (int, float, str):
        if annotation is kind:
            return kind(text)
    if annotation in (bool, types.NoneType):
        table = _BOOLEANS if annotation is bool else {"none": None}
        if text.lower() not in table:
            raise ValueError(text)
        return table[text.lower()]
    raise ValueError(text)


def _known(text: str, literal: Any) -> str:
    if text not in map(str, typing.get_args(literal)):
        raise ValueError(text)
    return text


def refine(model: Any, options: Mapping[str, str]) -> Any:
    """The model with options replaced, each in the outermost (nested) model that has it. Raises ValueError."""
    found: dict[str, list[str]] = {}
    for name in options:
        path = _path_to(model, name)
        if path is None:
            names = [n for m in _nested(model) for n in fields(type(m))]
            hint = nearest(name, names) if names else "it has none."
            raise ValueError(f"--model.{name}: {type(model).__name__} has no option {name!r}; {hint}")
        found.setdefault(".".join(path), []).append(name)
    for path, names in found.items():
        model = _replace_at(model, path.split(".") if path else [], {n: options[n] for n in names})
    return model


def _nested(model: Any) -> list[Any]:
    return [model, *(m for child in _children(model).values() for m in _nested(child))]


def _children(model: Any) -> dict[str, Any]:
    return {f.name: v for f in dataclasses.fields(model) if isinstance(v := getattr(model, f.name, None), Model)}


def _path_to(model: Any, name: str) -> list[str] | None:
    if name in fields(type(model)):
        return []
    for child_name, child in _children(model).items():
        rest = _path_to(child, name)
        if rest is not None:
            return [child_name, *rest]
    return None


def _replace_at(model: Any, path: list[str], options: Mapping[str, str]) -> Any:
    if not path:
        return dataclasses.replace(model, **typed(type(model), options, "--model."))
    inner = _replace_at(getattr(model, path[0]), path[1:], options)
    # Not dataclasses.replace: a wrapper's constructor need not take its fields. The part was checked when it was made.
    new = object.__new__(type(model))
    for field in dataclasses.fields(model):
        object.__setattr__(new, field.name, inner if field.name == path[0] else getattr(model, field.name))
    return new


def _describe(annotation: Any) -> str:
    if kinds := _alternatives(annotation):
        return " or ".join(dict.fromkeys(map(_describe, kinds)))
    if items := _items(annotation):
        words = "numbers" if set(items) <= {int, float} else "values"
        number = "" if Ellipsis in typing.get_args(annotation) else f"{len(items)} "
        return f"{number}{words} separated by commas"
    if typing.get_origin(annotation) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(annotation)))
    return "none" if annotation is types.NoneType else _WORDS.get(annotation, str(annotation))
