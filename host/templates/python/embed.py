"""Finds the texts nearest in meaning to a query. Try it, from this folder: `bireme models pull all-minilm-l6-v2`, then
`bireme run .::nearest --query "a boat" --texts '["a galley", "a tax form"]'`, and `pytest`.
"""

from dataclasses import dataclass

from bireme import App, model

app = App("NAME")

MODEL = "all-minilm-l6-v2"


@dataclass
class Hit:
    """A text, and how near it is to the query: 1 means the same."""

    text: str
    score: float


@app.function(timeout="1m", models=[MODEL])
def nearest(query: str, texts: list[str]) -> list[Hit]:
    """Sorts texts by how near they are to the query."""
    wanted, *vectors = model(MODEL).embed([query, *texts])
    hits = [Hit(text, vector.dot(wanted)) for text, vector in zip(texts, vectors)]
    return sorted(hits, key=lambda hit: hit.score, reverse=True)
