"""The kernels of `linear` on a CPU, through torch; `linear.py` declares them.

Plans store a weight dense, in the type that the kernel's layout names, so that no step converts it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch

from forge.graph.types import tensor
from forge.quant import dense, dense_as

HEAD_F16_TOKENS = 4  # beyond these, converting the weight to f32 is cheaper than fp16 products
HEAD_CHUNK = 1 << 20  # weights converted to f32 at a time


def is_head(call):
    """bfloat16 activations and a result in f32."""
    return call.types[0].dtype.name == "bf16" and call.attrs["out"] == "f32"


def head_workspace(call, config):
    """The activations in the type of the product, and the product or a chunk of the weight in it."""
    (t, k), (n, _) = call.types[0].concrete(), call.types[1].concrete()
    if t <= HEAD_F16_TOKENS:
        return tensor("f16", t, k), tensor("f16", t, n)
    return tensor("f32", t, k), tensor("f32", max(1, min(n, HEAD_CHUNK // k)), k)


def linear_head(site, y, x, w, bias, *, out):
    """The vocabulary head: results of bfloat16's 8 bits would not tell the likeliest tokens apart.

    A weight stored in fp16, as plans have it, and few tokens give results of 11 bits in the time that the weight takes
    from memory. Otherwise the product is taken in f32, as is an eager call's with a weight that is not in fp16.
    """
    x_cast, work = site.work
    if work.dtype == torch.float16 and isinstance(w, torch.Tensor) and w.dtype == torch.float16:
        columns = w.t()

        def step():
            x_cast.copy_(x)
            torch.mm(x_cast, columns, out=work)
            y.copy_(work)

    elif work.dtype == torch.float16:
        exact = dense(w).t()

        def step():
            torch.mm(x.float(), exact, out=y)

    else:
        weight = w if isinstance(w, torch.Tensor) else dense(w)
        rows = work.shape[0]
        chunks = [
            (part, work[: part.shape[0]], y[:, i * rows : i * rows + part.shape[0]])
            for i, part in enumerate(weight.split(rows))
        ]

        def step():
            x_cast.copy_(x)
            for part, wide, result in chunks:
                torch.mm(x_cast, wide.copy_(part).t(), out=result)

    if bias is None:
        return step
    return [step, lambda: y.add_(bias)]


def product_type(call):
    """The type that `linear_torch` multiplies in: bfloat16 if the result is no finer."""
    return "bf16" if call.types[0].dtype.name == call.attrs["out"] == "bf16" else "f32"


def product_workspace(call, config):
    """The activations and the product in the product's type, each if it is not in that type anyway."""
    types = (
        tensor(product_type(call), *call.types[0].concrete()),
        tensor(product_type(call), *call.results[0].concrete()),
    )
    return tuple(type for type, given in zip(types, (call.types[0], call.results[0]), strict=True) if type != given)


def linear_torch(site, y, x, w, bias, *, out):
    """torch.mm in f32, or from bfloat16 to bfloat16 in that type (oneDNN's matrix units), summed in fp32.

    There the bias is rounded to bfloat16 before it is added. Plans store the weight in the product's type; an eager
    call's weight of another type is converted when it is built.
    """
    dtype = torch.bfloat16 if x.dtype == y.dtype == torch.bfloat16 else torch.float32
    work = list(site.work)
    x_cast = x if x.dtype == dtype else work.pop(0)
    target = y if y.dtype == dtype else work.pop(0)
    columns = (w.to(dtype) if isinstance(w, torch.Tensor) else dense_as(w, dtype)).t()
    if bias is None:
        product = lambda: torch.mm(x_cast, columns, out=target)  # noqa: E731
    else:
        narrow = bias.to(dtype)
        product = lambda: torch.addmm(narrow, x_cast, columns, out=target)  # noqa: E731
    if x.shape[0] == 1 and dtype == torch.bfloat16:
        product = _without_onednn(product)
    before = [] if x_cast is x else [lambda: x_cast.copy_(x)]
    after = [] if target is y else [lambda: y.copy_(target)]
    return [*before, product, *after]


class _Onednn:
    """torch's switch for oneDNN, off as long as any thread is within, and then as the first of them found it.

    The switch is the process's, and so is the count of those within. Other threads' products meanwhile are right, and
    at most slower. Torch has no other way to its own product for bfloat16.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within = 0
        self._before = True

    def enter(self) -> None:
        with self._lock:
            if self._within == 0:
                self._before = torch._C._get_mkldnn_enabled()
                torch._C._set_mkldnn_enabled(False)
            self._within += 1

    def leave(self) -> None:
        with self._lock:
            self._within -= 1
            if self._within == 0:
                torch._C._set_mkldnn_enabled(self._before)


ONEDNN = _Onednn()


def _without_onednn(product: Callable[[], object]) -> Callable[[], None]:
    """The same product by torch's own kernels, which read a large bf16 matrix half as fast again for one row."""

    def run():
        ONEDNN.enter()
        try:
            product()
        finally:
            ONEDNN.leave()

    return run
