"""What OpenAI's own client makes of a host: run by `tests/it/openai.rs` with the host's address and the reference's file."""

import asyncio
import base64
import concurrent.futures
import json
import math
import struct
import sys

import openai

ADDRESS, REFERENCE, MODEL, TOKENS = sys.argv[1:]
ITEMS = json.load(open(REFERENCE))["items"]
TEXTS = [item["text"] for item in ITEMS]
BASE_URL = f"http://{ADDRESS}/v1"
client = openai.OpenAI(base_url=BASE_URL, api_key="none", max_retries=0, timeout=60)


def check(vector, expected, text):
    assert len(vector) == len(expected), (text, len(vector))
    assert all(math.isfinite(value) for value in vector), text
    dot = sum(a * b for a, b in zip(vector, expected))
    cosine = dot / math.sqrt(sum(a * a for a in vector) * sum(b * b for b in expected))
    assert cosine > 0.9999, (text, cosine)
    difference = max(abs(a - b) for a, b in zip(vector, expected))
    assert difference < 1e-5, (text, difference)


def check_answer(answer, items):
    assert [data.index for data in answer.data] == list(range(len(items)))
    assert answer.model == MODEL and answer.object == "list"
    for data, item in zip(answer.data, items):
        check(data.embedding, item["vector"], item["text"])
    tokens = sum(item["tokens"] for item in items)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == tokens, (answer.usage, tokens)


def refused(kind, status, code, **request):
    try:
        client.embeddings.create(**{"model": MODEL, "input": "a", **request})
    except openai.APIStatusError as error:
        assert type(error) is kind, (kind, type(error), error)
        assert (error.status_code, error.code) == (status, code), (error.status_code, error.code, error)
        assert error.body["message"] and error.body["type"], error.body
        return error
    raise AssertionError(f"{request} was taken")


def vectors():
    # The last of the reference is longer than the model takes, cut to 256 tokens.
    whole = [item for item in ITEMS if item["tokens"] < 256]
    texts = [item["text"] for item in whole]
    # The client asks for base64 by itself, and makes floats of it.
    check_answer(client.embeddings.create(model=MODEL, input=texts), whole)
    check_answer(client.embeddings.create(model=MODEL, input=texts, encoding_format="float"), whole)
    raw = client.embeddings.create(model=MODEL, input=texts, encoding_format="base64")
    for data, item in zip(raw.data, whole):
        buffer = base64.b64decode(data.embedding)
        check(struct.unpack(f"<{len(buffer) // 4}f", buffer), item["vector"], item["text"])
    check_answer(client.embeddings.create(model=MODEL, input=texts[0]), whole[:1])
    check_answer(client.embeddings.create(model=MODEL, input=TEXTS, extra_body={"truncate": True}), ITEMS)
    return whole


def tokens(whole):
    # By the model's own tokenizer, without the special tokens.
    tokens = [row[1:-1] for row in json.load(open(TOKENS))]
    assert [len(row) + 2 for row in tokens] == [item["tokens"] for item in whole[: len(tokens)]]
    check_answer(client.embeddings.create(model=MODEL, input=tokens), whole[: len(tokens)])
    check_answer(client.embeddings.create(model=MODEL, input=tokens[0]), whole[:1])


def dimensions():
    expected = ITEMS[0]["vector"][:64]
    length = math.sqrt(sum(value * value for value in expected))
    answer = client.embeddings.create(model=MODEL, input=TEXTS[0], dimensions=64)
    check(answer.data[0].embedding, [value / length for value in expected], "64 dimensions")
    error = refused(openai.BadRequestError, 400, None, dimensions=385)
    assert error.param == "dimensions" and "384" in error.message, error


def errors():
    error = refused(openai.NotFoundError, 404, "model_not_found", model="nothing")
    assert "`bireme models` lists those that can be pulled" in error.message and error.param == "model", error
    error = refused(openai.BadRequestError, 400, "context_length_exceeded", input=["a", "word " * 1_000])
    assert "text 1" in error.message and "256" in error.message, error
    refused(openai.BadRequestError, 400, None, input=[])
    refused(openai.BadRequestError, 400, None, input=[[1 << 31]])
    refused(openai.BadRequestError, 400, None, input="a", encoding_format="hex")
    refused(openai.BadRequestError, 400, None, input=["a"] * 2_049)
    refused(openai.BadRequestError, 400, None, input=None)


def overload():
    # `narrow` is the same model behind a queue that takes one text.
    assert len(client.embeddings.create(model="narrow", input="a").data) == 1

    def ask(_):
        try:
            assert len(client.embeddings.create(model="narrow", input="a harbour " * 60).data) == 1
        except openai.RateLimitError as error:
            return error

    # Sixteen at a time until one meets a full queue, which is soon.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for _ in range(50):
            errors = [error for error in pool.map(ask, range(16)) if error]
            if errors:
                break
    assert errors, "no queue was full"
    for error in errors:
        assert (error.status_code, error.code) == (429, "rate_limit_exceeded"), error
        assert error.response.headers["retry-after"] == "1", error.response.headers


def models():
    assert MODEL in [model.id for model in client.models.list()]
    model = client.models.retrieve(MODEL)
    assert model.id == MODEL and model.object == "model" and model.created > 0, model
    try:
        client.models.retrieve("nothing")
        raise AssertionError("a model that is not there was found")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found", error


def receipts():
    answer = client.embeddings.with_raw_response.create(model=MODEL, input=TEXTS[:3])
    receipt = json.loads(answer.headers["bireme-receipt"])["inference"]
    assert receipt["tokens"] == sum(item["tokens"] for item in ITEMS[:3]), receipt
    assert receipt["device"] == "cpu" and receipt["requests"] == 1, receipt


async def many(whole):
    async with openai.AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0, timeout=120) as client:
        async def one(i):
            item = whole[i % len(whole)]
            check_answer(await client.embeddings.create(model=MODEL, input=item["text"]), [item])
        await asyncio.gather(*(one(i) for i in range(64)))


whole = vectors()
tokens(whole)
dimensions()
errors()
overload()
models()
receipts()
asyncio.run(many(whole))
print(f"openai {openai.__version__}: all well")
