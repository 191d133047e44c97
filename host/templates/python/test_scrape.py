from bireme import testing

from app import title, titles


def test_a_page_has_a_title() -> None:
    with testing.fake_http({"https://example.com/": "<title>Oars </title>"}):
        assert title("https://example.com/") == "Oars"
        # The other one is not found.
        assert titles(["https://example.com/", "https://example.com/b"]) == ["Oars"]
