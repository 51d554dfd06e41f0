"""A few texts and a retriever's ranking by shared words, for the two examples beside it."""

from __future__ import annotations

import re

QUESTION = "When was the bridge over the Tamar at Saltash opened?"

TEXTS = {
    "Royal Albert Bridge": (
        "The Royal Albert Bridge is a railway bridge which spans the River Tamar in England. It "
        "was designed by Isambard Kingdom Brunel. Surveying started in 1848 and construction "
        "commenced in 1854. The bridge at Saltash was opened by Prince Albert on 2 May 1859. "
        "Brunel died later that year, and his name was placed above the portals at either end "
        "as a memorial. The railway has been single track across it since."
    ),
    "River Tamar": (
        "The Tamar is a river in south west England that forms most of the border between Devon "
        "and Cornwall. Its source lies less than four miles from the north coast. It flows "
        "southward to the Hamoaze. Salmon are caught in it. Its tidal part has been a haven of "
        "ships for centuries."
    ),
    "Tamar Bridge": (
        "The Tamar Bridge carries a road over the Tamar beside the older railway bridge. It was "
        "the first of the great suspension bridges built in Britain after the war. Drivers pay "
        "a toll in one direction. In 2001 it was widened while it stayed in use."
    ),
    "Isambard Kingdom Brunel": (
        "Brunel was an English engineer. He built dockyards, the Great Western Railway, steamships "
        "and many bridges and tunnels. His father had taught him drawing at the age of four."
    ),
}


def ranked(question: str, k: int = 3) -> list[tuple[str, str, float]]:
    """Return title, text and score of the `k` texts that share most words with a question."""
    asked = _words(question)
    scores = {title: len(asked & _words(title + " " + text)) for title, text in TEXTS.items()}
    best = sorted(TEXTS, key=lambda title: -scores[title])[:k]
    return [(title, TEXTS[title], scores[title] / len(asked)) for title in best]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
