"""GGUF model files: metadata as Python values and tensors as views on a memory map."""

from forge.gguf.file import GGUFFile
from forge.gguf.header import GGUFTensor

__all__ = ["GGUFFile", "GGUFTensor"]
