"""Decisions for those who act elsewhere: a FastMCP server that asks over AuthZEN, and Envoy that asks over gRPC.

`run.py` runs this after its own; by itself it needs a debug build of `tipstaff`.
"""

import asyncio
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from rig import AGENT, FOLDER, LOGS, PYTHON, ROOT, Gateway, Tally, free_port, listens, start, start_ready, stop, tail, until

EXAMPLE = ROOT / "examples" / "fastmcp"
ENVOY = str(pathlib.Path(sys.executable).parent / "envoy")
BODY_MAX = 64 * 1024

POLICIES = f"""
@id("notes") permit (principal in Agent::"{AGENT}",
                     action in [Action::"notes/add_note", Action::"notes/read_note"], resource);
@id("private") @reason("Private notes are not for agents.")
forbid (principal, action == Action::"notes/add_note", resource) when {{ context.args.title like "private*" }};
@id("note") permit (principal in Agent::"{AGENT}", action == Action::"notes:resources/read", resource)
when {{ context.args.uri == "notes://welcome" }};
@id("edge") permit (principal in Agent::"{AGENT}", action == Action::"edge/echo", resource)
when {{ context.args.text == "hello" || context.args.text like "x*" }};
"""
ECHO = {
    "name": "echo",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


class Node(Gateway):
    """A node that nothing passes: two services, each of which asks."""

    def __init__(self):
        super().__init__("elsewhere", {})
        self.notes_port, self.edge_port, self.grpc_port = (free_port() for _ in range(3))
        actions = self.dir / "notes.actions.json"
        declare = [PYTHON, str(EXAMPLE / "server.py"), "--actions"]
        actions.write_text(subprocess.run(declare, capture_output=True, text=True, timeout=60, check=True).stdout)
        (self.dir / "edge.actions.json").write_text(json.dumps([ECHO]))
        with self.config.open("a", encoding="utf-8") as config:
            config.write(
                f'\n[ext_authz]\nlisten = "127.0.0.1:{self.grpc_port}"\n'
                f'\n[service.notes]\nactions = "notes.actions.json"\nurl = "http://127.0.0.1:{self.notes_port}/mcp"\n'
                f'\n[service.edge]\nactions = "edge.actions.json"\nurl = "http://127.0.0.1:{self.edge_port}/mcp"\n'
            )
        (self.dir / "policies" / "all.cedar").write_text(POLICIES)
        self.upstreams = {"notes", "edge"}

    def pep(self, name, service):
        return json.loads(self.run("pep", "add", name, "--for", service, "--json"))["token"]


# FastMCP.


def note(url, token, tool, **arguments):
    """What a client of the notes server is told."""

    async def call():
        transport = StreamableHttpTransport(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        async with Client(transport) as client:
            if tool == "resource":
                return (await client.read_resource(arguments["uri"]))[0].text
            result = await client.call_tool(tool, arguments, raise_on_error=False)
            return result.content[0].text

    try:
        return asyncio.run(call())
    except Exception as error:  # an error of the protocol says no as well
        return f"error: {error}"


def expect(told, part):
    return [] if part in told else [f"expected {part!r}, was told {told!r}"]


def fastmcp(tally, node):
    environment = {**os.environ, "TIPSTAFF_TOKEN": node.pep("notes-server", "notes")}
    words = [PYTHON, EXAMPLE / "server.py", "--node", node.url, "--port", node.notes_port, "--ready", "{ready}"]
    _, url = start_ready("fastmcp", words, 60, env=environment)
    token = pathlib.Path(node.token("notes")).read_text()
    other = pathlib.Path(node.token("edge")).read_text()
    cases = [
        ("a permitted call is made", token, "add_note", {"title": "a", "text": "b"}, "Kept."),
        ("a denied call says why", token, "add_note", {"title": "private a", "text": "b"}, "Private notes are not for agents."),
        ("its note is not there", token, "read_note", {"title": "private a"}, "rror"),
        ("a resource is read", token, "resource", {"uri": "notes://welcome"}, "Hello."),
        ("another is not", token, "resource", {"uri": "notes://a"}, "error"),
        ("a token for another service is none", other, "add_note", {"title": "c", "text": "d"}, "another resource"),
        ("nor is none", None, "add_note", {"title": "c", "text": "d"}, "access token"),
    ]
    for name, who, tool, arguments, part in cases:
        tally.check(f"fastmcp: {name}", expect(note(url, who, tool, **arguments), part))
    return url, token


def down(tally, url, token):
    told = note(url, token, "add_note", title="a", text="b")
    tally.check("fastmcp: without a node nothing is done", expect(told, "could not be asked"))


def liars(tally, token):
    """A node that says anything but a clean yes is none."""
    said = {}

    class Liar(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = said["now"]
            self.send_response(status)
            self.send_header("Location", "/yes")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    liar = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=liar.serve_forever, daemon=True).start()
    words = [PYTHON, EXAMPLE / "server.py", "--node", f"http://127.0.0.1:{liar.server_port}", "--port", "0"]
    environment = {**os.environ, "TIPSTAFF_TOKEN": "tsp_x"}
    child, url = start_ready("fastmcp-liar", [*words, "--ready", "{ready}"], 60, env=environment)
    yes = b'{"decision": true}'
    said["now"] = (200, yes)
    tally.check("fastmcp: a clean yes is one", expect(note(url, token, "add_note", title="a", text="b"), "Kept."))
    for status, body in [
        (200, b""), (200, b"{"), (200, b"[]"), (200, b"true"), (200, b"{}"), (200, b'{"decision": "true"}'),
        (200, b'{"decision": 1}'), (200, b'{"decision": null}'), (201, yes), (302, yes), (401, yes), (500, yes),
    ]:  # fmt: skip
        said["now"] = (status, body)
        told = note(url, token, "add_note", title="a", text="b")
        tally.check(f"fastmcp: {status} {body!r} is no yes", [] if "Kept." not in told else [told])
    stop(child)
    liar.shutdown()


# Envoy.


class Recorder(http.server.BaseHTTPRequestHandler):
    """The server behind Envoy: it says what reached it."""

    protocol_version = "HTTP/1.1"
    seen = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        Recorder.seen.append((self.path, {name.lower() for name in self.headers}, body))
        answer = b'{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"reached"}]}}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST

    def log_message(self, *_):
        pass


def envoy_config(port, behind, grpc, token, partial, allow):
    def cluster(name, port, more):
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        load = {"cluster_name": name, "endpoints": endpoints}
        return {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": load, **more}

    def typed(name, kind, **more):
        return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.{kind}", **more}}

    authz = typed(
        "envoy.filters.http.ext_authz",
        "extensions.filters.http.ext_authz.v3.ExtAuthz",
        transport_api_version="V3",
        failure_mode_allow=allow,
        with_request_body={"max_request_bytes": BODY_MAX, "allow_partial_message": partial},
        grpc_service={
            "timeout": "10s",
            "envoy_grpc": {"cluster_name": "tipstaff"},
            "initial_metadata": [{"key": "authorization", "value": f"Bearer {token}"}],
        },
    )
    router = typed("envoy.filters.http.router", "extensions.filters.http.router.v3.Router")
    route = {"match": {"prefix": "/"}, "route": {"cluster": "behind"}}
    manager = typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        http_filters=[authz, router],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    )
    http2 = {"explicit_http_config": {"http2_protocol_options": {}}}
    kind = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": kind, **http2}}
    listener = {
        "name": "edge",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [manager]}],
    }
    grpc = cluster("tipstaff", grpc, {"typed_extension_protocol_options": options})
    return {"static_resources": {"listeners": [listener], "clusters": [cluster("behind", behind, {}), grpc]}}


@contextlib.contextmanager
def envoy(name, node, behind, token, partial=False, allow=False):
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(envoy_config(node.edge_port, behind, node.grpc_port, token, partial, allow)))
    words = [ENVOY, "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]
    child = start(name, words)
    try:
        until(name, 60, lambda: listens(node.edge_port), child)
        yield
    finally:
        stop(child)


def ask(port, token, body, path="/mcp", method="POST", **headers):
    """A request through Envoy: its status, and what came back."""
    sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    sent |= {"Authorization": f"Bearer {token}"} if token else {}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def call(text, tool="echo", **more):
    params = {"name": tool, "arguments": {"text": text}, **more}
    return json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})


def through(tally, name, node, expected, *request, reaches=False, **how):
    before = len(Recorder.seen)
    status, body = ask(node.edge_port, *request, **how)
    reached = len(Recorder.seen) - before
    wrong = [] if (status, reached) == (expected, int(reaches)) else [f"{status}, reached {reached}: {body[:300]}"]
    tally.check(f"envoy: {name}", wrong)
    return body


def proxied(tally, node):
    behind = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=behind.serve_forever, daemon=True).start()
    pep, token = node.pep("edge", "edge"), pathlib.Path(node.token("edge")).read_text()
    large = "x" * (BODY_MAX - 200)
    larger = "x" * BODY_MAX
    with envoy("envoy", node, behind.server_port, pep):
        through(tally, "a permitted call reaches the server", node, 200, token, call("hello"), reaches=True)
        _, headers, _ = Recorder.seen[-1]
        tally.check("envoy: and not the agent's token", [name for name in ("authorization", "dpop") if name in headers])
        body = through(tally, "a denied call does not", node, 200, token, call("bye"))
        told = json.loads(body)["result"]
        decision = told.get("_meta", {}).get("dev.tipstaff/decision", {})
        wrong = [] if told.get("isError") and decision.get("effect") == "deny" and "record" in decision else [body]
        tally.check("envoy: and is answered like by the gateway", wrong)
        through(tally, "a listing reaches it", node, 200, token, '{"jsonrpc":"2.0","id":7,"method":"tools/list"}', reaches=True)
        through(tally, "nobody does not", node, 401, None, call("hello"))
        through(tally, "nor a token for another service", node, 401, pathlib.Path(node.token("notes")).read_text(), call("hello"))
        through(tally, "nor one to another path", node, 404, token, call("hello"), path="/admin")
        through(tally, "nor one with a query", node, 404, token, call("hello"), path="/mcp?admin=1")
        through(tally, "nor a header against the body", node, 400, token, call("hello"), Mcp_Method="tools/list")
        through(tally, "nor a member twice", node, 400, token, call("hello").replace("{", '{"id":8,', 1))
        through(tally, "nor what is not JSON", node, 400, token, "hello")
        through(tally, "nor a call without a body", node, 403, token, None)
        through(tally, "a large body is seen whole", node, 200, token, call(large), reaches=True)
        through(tally, "an oversized one goes nowhere", node, 413, token, call(larger))
    with envoy("envoy-partial", node, behind.server_port, pep, partial=True):
        through(tally, "with partial bodies, whole ones are let through", node, 200, token, call("hello"), reaches=True)
        through(tally, "and parts are denied", node, 413, token, call(larger))
    with envoy("envoy-open", node, behind.server_port, "tsp_other", allow=True):
        through(tally, "what fails open gets a denial, not an error", node, 403, token, call("hello"))
    return behind, pep, token


def unanswered(tally, node, behind, pep, token):
    with envoy("envoy-down", node, behind.server_port, pep):
        through(tally, "without a node nothing is let through", node, 403, token, call("hello"))


def run(tally):
    node = Node()
    node.up()
    node.enrol()
    url, token = fastmcp(tally, node)
    proxy = proxied(tally, node)
    node.down()
    found = json.loads(node.run("ledger", "verify", "--json", "--data", node.data, config=False))
    wrong = [] if found["verified"] and not found["calls"]["open"] else [json.dumps(found)]
    tally.check("elsewhere: the logs verify, and nothing waits for an outcome", wrong)
    found = json.loads(node.run("ledger", "replay", "--json"))
    others = {kind: number for kind, number in found.items() if kind not in ("same", "responses") and number}
    tally.check("elsewhere: every answer comes out the same again", [] if found["same"] and not others else [json.dumps(found)])
    down(tally, url, token)
    unanswered(tally, node, *proxy)
    liars(tally, token)


if __name__ == "__main__":
    shutil.rmtree(LOGS, ignore_errors=True)
    tally = Tally()
    try:
        run(tally)
    except Exception as error:
        tally.check("elsewhere", [*str(error).splitlines(), *tail("elsewhere")])
    sys.exit(tally.end())
