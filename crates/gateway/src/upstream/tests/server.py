"""An MCP server on stdio that does what the tests ask of it. Usage: server.py ERA."""
import json
import os
import sys

ERA = sys.argv[1]
INFO = {"name": "fixture", "version": "1"}
MODERN = ("modern", "endless", "many", "long")
TOOLS = [{"name": "a", "inputSchema": {"type": "object"}, "odd": 12345678901234567890123},
         {"name": "b", "inputSchema": {"type": "object"}}]
initialized = False
asked = None
askable, waiting, refused = {}, None, False


def say(message):
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def result(id, value):
    say({"jsonrpc": "2.0", "id": id, "result": value})


def attempt(what):
    try:
        return what()
    except OSError as error:
        return error.__class__.__name__


def call(id, params):
    global asked
    name, arguments = params["name"], params.get("arguments", {})
    path = arguments.get("path")
    if name == "echo":
        result(id, arguments)
    elif name == "progress":
        token = params["_meta"]["progressToken"]
        for step in range(3):
            say({"jsonrpc": "2.0", "method": "notifications/progress",
                 "params": {"progressToken": token, "progress": step}})
        result(id, {})
    elif name == "die":
        sys.stderr.write("last words\n")
        sys.stderr.flush()
        os._exit(3)
    elif name == "hang":
        pass
    elif name == "giant":
        sys.stdout.write('{"jsonrpc":"2.0","id":"x","result":"')
        for _ in range(33):
            sys.stdout.write("x" * 1024 * 1024)
        sys.stdout.write('"}\n')
        sys.stdout.flush()
        result(id, {})
    elif name == "flood":
        for _ in range(64):
            sys.stderr.write("y" * 65536)
        sys.stderr.write("\ntoken is " + os.environ.get("TOKEN", "") + "\n")
        sys.stderr.flush()
        result(id, {})
    elif name == "noise":
        print("Server ready.\n\n[1,2]\n{\"id\":")
        sys.stdout.flush()
        result(id, {})
    elif name == "ask":
        asked = id
        say({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": {}})
    elif name == "askable":
        result(id, askable)
    elif name == "environment":
        result(id, dict(os.environ))
    elif name == "pid":
        result(id, os.getpid())
    elif name == "read":
        result(id, attempt(lambda: open(path).read()))
    elif name == "write":
        result(id, attempt(lambda: open(path, "w").write("changed")))
    elif name == "list":
        result(id, attempt(lambda: sorted(os.listdir(path))))
    elif name == "remove":
        result(id, attempt(lambda: os.remove(path)))
    elif name == "truncate":
        result(id, attempt(lambda: os.truncate(path, 0)))
    elif name == "kill":
        result(id, attempt(lambda: os.kill(arguments["pid"], 0)))


for line in sys.stdin:
    message = json.loads(line)
    id, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if method == "initialize":
        if ERA == "late":
            result(pending, {"supportedVersions": ["2026-07-28"], "capabilities": {}})
        if ERA in ("modern", "late"):
            say({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}})
            continue
        initialized = True
        askable = params["capabilities"]
        result(id, {"protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {"listChanged": ERA == "curious"}}, "serverInfo": INFO})
    elif ERA in MODERN and method == "server/discover":
        assert params["_meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
        result(id, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                    "_meta": {"io.modelcontextprotocol/serverInfo": INFO}})
    elif ERA == "picky" and method == "server/discover":
        say({"jsonrpc": "2.0", "id": id, "error": {
            "code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}}})
    elif ERA == "future" and method == "server/discover":
        say({"jsonrpc": "2.0", "id": id, "error": {
            "code": -32022, "message": "no", "data": {"supported": ["2031-01-01"]}}})
    elif ERA == "late" and method == "server/discover":
        pending = id
    elif ERA == "brittle" and not initialized:
        sys.exit(1)
    elif ERA in ("legacy", "brittle") and not initialized:
        say({"jsonrpc": "2.0", "id": id, "error": {"code": -32600, "message": "first initialize"}})
    elif ERA == "silent" and not initialized:
        pass
    elif ERA == "curious" and method == "notifications/initialized":
        say({"jsonrpc": "2.0", "id": 1, "method": "roots/list"})
    elif ERA == "curious" and (method == "tools/list" or "error" in message):
        # It has a tool for each thing that it may ask, once it was told that it has no roots.
        waiting, refused = id if method else waiting, refused or "error" in message
        if refused and waiting is not None:
            result(waiting, {"tools": [{"name": name} for name in sorted(askable)]})
    elif method == "tools/list":
        if ERA == "endless":
            result(id, {"tools": [], "nextCursor": "more"})
        elif ERA == "many":
            result(id, {"tools": [{"name": "t"}] * 2001})
        elif ERA == "long":
            result(id, {"tools": [{"name": "x" * 2000000}] * 3})
        elif "cursor" in params:
            result(id, {"tools": TOOLS[1:]})
        else:
            result(id, {"tools": TOOLS[:1], "nextCursor": "more"})
    elif method == "tools/call":
        call(id, params)
    elif method == "notifications/cancelled":
        say({"jsonrpc": "2.0", "method": "notifications/message",
             "params": {"data": params["requestId"]}})
    elif method is None and asked is not None:
        result(asked, message["result"])
    elif method is not None and id is not None:
        say({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no"}})
