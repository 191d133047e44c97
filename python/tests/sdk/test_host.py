"""What a host offers: key-value data, models, configuration, secrets, the log; and the fakes of each."""

from __future__ import annotations

import logging

import pytest

from bireme import config, context, kv, log, model, secret, testing
from bireme._sdk.models import Error as ModelError
from bireme._sdk.models import Tensor


def test_a_bucket_keeps_bytes_texts_and_json() -> None:
    with testing.fake_kv():
        pages = kv.open("pages")
        assert pages.get("a") is None and "a" not in pages
        pages.set("a", "ä")
        assert (pages.get("a"), pages.get_text("a"), "a" in pages) == ("ä".encode(), "ä", True)
        pages.set_json("j", {"n": [1]})
        assert pages.get_json("j") == {"n": [1]}
        assert pages.get_json("j", dict[str, list[int]]) == {"n": [1]}
        with pytest.raises(kv.Error, match=r"does not fit: \$.n: expected an integer, found an array"):
            pages.get_json("j", dict[str, int])
        with pytest.raises(kv.Error, match="key `a` in bucket `pages` is no JSON"):
            pages.get_json("a")
        pages.delete("a")
        assert not pages.exists("a")
        assert kv.open("pages").get("j") is not None and kv.open("others").get("j") is None


def test_values_expire() -> None:
    with testing.fake_kv():
        pages = kv.open()
        pages.set("a", "1", ttl="60s")
        assert pages.increment("a") == 2
        testing.advance(59)
        assert pages.get("a") == b"2"
        testing.advance(1)
        assert pages.get("a") is None and list(pages.keys()) == []
        with pytest.raises(ValueError, match="ttl=0 is not from 1ms"):
            pages.set("a", "1", ttl=0)


def test_values_are_changed_atomically() -> None:
    with testing.fake_kv():
        counts = kv.open("counts")
        assert counts.increment("n", 5) == 5 and counts.increment("n", -2) == 3
        counts.set("t", "text")
        with pytest.raises(kv.Error, match="cannot add to key `t` of bucket `counts`: the value is no whole number"):
            counts.increment("t")
        assert counts.update("n", lambda value: str(int(value or 0) * 2)) == b"6"
        assert counts.update_json("list", lambda value: [*(value or []), 1]) == [1]
        assert counts.update_json("list", lambda value: [*(value or []), 2]) == [1, 2]
        assert counts.compare_and_swap("new", None, "1") and not counts.compare_and_swap("new", "2", "3")
        tries: list[bytes | None] = []

        def racing(value: bytes | None) -> bytes:
            # Another call changes it in between, once.
            if not tries:
                counts.set("race", "theirs")
            tries.append(value)
            return b"mine"

        assert counts.update("race", racing) == b"mine"
        assert tries == [None, b"theirs"]


def test_keys_are_listed_page_by_page_and_values_in_one_go() -> None:
    with testing.fake_kv():
        bucket = kv.open("many")
        bucket.set_many({f"{n:03}": str(n) for n in range(250)})
        assert len(list(bucket.keys())) == 250
        assert list(bucket.keys("24")) == [f"24{n}" for n in range(10)]
        assert bucket.get_many(["001", "none"]) == {"001": b"1", "none": None}
        bucket.delete_many(["001", "002"])
        assert len(list(bucket.keys("00"))) == 8


def test_a_bucket_without_a_fake_and_a_bad_name_fail_by_name() -> None:
    with pytest.raises(kv.Error, match="give one with `bireme.testing.fake_kv`"):
        kv.open("seen")
    with testing.fake_kv(), pytest.raises(kv.Error, match="cannot open bucket ``: a bucket's name has 1 to 64 bytes"):
        kv.open("")


def test_models_are_faked_by_kind() -> None:
    with testing.fake_model("letters", lambda text: [len(text), 1]):
        one, two = model("letters").embed(["a", "bc"])
        assert one.dot(two) == 3.0
        assert model("letters").embed("abc") == [3.0, 1.0]
        assert model("letters").embed([]) == []
    with testing.fake_reranker("words", lambda query, document: document.count(query)):
        assert model("words").rerank("a", ["oar", "banana"]) == [1.0, 3.0]
        assert [ranked.index for ranked in model("words").rank("a", ["oar", "banana"])] == [1, 0]
    with testing.fake_classifier("length", lambda text: {"short": 4.0, "long": float(len(text))}):
        assert model("length").classify("a quinquereme").best == ("long", 13.0)
        assert [found.best[0] for found in model("length").classify(["a", "abcdef"])] == ["short", "long"]
    with testing.fake_infer("sum", lambda inputs: {"sum": sum(inputs["terms"].values)}):
        assert model("sum").infer({"terms": [1, 2, 3]})["sum"].values == [6]
    with pytest.raises(ModelError, match="no model `none`; give one with `bireme.testing.fake_model`"):
        model("none").embed("a")


def test_tensors_are_packed_by_their_type() -> None:
    assert (Tensor("t", [[1, 2], [3, 4]]).shape, Tensor("t", [[1, 2], [3, 4]]).datatype) == ([2, 2], "INT64")
    assert Tensor("t", [1.5, 2]).values == [1.5, 2.0]
    assert Tensor("t", [True, False]).values == [True, False]
    assert Tensor("t", ["a", "bc"]).values == [b"a", b"bc"]
    assert Tensor("t", 3).shape == []
    assert Tensor("t", [1, 2], datatype="uint8").data == b"\x01\x02"
    assert Tensor("t", b"\x00\x00", datatype="fp16", shape=[1]).data == b"\x00\x00"
    with pytest.raises(ValueError, match="rows of a tensor have one length"):
        Tensor("t", [[1], [1, 2]])


def test_configuration_is_read_as_a_type() -> None:
    with testing.fake_config({"depth": "2", "name": "7", "list": "[1, 2]", "bad": "x"}):
        assert (config.get("depth"), config.get("depth", int), config.get("name", str)) == ("2", 2, "7")
        assert config.get("list", list[int]) == [1, 2]
        assert config.get("none", int, 3) == 3 and config.get("none", default="a") == "a"
        with pytest.raises(config.Error, match="`bad` does not fit: expected an integer, found `x`"):
            config.get("bad", int)
        with pytest.raises(config.Error, match="the operator gives it with `--config none=VALUE`"):
            config.get("none")
        assert config.all()["depth"] == "2"


def test_secrets_come_from_the_fake_or_the_tests_own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_ENV", "e")
    with testing.fake_secrets(API_KEY="abc"):
        assert (secret("API_KEY"), secret("FROM_ENV")) == ("abc", "e")
    with pytest.raises(Exception, match=r'does not declare the secret `API_KEY`; add `secrets=\["API_KEY"\]`'):
        secret("API_KEY")


def test_lines_of_the_log_have_levels_and_fields() -> None:
    with testing.logs() as lines:
        log.info("found", pages=3, path=None)
        log.install()
        logging.getLogger("crawler").warning("odd %s", "page", extra={"url": "u"})
        logging.getLogger().debug("too fine")
    assert [(line.level, line.message, line.fields) for line in lines] == [
        ("info", "found", {"pages": "3", "path": "None"}),
        ("warn", "odd page", {"logger": "crawler", "url": "u"}),
    ]


def test_a_call_knows_its_time() -> None:
    assert context.remaining() == 30.0
    context.sleep(1)
    assert context.current().attempt == 1
