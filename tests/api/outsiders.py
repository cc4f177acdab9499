"""Files of somebody else's, as text: an op with a kernel for a GPU and for a CPU, an element type, an architecture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

OP = '''
"""Cubes."""

import forge
from forge import jit, tl


def _types(x):
    forge.expect(x.rank == 2 and x.dtype.floating, "x must be floating point [T,F]")
    return x


def _cases():
    for dt in ("f16", "f32"):
        yield forge.Case(dt, (forge.tensor(dt, 3, 300),))


@forge.op(
    types=_types,
    reference=lambda x: x.float() ** 3,
    cost=lambda x: forge.Cost(bytes=2 * x.nbytes, flops=2 * x.numel),
    cases=lambda: tuple(_cases()),
)
def cube(x):
    """y[T,F] = x[T,F] ** 3"""


@jit
def _cube(y_ptr, x_ptr, y_stride, x_stride, F, BLOCK: tl.constexpr):
    row, column = tl.program_id(0), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * x_stride + column, column < F).to(tl.float32)
    tl.store(y_ptr + row * y_stride + column, (x * x * x).to(y_ptr.dtype.element_ty), column < F)


@cube.kernel(space=forge.Space(BLOCK=(256, 128)))
def cube_flat(site, y, x):
    grid = (x.shape[0], -(-x.shape[1] // site["BLOCK"]))
    return site.launch(_cube, grid, y, x, y.stride(0), x.stride(0), x.shape[1])


@cube.kernel(on="cpu")
def cube_torch(site, y, x):
    return lambda: y.copy_(x.float() ** 3)
'''

TYPE = '''
"""Q4_0 under another name and number."""

from dataclasses import replace

from forge import DType
from forge.quant.q4_0 import FORMAT as Q4_0

MINE = DType("mine4", 32, 18, gguf=901)
FORMAT = replace(Q4_0, name="mine4")
'''

ARCHITECTURE = '''
"""llama under another name."""

from dataclasses import replace

from forge.models.llama import llama

family = replace(llama, name="llamalike")
'''


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def distribute(folder: Path, name: str, text: str, *, module: str | None = None) -> None:
    """What installing a distribution `name` leaves in `folder`: a module, and the metadata with its entry point."""
    module = module or name
    write(folder, f"{name}.py", text)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    write(info, "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    write(info, "entry_points.txt", f"[forge.extensions]\n{name}_things = {module}\n")


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, which finds Forge and what lies in `paths`."""
    path = f"import sys; sys.path[:0] = {[str(p) for p in (ROOT, *paths)]}\n"
    return subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=False)
