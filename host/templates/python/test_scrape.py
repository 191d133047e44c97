from bireme import testing

from app import title, titles


def test_a_page_has_a_title() -> None:
    with testing.http(lambda request: testing.Response(200, "<title>Oars </title>")):
        assert title("https://example.com/") == "Oars"
        assert titles(["https://example.com/a"]) == ["Oars"]
