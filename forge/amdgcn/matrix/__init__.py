"""The matrix instructions of AMD GPUs (MFMA, WMMA): registers of many waves in, registers out."""

from forge.amdgcn.matrix.ops import UNSUPPORTED, MatrixOp, matrix_op
from forge.amdgcn.matrix.product import execute

__all__ = ["UNSUPPORTED", "MatrixOp", "execute", "matrix_op"]
