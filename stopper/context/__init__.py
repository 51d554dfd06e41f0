"""Before the model thinks: drop the sentences of retrieved documents that cannot help.

`split` finds sentences, `compress` keeps those that a question may need. Both are pure: what scores
the sentences is given (`probes.sentences.SentenceScorer`), and the threshold is a number.
"""

from probes.sentences import Passage, SentenceScorer
from stopper.context.compression import compress, joined
from stopper.context.documents import Compressed, Document, Kept, Reason, Sentence
from stopper.context.limits import ContextTimeoutError, Deadline, Limits
from stopper.context.overlap import OverlapScorer
from stopper.context.splitting import split
from stopper.context.tokens import ESTIMATE, estimate_tokens

__all__ = [
    "ESTIMATE",
    "Compressed",
    "ContextTimeoutError",
    "Deadline",
    "Document",
    "Kept",
    "Limits",
    "OverlapScorer",
    "Passage",
    "Reason",
    "Sentence",
    "SentenceScorer",
    "compress",
    "estimate_tokens",
    "joined",
    "split",
]
