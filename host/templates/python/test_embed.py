from bireme import testing

from app import MODEL, nearest


def test_the_nearest_comes_first() -> None:
    with testing.fake_model(MODEL, lambda text: [float(len(text))]):
        assert nearest("q", ["a", "abc"])[0].text == "abc"
