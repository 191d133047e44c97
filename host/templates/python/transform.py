"""Takes texts apart. Try it, from this folder: `bireme run .::words --text "a ship with two decks"`,
`bireme run .::total --texts '["of oars", "rows"]'`, and `pytest`.
"""

from dataclasses import dataclass

from bireme import App

app = App("NAME")


@dataclass
class Words:
    """Counts of the words of a text."""

    count: int
    longest: str


@app.function(timeout="5s", memory="64MiB")
def words(text: str) -> Words:
    """Counts the words of a text and finds the longest."""
    found = text.split()
    if not found:
        raise ValueError("the text has no words")
    return Words(count=len(found), longest=max(found, key=len))


@app.function
def total(texts: list[str]) -> int:
    """Counts the words of many texts, each in a call of its own."""
    return sum(counted.count for counted in words.map(texts))
