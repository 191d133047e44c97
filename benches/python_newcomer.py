#!/usr/bin/env python3
"""A newcomer with the wheel and no Rust: a new app, five edits under `bireme dev`, a deployment, and a map over real pages
through a host that is killed.

    benches/python_newcomer.py PAGES [--pages N]

PAGES: a directory of HTML pages, Debian's `python3-doc` for instance, which a server on loopback answers with. `bireme` must be
on the path, and the package importable. Prints each step with its time, and figures as `FIGURE name value`.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from typing import Any, Callable, IO

import bireme

APP = '''from html.parser import HTMLParser

from bireme import App, http

app = App("pages")


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words = 0

    def handle_data(self, data: str) -> None:
        self.words += len(data.split())


@app.function(timeout="2m", memory="64MiB", retries=2, outbound=["$site"])
def words(url: str) -> int:
    """Counts the words of a page."""
    text = Text()
    text.feed(http.get(url).raise_for_status().text)
    return text.words


@app.function
def edit() -> int:
    return 0
'''


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server without a log, which keeps connections open."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass


def step(name: str, work: Callable[[], Any]) -> Any:
    """Runs a step; prints its time."""
    began = time.monotonic()
    result = work()
    print(f"{(time.monotonic() - began) * 1000:8.0f} ms  {name}", flush=True)
    return result


def run(*words: str) -> str:
    """Runs `bireme`, which must succeed."""
    done = subprocess.run(["bireme", *words], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bireme {' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Host:
    """A `bireme` command that listens."""

    def __init__(self, *words: str, log: IO[str]) -> None:
        self.process = subprocess.Popen(
            ["bireme", "--json", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = json.loads(line)
            if "listening" in said:
                self.url = f"http://{said['listening']}"
                break
        else:
            sys.exit(f"bireme {' '.join(words)} ended; its log is {log.name}")
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        assert self.process.stdout is not None
        for _ in self.process.stdout:
            pass

    def end(self, how: signal.Signals) -> None:
        """Ends the command, and waits."""
        self.process.send_signal(how)
        self.process.wait()


def answer(url: str) -> Any:
    """Calls a function; nothing while it is not there."""
    request = urllib.request.Request(url, data=b"null", headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answered:
            return json.load(answered)
    except urllib.error.HTTPError:
        return None


def edits(app: pathlib.Path, url: str) -> list[float]:
    """Saves five edits; returns the times until each is answered with."""
    source = app / "app.py"
    text, times = source.read_text(), []
    for n in range(1, 6):
        began = time.monotonic()
        source.write_text(text.replace("return 0", f"return {n}"))
        while answer(f"{url}/pages/edit") != n:
            time.sleep(0.002)
        times.append(time.monotonic() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", type=pathlib.Path)
    parser.add_argument("--pages", dest="count", type=int, default=4_000, help="inputs of the map, each page as often as needed")
    given = parser.parse_args()
    files = sorted(str(page.relative_to(given.pages)) for page in given.pages.rglob("*.html"))
    if not files:
        sys.exit(f"no page below {given.pages}")

    class Pages(http.server.ThreadingHTTPServer):
        """A server that says nothing of clients that are gone: the host is killed."""

        def handle_error(self, *_: Any) -> None:
            pass

    server = Pages(("127.0.0.1", 0), functools.partial(Quiet, directory=given.pages))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    site = f"http://127.0.0.1:{server.server_address[1]}"
    urls = [f"{site}/{files[n % len(files)]}" for n in range(given.count)]

    with tempfile.TemporaryDirectory() as place, open(os.path.join(place, "log"), "w") as log:
        os.environ["BIREME_DATA"] = os.path.join(place, "data")
        app = pathlib.Path(place) / "pages"
        step("bireme new pages --lang python", lambda: run("new", str(app), "--lang", "python"))
        called = step("bireme run pages::words, the first", lambda: run("run", f"{app}::words", "--text", "a ship"))
        assert json.loads(called)["count"] == 2, called
        (app / "app.py").write_text(APP)
        dev = step("bireme dev", lambda: Host("dev", str(app), "--listen", "127.0.0.1:0", log=log))
        step("the first version is served", lambda: until(lambda: answer(f"{dev.url}/pages/edit") == 0))
        times = step("five edits", lambda: edits(app, dev.url))
        dev.end(signal.SIGINT)

        host = step("bireme serve", lambda: Host("serve", "--listen", "127.0.0.1:0", log=log))
        listen = host.url.removeprefix("http://")
        grant = f"site={site}"
        step("bireme deploy", lambda: run("deploy", str(app), "--host", host.url, "--accept", "--grant", grant))
        function = bireme.Function.lookup("pages", "words", host=bireme.connect(host.url))
        one = step("the first page", lambda: function.remote(urls[0]))

        results: list[Any] = []
        first: list[float] = []

        def mapped() -> None:
            nonlocal host
            began = time.monotonic()
            for result in function.map(urls, return_exceptions=True, progress=False):
                if not results:
                    first.append(time.monotonic() - began)
                results.append(result)
                if len(results) == given.count // 3:
                    host.end(signal.SIGKILL)
                    host = Host("serve", "--listen", listen, log=log)

        began = time.monotonic()
        step(f"map over {given.count} pages, the host killed in the middle", mapped)
        took = time.monotonic() - began
        failed = [result for result in results if isinstance(result, BaseException)]
        assert not failed, failed[:3]
        assert len(results) == given.count and results[0] == one and sum(results) > given.count, results[:3]
        host.end(signal.SIGTERM)

    print(f"{sum(results)} words on {given.count} pages ({len(files)} files)")
    print(f"FIGURE python_edit_ms {sorted(times)[2] * 1000:.0f}")
    print(f"FIGURE python_map_first_ms {first[0] * 1000:.0f}")
    print(f"FIGURE python_map_pages_s {given.count / took:.0f}")


def until(is_true: Callable[[], bool]) -> None:
    """Waits, for a minute at most."""
    end = time.monotonic() + 60
    while not is_true():
        if time.monotonic() > end:
            sys.exit("waited a minute")
        time.sleep(0.005)


if __name__ == "__main__":
    main()
