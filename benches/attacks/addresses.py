"""Addresses: names that resolve slowly, addresses of this machine and of clouds, other users of the machine."""

import errno
import fcntl
import http.server
import os
import socket
import threading
import time

from host import attached, counted, metadata, strip, together
from trial import Skipped, attack

GOOD_PORT, CLOUD = 8_000, "168.63.129.16"
OWN_V4, OWN_V6 = "8.8.4.4", "2606:4700::1111"


def reaching(component, name, outbound):
    """A component as an app of another name, all of whose functions declare these origins."""
    document = metadata(component)
    document["app"]["name"] = name
    for function in document["functions"]:
        if "outbound" in function["attributes"]:
            function["attributes"]["outbound"] = outbound
    return attached(strip(component, component.rindex(b"bireme:metadata")), document)


def app(trial, name, outbound):
    path = trial.bench.work / f"{name}.wasm"
    path.write_bytes(reaching(trial.bench.guest("hostile").read_bytes(), name, outbound))
    return path


class Web(http.server.ThreadingHTTPServer):
    """Servers of this machine that count who connects."""

    daemon_threads = True
    address_family = socket.AF_INET6

    def __init__(self, port):
        self.connections = 0
        super().__init__(("::", port), Answer)

    def get_request(self):
        self.connections += 1
        return super().get_request()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def serve(port):
    server = Web(port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def name_server():
    """A name server that never answers, on this namespace's loopback."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))
    asked = []

    def listen():
        while True:
            asked.append(udp.recv(512))

    threading.Thread(target=listen, daemon=True).start()
    return asked


@attack("M9", "100 calls look up names whose server never answers",
        "64 look-ups; the last eighth is for apps that hold few", namespaces="network")
def slow_names(trial):
    trial.own_network({"fast.test": "127.0.0.1"})
    asked, _server = name_server(), serve(GOOD_PORT)
    good = f"http://fast.test:{GOOD_PORT}"
    apps = ["hello", app(trial, "slow", ["http://*.slow.test"]), app(trial, "other", [good])]
    # Until the system's resolver gives up, its threads and sockets stay.
    with trial.host(apps, "--grant", good, peak_mib=300) as host:
        fetched = []

        def fetch(index):
            if index < 100:
                return host.post("/slow/fetch", {"url": f"http://n{index}.slow.test/"})
            time.sleep(2)
            for _ in range(20):
                fetched.append(host.post("/other/fetch", {"url": f"{good}/"}))
                # The connection that was kept is not used again.
                time.sleep(0.1)
            return None

        with trial.beside(host):
            slow = [status for status, _ in together(101, fetch)[:100]]
        good_ones = sum(text.strip('"\n') == "200" for _, text in fetched)
        trial.check(len(asked) >= 50, f"{len(asked)} questions; slow app: {counted(slow)}")
        why = "" if good_ones == 20 else f": {fetched[0]}"
        trial.check(good_ones == 20, f"fetches of another app: {good_ones} of 20 × 200{why}")


@attack("M10", "public addresses of this machine, and those of cloud services, in several spellings",
        "refused without a grant, before a connection", quick=True, namespaces="network")
def own_addresses(trial):
    addresses = [f"{OWN_V4}/32", f"{CLOUD}/32", "169.254.169.254/32", "100.100.100.200/32", f"{OWN_V6}/128"]
    trial.own_network({"own.test": OWN_V4, "wire.test": CLOUD, "own6.test": OWN_V6}, addresses)
    server, granted = serve(80), serve(GOOD_PORT)
    grant = f"http://{OWN_V4}:{GOOD_PORT}"
    with trial.host(["hello", app(trial, "reaching", ["*", grant])], "--grant", grant) as host:
        hosts = ["own.test", OWN_V4, CLOUD, "wire.test", f"[{OWN_V6}]", "own6.test", f"[::ffff:{OWN_V4}]", "0x08080404", "134743044"]
        hosts += ["169.254.169.254", "2852039166", "100.100.100.200", "127.0.0.1", "localhost", "[::1]", "0"]
        hosts += [host.address, f"{OWN_V4}:{host.port}"]
        urls = [f"http://{name}/" for name in hosts]
        with trial.beside(host):
            texts = [host.post("/reaching/fetch", {"url": url})[1].strip('"\n') for url in urls]
        reached = [url for url, text in zip(urls, texts) if text.isdigit()]
        is_none = not reached and server.connections == 0
        trial.check(is_none, f"{len(urls)} refused" if is_none else f"reached: {reached}; {server.connections} connections")
        with_grant = host.post("/reaching/fetch", {"url": f"{grant}/"})[1].strip('"\n')
        trial.check(with_grant == "200" and granted.connections > 0, f"with a grant: {with_grant[:100]}")


def as_stranger(act):
    """Runs `act` in a child as another user and returns its lines."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(65_534)
            os.setuid(65_534)
            os.write(writer, "\n".join(act()).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as file:
        lines = file.read().split("\n")
    os.waitpid(child, 0)
    return lines


def trespass(host, component):
    """What another user is told by the control API, without its token, and by the files."""
    said = []
    requests = [("GET", path) for path in ["/", "/metrics", "/api/v1/apps", "/api/v1/calls", "/api/v1/logs"]]
    requests += [("POST", "/api/v1/apps?accept=all"), ("DELETE", "/api/v1/apps/hello")]
    requests += [("PUT", "/api/v1/apps/hello/kv/value?bucket=b&key=k")]
    for method, path in requests:
        body = component if method == "POST" else b""
        said.append(str(host.ask(method, path, body, headers={"authorization": "Bearer guessed"})[0]))
    for name in ["token", "store.redb", "lock"]:
        try:
            fcntl.flock(os.open(host.data / name, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
            said.append(f"opened {name}")
        except OSError as error:
            said.append("denied" if error.errno == errno.EACCES else f"{name}: {error}")
    return said


@attack("H11", "another user of this machine asks the control API and opens the data directory",
        "a token in a file of mode 0600", quick=True)
def other_user(trial):
    if os.geteuid() != 0:
        raise Skipped("only root can be another user")
    # What keeps the other user out must be the host's modes, not those of the directory above.
    trial.bench.work.chmod(0o755)
    data = trial.bench.work / "data-of-a-user"
    component = trial.bench.guest("hello").read_bytes()
    try:
        with trial.host(["hello"], data=data, has_own_disk=True) as host:
            with trial.beside(host):
                lines = as_stranger(lambda: trespass(host, component))
            trial.check(lines[:8] == ["401"] * 8, f"requests: {counted(lines[:8])}")
            trial.check(lines[8:] == ["denied"] * 3, f"token, database, lock: {counted(lines[8:])}")
    finally:
        trial.bench.work.chmod(0o700)
