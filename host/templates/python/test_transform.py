import pytest

from app import total, words


def test_words_are_counted() -> None:
    assert words("a longer word").longest == "longer"
    assert total(["a b", "c"]) == 3
    with pytest.raises(ValueError, match="no words"):
        words(" ")
