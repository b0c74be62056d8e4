"""The Python SDK's client, driven through a list of operations, printing what came back as JSON.

    matrix.py --era 2025-11-25|2026-07-28 --operations NAME [--token FILE] (--url URL | -- COMMAND ARG...)

What is printed is taken from below the SDK, as the messages stood, so that a member that a gateway
lost shows, whether the SDK reads it or not. `matrix.ts` does the same with the TypeScript SDK.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import sys
import warnings

import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPDeprecationWarning

warnings.simplefilter("ignore", MCPDeprecationWarning)

OPERATIONS = pathlib.Path(__file__).with_name("operations.json")
MODERN = "2026-07-28"


class Tap:
    """Passes a stream on and shows each message to `seen`."""

    def __init__(self, stream, seen):
        self.stream, self.seen = stream, seen

    async def send(self, item):
        self.seen(item)
        await self.stream.send(item)

    async def receive(self):
        item = await self.stream.receive()
        self.seen(item)
        return item

    def __aiter__(self):
        return self

    async def __anext__(self):
        item = await self.stream.__anext__()
        self.seen(item)
        return item

    async def __aenter__(self):
        await self.stream.__aenter__()
        return self

    async def __aexit__(self, *exception):
        return await self.stream.__aexit__(*exception)

    def __getattr__(self, name):
        return getattr(self.stream, name)


class Tape:
    """What came in since it was last cut, each with the request that it answers."""

    def __init__(self):
        self.asked, self.came = {}, []

    def sent(self, item):
        message = item.message
        if isinstance(message, types.JSONRPCRequest):
            self.asked[message.id] = message.method

    def received(self, item):
        if isinstance(item, Exception):
            self.came.append({"broken": str(item)})
            return
        message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        if "method" in message:
            kind = "request" if "id" in message else "notification"
            self.came.append({kind: message["method"], "params": message.get("params")})
        else:
            answer = {key: message[key] for key in ("result", "error") if key in message}
            self.came.append({"answers": self.asked.get(message.get("id")), **answer})

    def cut(self):
        came, self.came = self.came, []
        return came


@contextlib.asynccontextmanager
async def taped(transport, tape):
    async with transport as (reader, writer):
        yield Tap(reader, tape.received), Tap(writer, tape.sent)


async def elicit(context, params):
    return types.ElicitResult(action="accept", content={"name": "Ada", "username": "ada", "email": "ada@example.org"})


async def sample(context, params):
    words = types.TextContent(type="text", text="A sampled answer")
    return types.CreateMessageResult(role="assistant", content=words, model="none", stop_reason="endTurn")


def roots_of(listed):
    async def roots(context):
        return types.ListRootsResult.model_validate({"roots": listed})

    return roots


async def progress(done, total, message):
    """Asking for progress is what matters; what comes is on the tape."""


async def do(client, op):
    match op["op"]:
        case "tools/list":
            await client.list_tools(cache_mode="bypass")
        case "resources/list":
            await client.list_resources(cache_mode="bypass")
        case "resources/templates/list":
            await client.list_resource_templates(cache_mode="bypass")
        case "prompts/list":
            await client.list_prompts(cache_mode="bypass")
        case "tools/call":
            callback = progress if op.get("progress") else None
            await client.call_tool(op["name"], op.get("arguments"), progress_callback=callback)
        case "resources/read":
            await client.read_resource(op["uri"], cache_mode="bypass")
        case "prompts/get":
            await client.get_prompt(op["name"], op.get("arguments"))
        case "completion/complete":
            reference = types.PromptReference if op["ref"]["type"] == "ref/prompt" else types.ResourceTemplateReference
            await client.complete(reference.model_validate(op["ref"]), op["argument"])
        case "ping":
            await client.send_ping()
        case "logging/setLevel":
            await client.set_logging_level(op["level"])
        case "cancel":
            await cancel(client, op)
        case "together":
            await asyncio.gather(*(do(client, one) for one in op["operations"]))
        case unknown:
            raise ValueError(f"no operation `{unknown}`")


async def cancel(client, op):
    """Starts a call, gives it up as soon as it has said that it runs, and goes on."""
    running = asyncio.Event()

    async def started(done, total, message):
        running.set()

    call = asyncio.create_task(client.call_tool(op["name"], op.get("arguments"), progress_callback=started))
    await running.wait()
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call


def fill(value, variables):
    """Puts the run's own paths into an operation."""
    if isinstance(value, str):
        for name, text in variables.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, dict):
        return {key: fill(inner, variables) for key, inner in value.items()}
    return [fill(inner, variables) for inner in value] if isinstance(value, list) else value


async def run(options, script):
    tape = Tape()
    modern = options.era == MODERN
    async with contextlib.AsyncExitStack() as stack:
        if options.url:
            token = pathlib.Path(options.token).read_text().strip() if options.token else None
            headers = {"Authorization": f"Bearer {token}"} if token else None
            http = await stack.enter_async_context(create_mcp_http_client(headers=headers))
            transport = streamable_http_client(options.url, http_client=http)
        else:
            command, *arguments = options.command
            transport = stdio_client(StdioServerParameters(command=command, args=arguments), errlog=sys.stderr)
        # Between eras a client cannot be asked anything, so it does not offer to be.
        roots = None if options.crossing else script.get("roots")
        client = Client(
            taped(transport, tape),
            mode="auto" if modern else "legacy",
            read_timeout_seconds=30,
            elicitation_callback=None if options.crossing else elicit,
            sampling_callback=None if options.crossing else sample,
            list_roots_callback=roots_of(roots) if roots else None,
            log_level="info" if modern else None,
            client_info=types.Implementation(name="tipstaff-interop", version="1"),
        )
        await stack.enter_async_context(client)
        print(json.dumps({"op": "connect", "spoken": client.protocol_version, "came": tape.cut()}))
        for op in script["operations"]:
            outcome = "done"
            try:
                async with asyncio.timeout(30):
                    await do(client, op)
            except Exception as error:  # whatever the SDK makes of it is the result
                outcome = f"{type(error).__name__}: {error}"
            print(json.dumps({"op": op.get("label", op["op"]), "outcome": outcome, "came": tape.cut()}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--era", choices=["2025-11-25", MODERN], required=True)
    parser.add_argument("--operations", required=True, help="a name in operations.json")
    parser.add_argument("--crossing", action="store_true", help="leave out what does not pass between eras")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=TEXT", help="what {NAME} stands for")
    parser.add_argument("--url")
    parser.add_argument("--token", help="a file with the bearer token")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    variables = dict(pair.split("=", 1) for pair in options.set)
    script = fill(json.loads(OPERATIONS.read_text())[options.operations], variables)
    script["operations"] = [
        op
        for op in script["operations"]
        if op.get("era", options.era) == options.era and not (options.crossing and op.get("within"))
    ]
    asyncio.run(run(options, script))


if __name__ == "__main__":
    main()
