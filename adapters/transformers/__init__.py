"""Masked diffusion language models in plain transformers: load, sample, halt, record."""
