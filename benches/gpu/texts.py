#!/usr/bin/env python3
"""Prints the prose of a folder of mdBook pages, a passage a line: paragraphs, joined up to some 60 to 200 tokens' worth.

    benches/gpu/texts.py FOLDER [COUNT]

A passage is cut by characters, four to a token, for want of a tokenizer here; the lengths are as mixed as prose is.
"""

import html.parser
import pathlib
import sys


class Paragraphs(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.inside, self.text, self.found = False, [], []

    def handle_starttag(self, tag, attributes):
        if tag in ("p", "li"):
            self.inside, self.text = True, []

    def handle_endtag(self, tag):
        if tag in ("p", "li") and self.inside:
            self.inside = False
            self.found.append(" ".join("".join(self.text).split()))

    def handle_data(self, data):
        if self.inside:
            self.text.append(data)


def passages(folder):
    for page in sorted(pathlib.Path(folder).glob("*.html")):
        if page.name == "print.html":
            continue
        parser = Paragraphs()
        parser.feed(page.read_text(encoding="utf-8"))
        passage = ""
        for paragraph in parser.found:
            passage = f"{passage} {paragraph}".strip()
            # A fifth of the passages is as short as one paragraph, so that lengths are mixed.
            if len(passage) >= 240 or (len(passage) >= 40 and len(passage) % 5 == 0):
                yield passage[:2000]
                passage = ""


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    count = int(sys.argv[2]) if len(sys.argv) == 3 else 4096
    found = list(passages(sys.argv[1]))
    if not found:
        sys.exit(f"`{sys.argv[1]}` holds no pages; is the rust-docs component installed?")
    # Once more from the start, if the book is short.
    for index in range(count):
        print(found[index % len(found)])


if __name__ == "__main__":
    main()
