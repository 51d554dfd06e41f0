"""stopper's sentence filter as a LlamaIndex node postprocessor.

>>> from adapters.llama_index import SentencePostprocessor
>>> from stopper.context.filters import make_filter
>>> SentencePostprocessor(filter=make_filter(), alpha=0.05)  # doctest: +SKIP

Needs llama-index-core (``pip install stopper[llama-index]``).
"""

from adapters.llama_index.postprocessor import METADATA, SentencePostprocessor

__all__ = ["METADATA", "SentencePostprocessor"]
