from app import app
from bireme import testing


def test_the_page_greets_and_so_does_the_route() -> None:
    page = testing.web(app, "GET", "/?name=%3CAda%3E")
    assert "<h1>hello, &lt;Ada&gt;</h1>" in page.text
    assert testing.web(app, "GET", "/hello/Ada").json()["letters"] == 3
