"""The fingerprint of a run: what a function computes decides, not where or in which process it was made."""

import functools
import os
import subprocess
import sys
import types

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
import scipy.interpolate

from ravine.driver.fingerprint import fingerprint

jnp = jax.numpy


def of(x):
    return fingerprint((x,), 0)


def module(source: str, name: str = "mine") -> types.ModuleType:
    """A module of the user's with this source, fresh each time, as a new process would have it."""
    made = types.ModuleType(name)
    exec(compile(source, f"/home/user/{len(source)}.py", "exec"), made.__dict__)
    return made


def fn(source: str):
    return module(source).f


SAME = {
    "lines, comments and the docstring": (
        "def f(p, x):\n    return p * x - 1.0",
        "# moved\n\n\ndef f(p, x):\n    'Residual.'\n    return p * x - 1.0",
    ),
    "names of variables": ("def f(p, x):\n    y = p * x\n    return y", "def f(q, z):\n    w = q * z\n    return w"),
    "a set of strings": ("def f(p, x):\n    return x in {'a', 'b', 'c'}",) * 2,
    "a global that is not read": ("c = 1.0\ndef f(p, x): return p.c", "c = 2.0\ndef f(p, x): return p.c"),
    "a counter": ("n = 0\ndef f(p, x):\n  global n; n += 1", "n = 5\ndef f(p, x):\n  global n; n += 1"),
    "recursion": ("def make():\n  def f(n): return n and f(n - 1)\n  return f\nf = make()",) * 2,
    "mutual recursion": ("def f(n): return n and g(n - 1)\ndef g(n): return n and f(n - 1)",) * 2,
    "jit": ("import jax\nf = jax.jit(lambda p: jax.numpy.tanh(p))",) * 2,
}
BY = "import functools\ndef by(c):\n  return lambda g: functools.wraps(g)(lambda x: c * g(x))\n"
DIFFERENT = {
    "a constant": ("f = lambda p, x: p * x - 1.0", "f = lambda p, x: p * x - 7.0"),
    "an operation": ("f = lambda p, x: p * x", "f = lambda p, x: p + x"),
    "a function that is called": ("f = lambda p, x: p.sin(x)", "f = lambda p, x: p.cos(x)"),
    "a default": ("def f(p, x, c=1.0): return c", "def f(p, x, c=2.0): return c"),
    "a keyword default": ("def f(p, *, c=1.0): return c", "def f(p, *, c=2.0): return c"),
    "a nested function": ("def f(p): return (lambda y: y + 1)(p)", "def f(p): return (lambda y: y + 2)(p)"),
    "a global number": ("c = 1.0\ndef f(p, x): return c", "c = 2.0\ndef f(p, x): return c"),
    "a global array": (
        "import numpy as n\nc = n.ones(3)\nf = lambda p: c",
        "import numpy as n\nc = n.zeros(3)\nf = lambda p: c",
    ),
    "a global read by an inner function": (
        "c = 1.0\ndef f(p): return [c for _ in p]",
        "c = 2.0\ndef f(p): return [c for _ in p]",
    ),
    "a function it calls": ("def g(x): return x\ndef f(p): return g(p)", "def g(x): return -x\ndef f(p): return g(p)"),
    "the value under recursion": (
        "def make(c):\n  def f(n): return f(n - 1) if n else c\n  return f\nf = make(1)",
        "def make(c):\n  def f(n): return f(n - 1) if n else c\n  return f\nf = make(2)",
    ),
    "behind jit": ("import jax\nf = jax.jit(lambda p: p + 1)", "import jax\nf = jax.jit(lambda p: p + 2)"),
    "behind custom_jvp": (
        "import jax\nf = jax.custom_jvp(lambda p: p + 1)",
        "import jax\nf = jax.custom_jvp(lambda p: p + 2)",
    ),
    "a decorator's number": (
        BY + "@by(1)\ndef f(x): return x",
        BY + "@by(2)\ndef f(x): return x",
    ),
    "a method": (
        "class A:\n  def __call__(self, x): return x\nf = A()",
        "class A:\n  def __call__(self, x): return -x\nf = A()",
    ),
    "a bound object's number": (
        "class A:\n  def __init__(self, c): self.c = c\n  def r(self, x): return self.c\nf = A(1).r",
        "class A:\n  def __init__(self, c): self.c = c\n  def r(self, x): return self.c\nf = A(2).r",
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same(name):
    a, b = SAME[name]
    assert of(fn(a)) == of(fn(b))


@pytest.mark.parametrize("name", DIFFERENT)
def test_different(name):
    a, b = DIFFERENT[name]
    assert of(fn(a)) != of(fn(b))


class Scaled(eqx.Module):
    c: jax.Array
    act: object

    def __call__(self, p, x):
        return self.c * self.act(p * x)


def test_modules_partials_and_installed_functions():
    one = jnp.ones(3)
    assert of(Scaled(one, jnp.tanh)) == of(Scaled(jnp.ones(3), jnp.tanh))
    assert of(Scaled(one, jnp.tanh)) != of(Scaled(one, jnp.sin)) != of(Scaled(2 * one, jnp.sin))
    assert of(functools.partial(np.add, 1)) != of(functools.partial(np.add, 2))
    assert of(functools.partial(np.add, 1)) != of(functools.partial(np.multiply, 1))
    assert of(optax.adam(1e-3)) == of(optax.adam(1e-3)) != of(optax.adam(1e-2))
    x = np.arange(5.0)
    spline = scipy.interpolate.CubicSpline
    assert of(spline(x, x)) == of(spline(x, x)) != of(spline(x, x**2))


def test_an_imported_module_of_ones_own(monkeypatch):
    found = []
    for c in (1.0, 1.0, 2.0):
        monkeypatch.setitem(sys.modules, "physics", module(f"nu = {c}\nother = object()", "physics"))
        found.append(of(fn("import physics\ndef f(p, x): return physics.nu * p")))
    assert found[0] == found[1] != found[2]


def test_processes_agree():
    script = (
        "import jax, numpy as np, optax, ravine\nfrom ravine import methods, models, problems, sampling\n"
        "from ravine.driver.fingerprint import fingerprint\nc = np.ones(3)\n"
        "def make(d):\n    def f(p, x): return f if x in {'a', 'b', 'c'} else c * d * jax.numpy.tanh(p)\n    return f\n"
        "p, m = problems.Burgers1D(), models.MLP(2, 1)\n"
        "with ravine.precision():\n    objective = p.objective(m, p.sample(0, {}))\n"
        "print(fingerprint((make(2.0), objective, methods.LBFGS(), optax.adam(1e-3), sampling.Fresh()), 0))"
    )
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1
