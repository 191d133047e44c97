"""Another app's calls, one after the other, in a process of their own: `probe.py ADDRESS [PAUSE_S]`, until standard input ends.

Prints the statuses, counted, and the times in milliseconds, as one line of JSON."""

import http.client
import json
import select
import sys
import time

PATIENCE_S = 60
CALLS_MIN = 5


def main():
    name, port = sys.argv[1].rsplit(":", 1)
    pause_s = float(sys.argv[2]) if len(sys.argv) > 2 else 0.02
    statuses, times_ms = {}, []
    # A few, however short the attack.
    while len(times_ms) < CALLS_MIN or not select.select([sys.stdin], [], [], pause_s)[0]:
        begin = time.monotonic()
        status = str(call(name, int(port)))
        times_ms.append((time.monotonic() - begin) * 1_000)
        statuses[status] = statuses.get(status, 0) + 1
    times_ms.sort()
    part = lambda part: times_ms[min(len(times_ms) - 1, int(len(times_ms) * part))] if times_ms else None
    print(json.dumps({"statuses": statuses, "p50_ms": part(0.5), "p99_ms": part(0.99), "max_ms": part(1)}))


def call(name, port):
    """The status of a call of `hello::add` on a new connection; `none` if there is no answer."""
    connection = http.client.HTTPConnection(name, port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/hello/add", b'{"a":1,"b":2}', {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return "none"
    finally:
        connection.close()


if __name__ == "__main__":
    main()
