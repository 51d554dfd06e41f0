"""How much is compressed at a time, and for how long."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from stopper.context.documents import Document
from stopper.errors import InputError, StopperError


class ContextTimeoutError(StopperError):
    """A compression took longer than it may; nothing of it is used."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what is compressed at a time.

    Attributes
    ----------
    documents
        Number of documents.
    document_characters
        Of one document, its title included.
    characters
        Of all documents together.
    query_characters
        Of the query.

    """

    documents: int = 10_000
    document_characters: int = 4_000_000
    characters: int = 32_000_000
    query_characters: int = 20_000

    def check(self, query: str, documents: Sequence[Document]) -> None:
        """Refuse what is too large.

        Raises
        ------
        InputError
            Naming the bound.

        """
        if len(documents) > self.documents:
            raise InputError(
                f"{len(documents)} documents; at most {self.documents} are compressed at a time. "
                "Retrieve fewer, or send them in parts"
            )
        if len(query) > self.query_characters:
            raise InputError(
                f"the query has {len(query)} characters; at most {self.query_characters} are "
                "read. Shorten it to the question"
            )
        total = 0
        for index, document in enumerate(documents):
            size = len(document.title) + len(document.text)
            total += size
            if size > self.document_characters:
                raise InputError(
                    f"document {index} has {size} characters; one may have "
                    f"{self.document_characters}. Cut it into passages first"
                )
        if total > self.characters:
            raise InputError(
                f"the documents have {total} characters; together they may have "
                f"{self.characters}. Send them in parts"
            )


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a compression is given up.

    Attributes
    ----------
    at
        Of `time.monotonic`.
    allowed_s
        What to say was allowed.

    """

    at: float
    allowed_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Return the deadline so many seconds from now."""
        return cls(time.monotonic() + seconds, seconds)

    def check(self) -> None:
        """Give up if it has passed.

        Raises
        ------
        ContextTimeoutError
            If it has.

        """
        if time.monotonic() > self.at:
            raise ContextTimeoutError(
                f"compressing took longer than {self.allowed_s:g} s; send fewer or shorter "
                "documents, or allow more time"
            )
