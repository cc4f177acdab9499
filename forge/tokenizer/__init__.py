"""Text to token ids and back, from the metadata of a GGUF file, as llama.cpp reads it."""

from forge.tokenizer.stream import TextStream
from forge.tokenizer.tokenizer import Tokenizer

__all__ = ["TextStream", "Tokenizer"]
