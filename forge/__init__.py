"""Forge: a kernel DSL and a model compiler for large language models on AMD GPUs."""
