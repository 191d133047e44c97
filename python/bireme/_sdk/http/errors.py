"""Errors of HTTP requests. Every message names the URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..host import HttpError

if TYPE_CHECKING:
    from .response import Response


class Error(Exception):
    """Reason why a request has no usable response."""

    #: Whether another attempt cannot help, so that the function's `retries` are not spent on it.
    is_terminal = False

    def __init__(self, message: str, url: str = "") -> None:
        super().__init__(message)
        self.url = url


class InvalidRequest(Error, ValueError):
    """The URL, the method or a header is malformed."""

    is_terminal = True


class Denied(Error):
    """The host does not permit the URL."""

    is_terminal = True


class ConnectError(Error, ConnectionError):
    """The host name does not resolve, or there is no connection to it."""


class Timeout(Error, TimeoutError):
    """The request took too long."""


class BodyTooLarge(Error):
    """The body is larger than the request allows."""

    is_terminal = True


class TooManyRedirects(Error):
    """One redirect led to another, over and over."""


class ProtocolError(Error):
    """The exchange broke off, or is not HTTP."""


class DecodeError(Error, ValueError):
    """The body cannot be decompressed."""


class JSONError(Error, ValueError):
    """The body is not the expected JSON."""

    def __init__(self, message: str, url: str, is_misfit: bool) -> None:
        super().__init__(message, url)
        # A body that is no JSON may have been cut off; JSON of another shape stays what it is.
        self.is_terminal = is_misfit


class HTTPError(Error):
    """The status is not a success."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"`{response.url}` answered with status {response.status_code}", response.url)
        self.response = response
        status = response.status_code
        self.is_terminal = 400 <= status < 500 and status not in (408, 425, 429)


def of_host(error: HttpError, url: str) -> Error:
    """Turns an error code of `wasi:http` into an error of the SDK."""
    code, detail = error.code, error.detail
    if code in ("HttpRequestDenied", "DestinationIpProhibited"):
        return Denied(
            f"this function may not reach `{url}`: add its origin to the function's `outbound`; the operator grants "
            "private addresses and `$names` with `--grant`",
            url,
        )
    if code in _UNREACHED:
        return ConnectError(
            f"{_UNREACHED[code].format(url=url)}: {detail or _DETAILS.get(code, 'no reason is known')}", url
        )
    if code in _LATE:
        return Timeout(f"`{url}` took too long: {detail or _LATE[code]}", url)
    if code in ("HttpRequestMethodInvalid", "HttpRequestUriInvalid", "HttpRequestUriTooLong", "HttpRequestHeaderSize"):
        return InvalidRequest(f"cannot ask for `{url}`: {detail or code}", url)
    if code == "HttpResponseBodySize":
        return BodyTooLarge(f"the body of `{url}` is larger than {detail} bytes", url)
    if code == "ConnectionLimitReached":
        return ConnectError(f"no connection left for `{url}`: this call has as many as the host allows", url)
    if code == "NoFake":
        words = "there is no host in a native test, so no"
        return NoFake(f"{words} `{url}`; answer it with `bireme.testing.fake_http`", url)
    return ProtocolError(f"the exchange with `{url}` failed: {detail or code}", url)


class NoFake(Error):
    """A native test sent a request without a fake."""

    is_terminal = True


_UNREACHED = {
    "DnsTimeout": "no address found for the host of `{url}`",
    "DnsError": "no address found for the host of `{url}`",
    "DestinationNotFound": "no address found for the host of `{url}`",
    "DestinationUnavailable": "cannot connect to `{url}`",
    "DestinationIpUnroutable": "cannot connect to `{url}`",
    "ConnectionRefused": "cannot connect to `{url}`",
    "TlsProtocolError": "no TLS session with `{url}`",
    "TlsCertificateError": "no TLS session with `{url}`",
    "TlsAlertReceived": "no TLS session with `{url}`",
}
_DETAILS = {
    "DnsTimeout": "the resolver took too long",
    "DnsError": "the resolver refused",
    "DestinationNotFound": "it does not exist",
    "DestinationUnavailable": "it cannot be reached",
    "DestinationIpUnroutable": "it cannot be reached",
    "ConnectionRefused": "the connection was refused",
    "TlsProtocolError": "the handshake failed",
    "TlsCertificateError": "its certificate is not trusted",
    "TlsAlertReceived": "it sent an alert",
}
_LATE = {
    "ConnectionTimeout": "no connection",
    "ConnectionReadTimeout": "no answer",
    "HttpResponseTimeout": "no answer",
    "ConnectionWriteTimeout": "it does not take the request",
}
