"""Symmetric products of a matrix with itself, AᵀA and AAᵀ, and small semidefinite factors.

On a CPU the product is the BLAS routine `?syrk` of the OpenBLAS that SciPy ships, called in place on XLA's own buffers
through an XLA foreign-function target; elsewhere (GPU), or where SciPy or XLA do not offer what is needed, the plain
product. It works under jit, vmap and loops; it has no derivative rule.

Why. XLA has no symmetric product on a CPU and computes both triangles. Measured for AᵀA, float64, milliseconds, one
core of an AMD EPYC (AVX-512, 2.6 GHz), JAX 0.10.2, SciPy 1.17.1:

    (N, P)                       (4000, 921)  (1020, 697)  (1020, 129)
    XLA product                      161         24.5         0.77
    XLA, upper blocks only           138         18.2         0.63
    pure_callback to SciPy            72         11.4         0.65
    this module, jitted               71         11.2         0.49
    bare dsyrk                        67         10.0         0.44

`pure_callback` is as fast on large matrices and slower on small ones, copies both ways, and makes JAX arrays on a
runtime thread, where waiting for another computation could block. Here the handler is a C-callable made by ctypes
that reads two pointers and two sizes from XLA's call frame (a few microseconds) and releases the interpreter lock
while BLAS runs. Its layout is XLA's C interface, version 0, whose structures only ever grow at the end; XLA checks
the version at registration, and where it refuses, the plain product serves.
Cutting N into blocks that fit the cache gains nothing (67 to 68 ms at
(4000, 921)): dsyrk does that itself. The copy of one triangle to the other costs 2 ms there and is part of the row.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class _ApiVersion(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("ext", ctypes.c_void_p), ("major", ctypes.c_int), ("minor", ctypes.c_int)]


class _Api(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("ext", ctypes.c_void_p), ("version", _ApiVersion)]


class _Metadata(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("version", _ApiVersion),
        ("traits", ctypes.c_uint32),
        ("state_type", ctypes.c_int64),
    ]


class _Extension(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("type", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("metadata", ctypes.POINTER(_Metadata)),
    ]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("ext", ctypes.c_void_p),
        ("dtype", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("rank", ctypes.c_int64),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
    ]


class _Operands(ctypes.Structure):
    """Arguments and results have the same layout."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("ext", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("types", ctypes.c_void_p),
        ("buffers", ctypes.POINTER(ctypes.POINTER(_Buffer))),
    ]


class _CallFrame(ctypes.Structure):
    _fields_ = [
        ("size", ctypes.c_size_t),
        ("ext", ctypes.POINTER(_Extension)),
        ("api", ctypes.POINTER(_Api)),
        ("ctx", ctypes.c_void_p),
        ("stage", ctypes.c_int),
        ("args", _Operands),
        ("rets", _Operands),
    ]


_FLOAT64 = 12  # XLA_FFI_DataType


@functools.cache
def _blas(name: str):
    """A BLAS routine of SciPy's own library as a C function (called without the interpreter lock)."""
    capsule = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 10)(get_pointer(capsule, get_name(capsule)))


def _syrk(a: _Buffer, c: _Buffer, transposed: bool) -> None:
    """c ← AᵀA, or AAᵀ if `transposed`, for every matrix of the batch; row-major lower triangles only."""
    n, p, k = a.dims[a.rank - 2], a.dims[a.rank - 1], c.dims[c.rank - 1]
    routine, real = (_blas("dsyrk"), ctypes.c_double) if a.dtype == _FLOAT64 else (_blas("ssyrk"), ctypes.c_float)
    # A row-major (n, p) array is a column-major (p, n) one, and "upper" there is "lower" here.
    uplo, trans = ctypes.c_char(b"U"), ctypes.c_char(b"T" if transposed else b"N")
    order, inner, lda = ctypes.c_int(k), ctypes.c_int(p if transposed else n), ctypes.c_int(p)
    one, zero = real(1.0), real(0.0)
    size, ref = ctypes.sizeof(real), ctypes.byref
    for i in range(math.prod(a.dims[axis] for axis in range(a.rank - 2))):
        source, target = a.data + i * n * p * size, c.data + i * k * k * size
        routine(
            ref(uplo), ref(trans), ref(order), ref(inner), ref(one), source, ref(lda), ref(zero), target, ref(order)
        )


def _handle(transposed: bool, pointer) -> int | None:
    """The foreign-function handler. None is the NULL that means success; the lowering below fixes the shapes."""
    frame = pointer.contents
    if frame.ext:  # at registration XLA asks for which version of the interface the handler was written
        metadata = frame.ext.contents.metadata.contents
        metadata.version = _ApiVersion(ctypes.sizeof(_ApiVersion), None, 0, 1)
        metadata.traits = 0
    else:
        _syrk(frame.args.buffers[0].contents, frame.rets.buffers[0].contents, transposed)
    return None


_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_CallFrame))
# Kept for the life of the process: XLA holds their addresses.
_HANDLERS = {t: _PROTOTYPE(functools.partial(_handle, t)) for t in (False, True)}
_TARGETS = {False: "ravine_syrk", True: "ravine_syrk_transposed"}


@functools.cache
def blas_available() -> bool:
    """Whether the BLAS product can be used in this process; registers it with XLA on the first call."""
    try:
        for name in ("dsyrk", "ssyrk"):
            _blas(name)
        for transposed, handler in _HANDLERS.items():
            jax.ffi.register_ffi_target(_TARGETS[transposed], jax.ffi.pycapsule(handler), platform="cpu")
    except (ImportError, AttributeError, KeyError, ValueError, RuntimeError):
        return False  # a SciPy without these capsules or an XLA with another interface: the plain product serves
    return True


def _plain(a: Float[Array, "n p"], transposed: bool) -> Float[Array, "k k"]:
    # a GPU's default rounds the factors of a float32 product to ten bits
    return jnp.matmul(a, a.T, precision="highest") if transposed else jnp.matmul(a.T, a, precision="highest")


def _product(a: Float[Array, "n p"], transposed: bool) -> Float[Array, "k k"]:
    if a.dtype not in (jnp.float64, jnp.float32) or not blas_available():
        return _plain(a, transposed)
    k = a.shape[0] if transposed else a.shape[1]

    def blas(x):
        out = jax.ShapeDtypeStruct((k, k), x.dtype)
        lower = jnp.tril(jax.ffi.ffi_call(_TARGETS[transposed], out, vmap_method="broadcast_all")(x))
        return lower + jnp.tril(lower, -1).T

    return jax.lax.platform_dependent(a, cpu=blas, default=lambda x: _plain(x, transposed))


def gram(a: Float[Array, "n p"]) -> Float[Array, "p p"]:
    """AᵀA, symmetric to the last bit on a CPU. Cost n p² flops there (half of a general product)."""
    return _product(a, transposed=False)


def outer_gram(a: Float[Array, "n p"]) -> Float[Array, "n n"]:
    """AAᵀ, symmetric to the last bit on a CPU. Cost n² p flops there (half of a general product)."""
    return _product(a, transposed=True)


def psd_factor(q: Float[Array, "*m c c"]) -> Float[Array, "*m c c"]:
    """L with LLᵀ = Q for positive semidefinite blocks: Cholesky in which a vanishing pivot gives a zero column.

    A pivot counts as zero below 16 ε times the trace. Unrolled over c, which is small.
    """
    c = q.shape[-1]
    tiny = 16 * jnp.finfo(q.dtype).eps * jnp.trace(q, axis1=-2, axis2=-1)
    columns = []
    for j in range(c):
        pivot = q[..., j, j]
        keep = pivot > tiny
        column = jnp.where(keep[..., None], q[..., :, j] / jnp.sqrt(jnp.where(keep, pivot, 1.0))[..., None], 0.0)
        columns.append(column)
        q = q - column[..., :, None] * column[..., None, :]
    return jnp.stack(columns, axis=-1)


def pseudo_solve(
    a: Float[Array, "k k"], b: Float[Array, " k"], cutoff: Float[Array, ""] | float, shift: Float[Array, ""] | float
) -> tuple[Float[Array, " k"], Int[Array, ""]]:
    """((A)⁺ b with A's eigenvalues λ > cutoff·λ_max kept and replaced by λ + shift, the number kept).

    A is positive semidefinite. Not finite where A is not. Cost about 10 k³ flops.
    """
    eigenvalues, vectors = jnp.linalg.eigh(a)
    keep = eigenvalues > cutoff * eigenvalues[-1]
    inverse = jnp.where(keep, 1.0 / jnp.where(keep, eigenvalues + shift, 1.0), 0.0)
    finite = jnp.where(jnp.isfinite(eigenvalues[-1]), 1.0, jnp.nan)
    return vectors @ (inverse * (b @ vectors)) * finite, jnp.sum(keep, dtype=jnp.int32)
