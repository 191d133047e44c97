"""Fetches pages and takes them apart, from the origins in `outbound` and no other. Try it, from this folder:
`bireme run .::title --url https://example.com/`, `bireme run .::titles --urls '["https://example.com/"]'`, and `pytest`.
"""

from html.parser import HTMLParser

from bireme import App, http

app = App("NAME")


class Title(HTMLParser):
    """Collects the text of `<title>`."""

    inside, text = False, ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.inside = tag == "title"

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside else ""


@app.function(timeout="10s", memory="64MiB", retries=2, outbound=["https://example.com"])
def title(url: str) -> str:
    """Fetches one page and returns its title."""
    parser = Title()
    parser.feed(http.get(url).raise_for_status().text)
    return parser.text.strip()


@app.function(timeout="5m")
def titles(urls: list[str]) -> list[str]:
    """Fetches many pages, each in a sandbox of its own; those that fail are left out."""
    found = title.map(urls, return_exceptions=True)
    return [each for each in found if isinstance(each, str)]
