"""Deploys, calls, spawns and reads a map with a client that openapi-python-client made of the host's document.

    generated_client.py ADDRESS CLIENT_DIRECTORY COMPONENT
"""

import io
import json
import os
import pathlib
import sys

address, directory, component = sys.argv[1:]
sys.path.insert(0, str(pathlib.Path(directory).parent))

from generated import AuthenticatedClient  # noqa: E402
from generated.api.apps import deploy_app, describe_app, list_apps  # noqa: E402
from generated.api.calls import get_call, list_calls, spawn_call  # noqa: E402
from generated.api.functions import call_function  # noqa: E402
from generated.api.maps import append_inputs, close_map, create_map, get_map, get_map_result  # noqa: E402
from generated.models import AppState, CallState, ListCallsKind, MapState, Problem  # noqa: E402
from generated.types import File  # noqa: E402

client = AuthenticatedClient(base_url=f"http://{address}", token=os.environ["BIREME_TOKEN"], timeout=60.0)
wasm = File(payload=io.BytesIO(pathlib.Path(component).read_bytes()))

deployed = deploy_app.sync(client=client, body=wasm, accept=["all"], message="from a generated client")
assert deployed.app == "hello" and deployed.changed, deployed
(app,) = list_apps.sync(client=client).apps
assert (app.name, app.state, app.version) == ("hello", AppState.LIVE, deployed.version), app
functions = {function.name for function in describe_app.sync("hello", client=client).metadata.functions}
assert {"greet", "square"} <= functions, functions

called = call_function.sync_detailed("hello", "square", client=client, body=7)
assert (called.status_code, json.loads(called.content)) == (200, 49), called

call = spawn_call.sync("hello", "square", client=client, body=8, idempotency_key="once")
again = spawn_call.sync("hello", "square", client=client, body=8, idempotency_key="once")
assert call.id == again.id
call = get_call.sync(call.id, client=client, wait=30.0)
assert (call.state, call.output) == (CallState.DONE, 64), call
# The first digits name it as well.
assert get_call.sync(call.id[:23], client=client).id == call.id
assert call.id in [entry.id for entry in list_calls.sync(client=client, kind=ListCallsKind.CALL).calls]

problem = get_call.sync("00000000-0000-7000-8000-000000000000", client=client)
assert isinstance(problem, Problem) and (problem.status, problem.code) == (404, "unknown-call"), problem

made = json.loads(create_map.sync_detailed("hello", "square", client=client).content)
lines = File(payload=io.BytesIO(b"2\n3\n"))
assert append_inputs.sync(made["id"], client=client, body=lines, from_=0).accepted == 2
close_map.sync(made["id"], client=client)
ended = get_map.sync(made["id"], client=client, wait=30.0)
assert (ended.state, ended.counts.done) == (MapState.DONE, 2), ended
assert [get_map_result.sync(made["id"], index, client=client).output for index in range(2)] == [4, 9]
print("all well")
