"""What makes two runs the same: a digest of arrays, options and the code of functions, equal in every process.

A function is its code and what the code can see: instructions, names, constants, defaults, closure, and the globals
that it reads (with their functions in turn). Line numbers, file names, docstrings and addresses are left out. The
code of installed packages, ravine included, counts by name only; what their functions close over counts in full. A
list or dictionary that a function reads is data, also if the function itself writes to it.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import types
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..records import dumps
from ..static import is_array

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_LIBRARY = tuple(str(Path(sysconfig.get_paths()[name]).resolve()) for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}
_PACKAGE = __name__.partition(".")[0]
# Methods that only handle fields: the fields themselves count.
_BOOKKEEPING = frozenset({"__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__replace__"})
_NO_PARTS = ("__dict__", "__weakref__")
_HAS_DOCSTRING = 0x4000000  # set from Python 3.13 on


def fingerprint(trees: tuple, *settings: Any) -> str:
    """A digest of what must agree between the run that wrote a checkpoint and the run that reads it: structure,
    contents of all arrays, options, functions (module docstring). `settings` count by their repr."""
    digest = _Digest()
    return _sha([[repr(s) for s in settings], [digest(tree) for tree in trees]])[:32]


def plain(x: Any) -> np.ndarray:
    """A leaf as a NumPy array; a typed random key as its data."""
    return np.asarray(jax.random.key_data(x)) if is_key(x) else np.asarray(x)


def is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _sha(text: Any) -> str:
    return hashlib.sha256(dumps(text).encode()).hexdigest()


class _Digest:
    """Any value as JSON-ready text that depends on values alone: not on addresses, not on hash randomisation, nor on
    whether an option was left at its default or given (which Equinox's repr shows)."""

    def __init__(self):
        self._open: list[int] = []  # what is being described, outermost first
        self._done: dict[int, tuple[Any, str]] = {}  # with the object, so that its address is not used again

    def __call__(self, x: Any) -> Any:
        if x is None or isinstance(x, (bool, int, float, complex, str, bytes)):
            return [type(x).__name__, repr(x)]
        if id(x) in self._open:  # a function that closes over itself, a list that holds itself
            return ["again", self._open.index(id(x))]
        if id(x) not in self._done:
            self._open.append(id(x))
            self._done[id(x)] = (x, _sha(self._text(x)))
            self._open.pop()
        return self._done[id(x)][1]

    def _text(self, x: Any) -> Any:
        if is_array(x):
            return self._array(plain(x))
        if isinstance(x, dict):
            return ["dict", sorted((_sha(self(k)), self(v)) for k, v in x.items())]
        if isinstance(x, (list, tuple)):
            return [type(x).__name__, *map(self, x)]
        if isinstance(x, (set, frozenset)):
            return ["set", *sorted(_sha(self(v)) for v in x)]
        if isinstance(x, eqx.Module) or (dataclasses.is_dataclass(x) and not isinstance(x, type)):
            return [self(type(x)), [[f.name, self(getattr(x, f.name, None))] for f in dataclasses.fields(x)]]
        if isinstance(x, type):
            return [_name(x), *self._methods(x)]
        if isinstance(x, types.CodeType):
            return self._code(x, None)
        if isinstance(x, types.ModuleType):
            return ["module", x.__name__]
        if callable(x):
            return self._callable(x)
        return self._object(x)

    def _array(self, x: np.ndarray) -> Any:
        content = [self(v) for v in x.ravel().tolist()] if x.dtype == object else hashlib.sha256(x.tobytes())
        return ["array", str(x.dtype), list(x.shape), content if isinstance(content, list) else content.hexdigest()]

    # -- functions -------------------------------------------------------------------------------------------
    def _callable(self, x: Any) -> Any:
        if inspect.isfunction(x):
            return self._function(x)
        if isinstance(x, functools.partial):
            return ["partial", self(x.func), self(x.args), self(x.keywords)]
        if inspect.ismethod(x):
            return ["method", self(x.__func__), self(x.__self__)]
        if inspect.isbuiltin(x) and not isinstance(x.__self__, types.ModuleType | None):
            return ["method", _name(x), self(x.__self__)]
        wrapped = getattr(x, "__wrapped__", None)  # jit, custom_jvp, lru_cache
        if wrapped is not None and wrapped is not x:
            return [type(x).__name__, self(wrapped)]
        return [_name(x), self._object(x)]

    def _function(self, f: types.FunctionType) -> Any:
        cells = [self(_content(cell)) for cell in f.__closure__ or ()]
        seen = [_name(f), self(f.__defaults__), self(f.__kwdefaults__), cells]
        return [*seen, self._code(f.__code__, f.__doc__), self._globals(f)] if _own(f) else seen

    def _code(self, code: types.CodeType, doc: str | None) -> Any:
        constants = [self(None if doc is not None and c == doc else c) for c in code.co_consts]
        flags = code.co_flags & ~_HAS_DOCSTRING
        arguments = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, flags]
        exceptions = getattr(code, "co_exceptiontable", b"")
        return [code.co_code.hex(), exceptions.hex(), list(code.co_names), arguments, constants]

    def _globals(self, f: types.FunctionType) -> Any:
        """The globals that `f` reads, and those parts of imported modules of one's own that it may name."""
        read, written, names = _names(f.__code__)
        found = []
        for name in sorted((read - written) & set(f.__globals__)):
            value = f.__globals__[name]
            found.append([name, self(value)])
            if isinstance(value, types.ModuleType) and _own(value):
                found.extend([name, n, self(getattr(value, n))] for n in sorted(names) if n in vars(value))
        return found

    # -- objects ---------------------------------------------------------------------------------------------
    def _methods(self, cls: type) -> Any:
        """The methods of a class of one's own and of its bases: editing one changes what its objects compute."""
        found = []
        for base in cls.__mro__:
            if not _own(base):
                continue
            for name, entry in sorted(vars(base).items()):
                inner = getattr(entry, "__func__", entry)  # static and class methods
                inner = inner.fget if isinstance(inner, property) else inner
                inner = getattr(inner, "func", inner)  # cached properties
                if inspect.isfunction(inner) and name not in _BOOKKEEPING:
                    found.append([_name(base), name, self(inner)])
        return found

    def _object(self, x: Any) -> Any:
        leaves, treedef = jax.tree.flatten(x)
        if not jax.tree_util.treedef_is_leaf(treedef):
            return [_plain_repr(treedef), *map(self, leaves)]
        if (parts := _parts(x)) is not None:
            return [self(type(x)), *([n, self(v)] for n, v in sorted(parts.items()))]
        return [_name(type(x)), _plain_repr(x)]


def _parts(x: Any) -> dict[str, Any] | None:
    """The attributes of an object made of others; None for one that has no place for them."""
    slots = [name for cls in type(x).__mro__ for name in _as_names(vars(cls).get("__slots__", ()))]
    if not slots and not hasattr(x, "__dict__"):
        return None
    inside = {name: getattr(x, name) for name in slots if name not in _NO_PARTS and hasattr(x, name)}
    return inside | getattr(x, "__dict__", {})


def _as_names(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _names(code: types.CodeType) -> tuple[set[str], set[str], set[str]]:
    """(globals read, globals written, all names) in a code object and those nested in it."""
    read, written, names = set(), set(), set(code.co_names)
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "STORE_NAME"):
            written.add(instruction.argval)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more = _names(inner)
            read, written, names = read | more[0], written | more[1], names | more[2]
    return read, written, names


def _own(x: Any) -> bool:
    """Whether a function, class or module belongs to the user: not to ravine, Python or an installed package."""
    module = x.__name__ if isinstance(x, types.ModuleType) else getattr(x, "__module__", None) or ""
    if module.partition(".")[0] in {_PACKAGE, "builtins"}:
        return False
    source = x.__code__.co_filename if inspect.isfunction(x) else getattr(sys.modules.get(module), "__file__", None)
    if source is None:  # a built-in module, or one that is typed in
        return module not in sys.builtin_module_names
    path = Path(source)
    return not (_INSTALLED & set(path.parts) or str(path).startswith(("<frozen", *_LIBRARY)))


def _name(x: Any) -> str:
    name = getattr(x, "__qualname__", None) or getattr(x, "__name__", type(x).__name__)
    return f"{getattr(x, '__module__', '')}.{name}"


def _plain_repr(x: Any) -> str:
    return _ADDRESS.sub("", repr(x))
