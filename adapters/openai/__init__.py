"""Yes/No scores of sentences from a running vLLM server, over its OpenAI-compatible API.

>>> from adapters.openai import server_scorer
>>> scorer = server_scorer("http://127.0.0.1:8000", "exit", tokenizer="gemma")  # doctest: +SKIP

Needs httpx (``pip install stopper[rag]``).
"""

from adapters.openai.answers import ServerError, ServerReader
from adapters.openai.scorer import server_scorer

__all__ = ["ServerError", "ServerReader", "server_scorer"]
