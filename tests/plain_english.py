"""What a person reads in help and errors: short sentences, in words that the field uses.

A path, an id, a number, a quotation and a list count as one word each. Text in brackets is counted separately.
"""

from __future__ import annotations

import re

MOST_WORDS = 25
#: Words that said something else than was meant, or that only this project used.
BANNED = re.compile(
    r"\b(anew|by lot|lies|mend|nobody|has not the|cut off|an own|the seed's|all the same|whole road|gone before"
    r"|goes on|go on|stands twice|stand twice|to be had|be had from|let it be|somebody|name others"
    r"|is no place for|beside it|as they came|looked at)\b",
    re.IGNORECASE,
)
#: Where a sentence ends. A colon does not end one.
_ENDS = re.compile(r"[.;!?](?=\s|$)|\n")
_BRACKETS = re.compile(r"\(([^()]*)\)")
_ONE_WORD = (
    re.compile(r"'[^']*'|`[^`]*`|\[[^\]]*\]|\{[^}]*\}"),
    re.compile(r"\d[\d,.]*( x \d+)? ?(px|%|MiB|GB|ms|ft)?(?=[\s,;:.)]|$)"),
    re.compile(r"\S+(?:, \S+)+(?:,? (?:and|or) \S+)?|--\S+(?: (?:and|or) --\S+)+"),
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, those in brackets last."""
    inner: list[str] = []
    while found := _BRACKETS.search(text):
        inner.append(found.group(1))
        text = f"{text[: found.start()]}X{text[found.end() :]}"
    return [sentence for part in _ENDS.split("\n".join([text, *inner])) if (sentence := part.strip())]


def words(sentence: str) -> int:
    """How many words a sentence has."""
    for kind in _ONE_WORD:
        sentence = kind.sub("X", sentence)
    return sum(any(letter.isalnum() for letter in word) for word in sentence.split())


def faults(text: str) -> list[str]:
    """What is wrong with a text as English: sentences that are too long, and banned words."""
    long = [f"{words(sentence)} words: {sentence}" for sentence in sentences(text) if words(sentence) > MOST_WORDS]
    return long + [f"banned: {found.group()}: {text}" for found in BANNED.finditer(text)]
