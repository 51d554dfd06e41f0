"""Context compression: its endpoint, and the worker that the OpenAI-compatible front shares."""

from stopper.service.compression.compressor import Compressor, CompressorFault
from stopper.service.compression.route import attach

__all__ = ["Compressor", "CompressorFault", "attach"]
