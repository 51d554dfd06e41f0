"""stopper's sentence filter as a LangChain document compressor.

>>> from adapters.langchain import SentenceCompressor
>>> from stopper.context.filters import make_filter
>>> SentenceCompressor(filter=make_filter(), alpha=0.05)  # doctest: +SKIP

Needs langchain-core (``pip install stopper[langchain]``).
"""

from adapters.langchain.compressor import METADATA, SentenceCompressor

__all__ = ["METADATA", "SentenceCompressor"]
