#!/usr/bin/env python3
"""Metrics as Prometheus takes them: a host with a guest app, Debian's Prometheus on loopback, the rules and the dashboard.

    benches/prometheus.py [BIREME]      the binary; target/debug/bireme where none is given

Makes calls that succeed and fail, checks the text with `promtool check metrics`, the rules with `promtool check rules`, then
has Prometheus scrape the host (as OpenMetrics) and asks it every query of docs/grafana.json and docs/prometheus-rules.yml: each
must parse, and those whose metrics this host has must return data. Needs `prometheus` and `promtool` (Debian: prometheus).
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "docs/prometheus-rules.yml"
DASHBOARD = ROOT / "docs/grafana.json"
# Patience with a loaded machine; only a fault meets it.
PATIENCE_S = 120
TOKEN = "the-token-of-this-check"
# Series that a host without models, and one that refuses nothing, does not have or that are empty by nature.
MAY_BE_EMPTY = ["bireme_model_"]


def main():
    bireme = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/debug/bireme").resolve()
    for tool in ["prometheus", "promtool"]:
        if shutil.which(tool) is None:
            sys.exit(f"no `{tool}`: apt-get install --no-install-recommends prometheus")
    run(["promtool", "check", "rules", str(RULES)])
    env = {key: value for key, value in os.environ.items() if not key.startswith("BIREME_")}
    env["BIREME_TOKEN"] = TOKEN
    env["BIREME_GUEST_TARGET_DIR"] = str(ROOT / "target/it/guests")
    build = [bireme, "--json", "build", ROOT / "examples/hello"]
    built = subprocess.run(build, env=env, check=True, stdout=subprocess.PIPE)
    component = json.loads(built.stdout)["path"]

    with tempfile.TemporaryDirectory() as work, Processes() as processes:
        work = Path(work)
        serve = [bireme, "--json", "--data", work / "data", "serve", "--listen", "127.0.0.1:0", component]
        host = processes.start(serve, env=env, stdout=subprocess.PIPE, stderr=(work / "host.log").open("w"))
        address = json.loads(host.stdout.readline())["listening"]
        calls = Calls(address)
        calls.round()

        text = get(address, "/metrics", accept="text/plain")
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
        if checked.returncode != 0 or checked.stdout or checked.stderr:
            sys.exit(f"promtool check metrics: status {checked.returncode}\n{checked.stdout}{checked.stderr}")
        print(f"promtool check metrics: nothing to say about {len(text.splitlines())} lines")

        # As on a host of an operator, but without waiting for its intervals.
        rules = work / "rules.yml"
        rules.write_text(RULES.read_text().replace("interval: 15s", "interval: 1s"))
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": "bireme", "static_configs": [{"targets": [address]}], "authorization": {"credentials": TOKEN}}],
            "rule_files": [str(rules)],
        }
        # JSON is YAML.
        (work / "prometheus.json").write_text(json.dumps(config))
        port = free_port()
        arguments = [f"--config.file={work}/prometheus.json", f"--storage.tsdb.path={work}/tsdb"]
        log = (work / "prometheus.log").open("w")
        processes.start(["prometheus", *arguments, f"--web.listen-address=127.0.0.1:{port}"], stderr=log, stdout=log)
        prometheus = Prometheus(f"127.0.0.1:{port}")
        until("Prometheus is ready", lambda: prometheus.is_ready())
        calls.go_on()
        try:
            ask_all(prometheus)
        except Fault as fault:
            sys.stderr.write((work / "prometheus.log").read_text()[-4_000:])
            sys.exit(f"prometheus: {fault}")
        finally:
            calls.stop()


class Fault(Exception):
    """Something that is not as it should be."""


def ask_all(prometheus):
    """Asks every query, waiting for data where there must be some."""
    until("the host was scraped twice", lambda: prometheus.has_data("count_over_time(up[1m]) > 1"))
    [target] = prometheus.get("targets")["activeTargets"]
    if target["health"] != "up" or target["lastError"]:
        raise Fault(f"the scrape: {target['lastError']}")
    queries = dashboard_queries()
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    alerts = [rule["query"] for rule in rules if rule["type"] == "alerting"]
    if not queries or not recorded or not alerts:
        raise Fault("no queries, recorded names or alerts")
    for query in alerts:
        prometheus.query(query)
    empty = 0
    for query in queries + recorded:
        prometheus.query(query)
        if any(name in query for name in MAY_BE_EMPTY):
            empty += 1
            continue
        until(f"there is data for `{query}`", lambda: prometheus.has_data(query))
    until("every rule was evaluated", lambda: all(rule["health"] != "unknown" for rule in prometheus.rules()))
    for rule in prometheus.rules():
        if rule["health"] != "ok":
            raise Fault(f"rule {rule['name']}: {rule.get('lastError')}")
    print(
        f"prometheus: {len(queries)} queries of the dashboard, {len(recorded)} recorded names, {len(alerts)} alerts; "
        f"{len(queries) + len(recorded) - empty} have data, {empty} need a model"
    )


def dashboard_queries():
    """Returns the queries of the dashboard, its variables filled in."""
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    definitions = [variable.get("definition", "") for variable in dashboard["templating"]["list"]]
    queries += [re.sub(r"label_values\((.*), *\w+\)", r"\1", definition) for definition in definitions if definition]
    values = {"$app": ".*", "$instance": ".*", "$job": "bireme", "$__rate_interval": "1m"}
    for name, value in values.items():
        queries = [query.replace(name, value) for query in queries]
    left = [query for query in queries if "$" in query]
    if left:
        raise Fault(f"an unknown variable in `{left[0]}`")
    return queries


class Calls:
    """Calls that succeed and fail, again and again until `stop`."""

    def __init__(self, address):
        self.address, self.stopped = address, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def round(self):
        post(self.address, "/hello/add", {"a": 1, "b": 2}, 200)
        post(self.address, "/hello/add", {"a": 2**63 - 1, "b": 1}, 500)
        post(self.address, "/hello/add", {"a": "x"}, 400)
        post(self.address, "/hello/fan_out", {"n": 3}, 200)
        post(self.address, "/hello/no_such", {}, 404)
        post(self.address, "/api/v1/apps/hello/functions/square/calls", 4, 202)

    def run(self):
        while not self.stopped.wait(0.2):
            self.round()

    def go_on(self):
        self.thread.start()

    def stop(self):
        self.stopped.set()
        self.thread.join()


class Prometheus:
    """Client of Prometheus' HTTP API."""

    def __init__(self, address):
        self.address = address

    def is_ready(self):
        try:
            return get(self.address, "/-/ready") is not None
        except OSError:
            return False

    def get(self, path, **parameters):
        try:
            answer = json.loads(get(self.address, f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        except urllib.error.HTTPError as error:
            raise Fault(f"{path} {parameters}: {error.read().decode()}") from error
        if answer["status"] != "success" or answer.get("warnings"):
            raise Fault(f"{path} {parameters}: {answer}")
        return answer["data"]

    def query(self, query):
        return self.get("query", query=query)["result"]

    def has_data(self, query):
        # A quantile of nothing is NaN.
        return any(sample["value"][1] != "NaN" for sample in self.query(query))

    def rules(self):
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]


class Processes:
    """Children, ended by their ids when the block ends."""

    def __init__(self):
        self.children = []

    def __enter__(self):
        return self

    def start(self, command, **options):
        child = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, **options)
        self.children.append(child)
        return child

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.terminate()
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def run(command):
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(ran.stdout.strip())
    if ran.returncode != 0:
        sys.exit(f"{command}: status {ran.returncode}")


def until(what, is_true):
    end = time.monotonic() + PATIENCE_S
    while not is_true():
        if time.monotonic() > end:
            raise Fault(f"waited {PATIENCE_S} s until {what}")
        time.sleep(0.2)


def get(address, path, accept="*/*"):
    request = urllib.request.Request(f"http://{address}{path}", headers={"accept": accept, "authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return response.read().decode()


def post(address, path, body, status):
    body = json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"http://{address}{path}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            answered = response.status
    except urllib.error.HTTPError as error:
        answered = error.code
    if answered != status:
        raise Fault(f"POST {path}: status {answered}, expected {status}")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"prometheus: {fault}")
