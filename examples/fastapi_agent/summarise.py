"""Extractive summaries without a model: the sentences that carry most of what a text is about.

This is SumBasic (Nenkova and Vanderwende, 2005): a sentence is worth the mean frequency of its
words, and once a sentence is chosen its words count less, so the next one says something new.
Where a sentence stands is weighed in, because writers open with what matters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["Sentence", "choose", "paragraphs", "split"]

_ABBREVIATIONS: Final = ("Mr.", "Mrs.", "Ms.", "Dr.", "Prof.", "St.", "vs.", "e.g.", "i.e.", "etc.")
_NOT_THE_END: Final = "".join(rf"(?<!\b{re.escape(short)})" for short in _ABBREVIATIONS)
_CLOSES: Final = r"[\"'\u201d\u2019)]"
_OPENS: Final = r"[\"'\u201c\u2018(]"
# A stop, perhaps in quotes, not after an abbreviation or an initial, before something that opens.
_BOUNDARY: Final = re.compile(
    rf"(?:(?<=[.!?])|(?<=[.!?]{_CLOSES})){_NOT_THE_END}(?<!\b[A-Z]\.)\s+(?={_OPENS}?[A-Z0-9])"
)
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_COMMON: Final = """
about after all also and any are been but can cannot could did for from had has have having her
here him his how into its may might more most must not now off one only other our out over own same
shall she should some such than that the their them then there these they this those through too
two upon very was were what when where which while who whom will with would you your
"""
_STOPWORDS: Final = frozenset(_COMMON.split())
# Below this many content words the mean favours a lucky short sentence.
_SHORT: Final = 8


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence, where it stands in the text (from 0) and its content words."""

    position: int
    text: str
    words: tuple[str, ...]
    opens_paragraph: bool


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, each on one line; blank lines part them."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def split(text: str) -> list[Sentence]:
    """Return the sentences of a text, in order."""
    found: list[Sentence] = []
    for paragraph in paragraphs(text):
        for index, sentence in enumerate(_BOUNDARY.split(paragraph)):
            words = (word.lower() for word in _WORD.findall(sentence))
            content = tuple(word for word in words if word not in _STOPWORDS)
            found.append(Sentence(len(found), sentence, content, opens_paragraph=index == 0))
    return found


def choose(text: str, count: int) -> Iterator[Sentence]:
    """Yield up to `count` sentences, the most telling first; sort by `position` to read them."""
    remaining = split(text)
    frequency = Counter(word for sentence in remaining for word in sentence.words)
    weight = {word: n / frequency.total() for word, n in frequency.items()}
    total = len(remaining)

    def worth(sentence: Sentence) -> float:
        mean = sum(weight[word] for word in sentence.words) / max(len(sentence.words), _SHORT)
        return mean * (1 + 0.2 * sentence.opens_paragraph + 0.2 * (1 - sentence.position / total))

    for _ in range(min(count, total)):
        best = max(remaining, key=worth)
        remaining.remove(best)
        for word in set(best.words):
            weight[word] *= weight[word]
        yield best
