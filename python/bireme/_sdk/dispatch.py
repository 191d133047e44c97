"""The way of a call within its sandbox: an input to arguments, the function, its result or failure."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from . import frames, jsontext
from .failure import Failure, of_exception
from .function import Entry
from .payload import Payload
from .signature import Signature, invalid
from .words import names

#: Media type of a group, and of its results.
GROUP = "application/vnd.bireme.batch+json"


def invoke(entries: Mapping[str, Entry], name: str, payload: Payload, report: Callable[[str], None]) -> Payload:
    """Runs one function on one input or group; raises `Failure`. `report` takes the traceback of a fault."""
    entry = entries.get(name)
    if entry is None or "route" in entry.attributes:
        known = names(n for n, e in entries.items() if "route" not in e.attributes)
        has = f"it has {known}" if known else "it has none"
        raise Failure(f"no function `{name}` in this app; {has}", code="unknown-function")
    if "batched" in entry.attributes:
        return _batched(entry, payload, report)
    args, kwargs = entry.signature.arguments(payload)
    return entry.signature.output(run(entry.function, args, kwargs, report))


def run(
    function: Callable[..., Any],
    args: list[Any],
    kwargs: dict[str, Any],
    report: Callable[[str], None],
    *,
    is_web: bool = False,
) -> Any:
    """Calls the author's function; whatever leaves it becomes a `Failure`, with the error as its cause.

    Of a web function a generator is a stream, and the clients are strangers, to whom its lines are not shown.
    """
    try:
        value = function(*args, **kwargs)
        if inspect.iscoroutine(value):
            from .coroutines import run_coroutine

            value = run_coroutine(value)
        if inspect.isgenerator(value) and not is_web:
            value = list(value)
        return value
    except BaseException as error:
        raise failed(error, report, shows_lines=not is_web) from error


def failed(error: BaseException, report: Callable[[str], None], *, shows_lines: bool = True) -> Failure:
    """Returns the failure of an exception, and reports its traceback unless the author chose the words."""
    if isinstance(error, GeneratorExit):
        raise error
    if not isinstance(error, Failure) and not getattr(error, "is_answer", False):
        report(frames.text(error))
    return of_exception(error, frames.lines(error) if shows_lines else [])


def to_stderr(text: str) -> None:
    """Writes a traceback to stderr, which the host keeps as lines of the log."""
    sys.stderr.write(text)
    sys.stderr.flush()


def _batched(entry: Entry, payload: Payload, report: Callable[[str], None]) -> Payload:
    signature = entry.signature
    if jsontext.essence(payload.content_type) != GROUP:
        value = _only(signature.arguments(payload))
        output = _outputs(entry, [value], report)[0]
        if isinstance(output, BaseException):
            raise failed(output, report) from output
        return signature.output(output)
    try:
        inputs = jsontext.loads(payload.data)
    except jsontext.NotJson as error:
        raise invalid(f"the group of inputs is no JSON array: {error}") from None
    if not isinstance(inputs, list):
        raise invalid("the group of inputs is no JSON array")
    fitting: list[Any] = []
    # A misfit fails alone, and the function never sees it.
    misfits: list[Failure | None] = []
    for value in inputs:  # pyright: ignore[reportUnknownVariableType]
        try:
            fitting.append(_only(signature.arguments_of(value)))
            misfits.append(None)
        except Failure as failure:
            misfits.append(failure)
    outputs = iter(_outputs(entry, fitting, report) if fitting else [])
    answers = [_answer(signature, next(outputs) if misfit is None else misfit, report) for misfit in misfits]
    return Payload(GROUP, b"[" + b",".join(answers) + b"]")


def _only(arguments: tuple[list[Any], dict[str, Any]]) -> Any:
    args, kwargs = arguments
    return args[0] if args else next(iter(kwargs.values()))


def _outputs(entry: Entry, inputs: list[Any], report: Callable[[str], None]) -> list[Any]:
    outputs = run(entry.function, [inputs], {}, report)
    try:
        outputs = list(outputs)
    except TypeError:
        raise Failure(
            f"`{entry.name}` returned a value of type `{type(outputs).__name__}`; a batched function returns a list",
            terminal=True,
        ) from None
    if len(outputs) != len(inputs):
        raise Failure(
            f"the function returned {len(outputs)} outputs for a group of {len(inputs)} inputs; a batched function "
            "returns one for each, in their order",
            terminal=True,
        )
    return outputs


def _answer(signature: Signature, output: Any, report: Callable[[str], None]) -> bytes:
    try:
        if isinstance(output, BaseException):
            raise output if isinstance(output, Failure) else failed(output, report)
        return b'{"ok":' + signature.output_json(output) + b"}"
    except Failure as failure:
        answer = {"code": failure.code, "message": failure.message, "causes": failure.causes}
        return b'{"err":' + json.dumps(answer).encode() + b"}"
