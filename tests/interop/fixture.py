"""An MCP server that has what the conformance suite asks a server under test to have.

The suite names tools, prompts and resources in its scenarios' descriptions and expects them to be
there; this server has them in both eras (2026-07-28 without a session, 2025-11-25 and before with
one), and a few more that the matrix of clients uses.

    fixture.py                          on stdio
    fixture.py --port 0 [--ready FILE]  streamable HTTP on 127.0.0.1/mcp; FILE gets its URL
    --era modern|legacy                 refuses the handshake of the other era
"""

import argparse
import asyncio
import json
import logging
import os
import socket
import warnings

import mcp_types as types
import uvicorn
from mcp.server import CacheHint, NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from mcp.shared.exceptions import MCPDeprecationWarning, MCPError
from mcp.shared.message import ServerMessageMetadata
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

# Logging, sampling and roots are deprecated and will be spoken for years.
warnings.simplefilter("ignore", MCPDeprecationWarning)

# One red pixel, and one silent sample.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQEAAACAAA=="

BUS = InMemorySubscriptionBus()
TOOLS: dict[str, tuple[types.Tool, object]] = {}
NO_ARGUMENTS = {"type": "object", "properties": {}}


def tool(name, description, schema=NO_ARGUMENTS, output=None, annotations=None):
    """Lists the decorated handler as a tool."""

    def add(handler):
        listed = {"name": name, "description": description, "inputSchema": schema}
        if output:
            listed["outputSchema"] = output
        if annotations:
            listed["annotations"] = annotations
        TOOLS[name] = (types.Tool.model_validate(listed), handler)
        return handler

    return add


def strings(**described):
    """A schema of required strings."""
    properties = {name: {"type": "string", "description": text} for name, text in described.items()}
    return {"type": "object", "properties": properties, "required": list(described)}


def content(*blocks, **members):
    return types.CallToolResult.model_validate({"content": list(blocks), **members})


def text(words):
    return {"type": "text", "text": words}


def is_modern(ctx):
    return ctx.protocol_version in MODERN_PROTOCOL_VERSIONS


# Asking the client back. The eras differ: a modern server answers "input required" and is called
# again with the answers; an earlier one sends requests of its own while the call is open.

ELICIT, SAMPLE, ROOTS = "elicitation/create", "sampling/createMessage", "roots/list"
RESULTS = {ELICIT: types.ElicitResult, SAMPLE: types.CreateMessageResult, ROOTS: types.ListRootsResult}
REQUESTS = {ELICIT: types.ElicitRequest, SAMPLE: types.CreateMessageRequest, ROOTS: types.ListRootsRequest}


def form(message, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ELICIT, {"mode": "form", "message": message, "requestedSchema": schema}


def prompt_model(words, max_tokens):
    message = {"role": "user", "content": text(words)}
    return SAMPLE, {"messages": [message], "maxTokens": max_tokens}


def request_of(method, params):
    return REQUESTS[method].model_validate({"method": method, "params": params})


async def ask(ctx, params, state=None, **questions):
    """The client's answers by name, or the result that asks for them."""
    if not is_modern(ctx):
        return {name: await send(ctx, *question) for name, question in questions.items()}
    answers = params.input_responses or {}
    if answers.keys() >= questions.keys():
        return answers
    wanted = {name: request_of(*question) for name, question in questions.items()}
    return types.InputRequiredResult(input_requests=wanted, request_state=state)


async def send(ctx, method, params):
    related = ServerMessageMetadata(related_request_id=ctx.request_id)
    return await ctx.session.send_request(request_of(method, params), RESULTS[method], metadata=related)


def capable(ctx, name):
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and getattr(capabilities, name, None) is not None


def require(ctx, name):
    """Refuses a client that did not say that it can do `name`, as 2026-07-28 wants it refused."""
    if not capable(ctx, name):
        raise MCPError(
            types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            f"this tool needs the client's `{name}` capability",
            {"requiredCapabilities": {name: {}}},
        )


# Tools that return each kind of content.


@tool("test_simple_text", "Returns a simple text")
async def simple_text(ctx, params):
    return content(text("This is a simple text response for testing."))


@tool("test_image_content", "Returns an image")
async def image(ctx, params):
    return content({"type": "image", "data": PNG, "mimeType": "image/png"})


@tool("test_audio_content", "Returns a sound")
async def audio(ctx, params):
    return content({"type": "audio", "data": WAV, "mimeType": "audio/wav"})


@tool("test_embedded_resource", "Returns a resource inside the result")
async def embedded(ctx, params):
    resource = {
        "uri": "test://embedded-resource",
        "mimeType": "text/plain",
        "text": "This is an embedded resource content.",
    }
    return content({"type": "resource", "resource": resource})


@tool("test_multiple_content_types", "Returns text, an image and a resource")
async def mixed(ctx, params):
    resource = {
        "uri": "test://mixed-content-resource",
        "mimeType": "application/json",
        "text": json.dumps({"test": "data", "value": 123}),
    }
    return content(
        text("Multiple content types test:"),
        {"type": "image", "data": PNG, "mimeType": "image/png"},
        {"type": "resource", "resource": resource},
    )


@tool("test_error_handling", "Always fails")
async def fails(ctx, params):
    return content(text("This tool intentionally returns an error for testing"), isError=True)


@tool(
    "test_structured_sum",
    "Adds two integers and returns the sum as structured content",
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    output={"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]},
    annotations={"readOnlyHint": True, "idempotentHint": True},
)
async def structured(ctx, params):
    total = {"sum": params.arguments["a"] + params.arguments["b"]}
    return content(text(json.dumps(total)), structuredContent=total)


@tool(
    "test_echo_arguments",
    "Returns its arguments as they arrived",
    {
        "type": "object",
        "properties": {"text": {"type": "string"}, "number": {"type": "number"}, "nested": {"type": "object"}},
        "additionalProperties": True,
    },
)
async def echo(ctx, params):
    return content(text(json.dumps(params.arguments or {}, sort_keys=True, ensure_ascii=False)))


@tool(
    "json_schema_2020_12_tool",
    "Has the keywords of JSON Schema 2020-12 in its schema",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
            }
        },
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
)
async def schema_2020_12(ctx, params):
    return content(text("ok"))


@tool(
    "test_mirrored_header",
    "Has an argument that clients repeat in a header",
    {
        "type": "object",
        "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
        "required": ["region"],
    },
)
async def mirrored(ctx, params):
    return content(text(f"region: {params.arguments['region']}"))


# Tools that say something while they run.


async def log(ctx, words):
    await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)


@tool("test_tool_with_logging", "Logs three lines while it runs")
async def logs(ctx, params):
    for words in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await log(ctx, words)
        await asyncio.sleep(0.05)
    return content(text("Tool with logging executed"))


@tool("test_logging_tool", "Logs one line")
async def logs_once(ctx, params):
    await log(ctx, "One line")
    return content(text("Logged"))


@tool("test_tool_with_progress", "Reports progress three times")
async def progress(ctx, params):
    for done in (0, 50, 100):
        await ctx.session.report_progress(done, 100, f"{done} of 100")
        await asyncio.sleep(0.05)
    return content(text("Tool with progress executed"))


@tool("test_reconnection", "Closes its stream before it answers, so that the client has to come back")
async def reconnection(ctx, params):
    if ctx.close_sse_stream is not None:
        await ctx.close_sse_stream()
    await asyncio.sleep(0.1)
    return content(text("Reconnection test completed"))


@tool("test_trigger_tool_change", "Says that the list of tools changed")
async def tools_changed(ctx, params):
    await BUS.publish(ToolsListChanged())
    return content(text("Said so"))


@tool("test_trigger_prompt_change", "Says that the list of prompts changed")
async def prompts_changed(ctx, params):
    await BUS.publish(PromptsListChanged())
    return content(text("Said so"))


@tool("test_wait", "Says that it runs and waits to be cancelled, for ten seconds at most")
async def wait(ctx, params):
    await ctx.session.report_progress(0, 1)
    await asyncio.sleep(10)
    return content(text("Waited"))


# Tools that ask the client for something.


@tool("test_sampling", "Asks the client's model", strings(prompt="What to ask the model"))
async def sampling(ctx, params):
    answers = await ask(ctx, params, answer=prompt_model(params.arguments["prompt"], 100))
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return content(text(f"LLM response: {answers['answer'].content.text}"))


def told(prefix, answer):
    given = json.dumps(answer.content, sort_keys=True) if answer.content is not None else "{}"
    return content(text(f"{prefix}: action={answer.action}, content={given}"))


@tool("test_elicitation", "Asks the user for a name and an address", strings(message="What to say to the user"))
async def elicitation(ctx, params):
    question = form(
        params.arguments["message"],
        username={"type": "string", "description": "User's response"},
        email={"type": "string", "description": "User's email address"},
    )
    answers = await ask(ctx, params, user=question)
    return answers if isinstance(answers, types.InputRequiredResult) else told("User response", answers["user"])


@tool("test_elicitation_sep1034_defaults", "Asks with a default for every primitive type")
async def defaults(ctx, params):
    question = form(
        "Please review these defaults",
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    answers = await ask(ctx, params, user=question)
    return answers if isinstance(answers, types.InputRequiredResult) else told("Elicitation completed", answers["user"])


def titled(*pairs):
    return [{"const": value, "title": title} for value, title in pairs]


@tool("test_elicitation_sep1330_enums", "Asks with every kind of enumeration")
async def enums(ctx, params):
    options = ["option1", "option2", "option3"]
    question = form(
        "Please choose",
        untitledSingle={"type": "string", "enum": options},
        titledSingle={
            "type": "string",
            "oneOf": titled(("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option")),
        },
        legacyEnum={
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
        titledMulti={
            "type": "array",
            "items": {
                "anyOf": titled(("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice"))
            },
        },
    )
    answers = await ask(ctx, params, user=question)
    return answers if isinstance(answers, types.InputRequiredResult) else told("Elicitation completed", answers["user"])


@tool("test_missing_capability", "Needs a client that lends its model")
async def missing_capability(ctx, params):
    require(ctx, "sampling")
    return content(text("The client lends its model"))


@tool("test_streaming_elicitation", "Reports progress, then asks")
async def streaming_elicitation(ctx, params):
    require(ctx, "elicitation")
    await ctx.session.report_progress(1, 2)
    answers = await ask(ctx, params, user=form("Go on?", ok={"type": "boolean"}))
    return answers if isinstance(answers, types.InputRequiredResult) else told("Went on", answers["user"])


NAME = form("What is your name?", name={"type": "string"})
CONFIRM = form("Please confirm", ok={"type": "boolean"})


@tool("test_input_required_result_elicitation", "Asks for a name and greets")
async def asks_name(ctx, params):
    answers = await ask(ctx, params, user_name=NAME)
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return content(text(f"Hello, {(answers['user_name'].content or {}).get('name')}!"))


@tool("test_input_required_result_sampling", "Asks the client's model for a capital")
async def asks_model(ctx, params):
    answers = await ask(ctx, params, capital_question=prompt_model("What is the capital of France?", 100))
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return content(text(answers["capital_question"].content.text))


@tool("test_input_required_result_list_roots", "Asks for the client's roots")
async def asks_roots(ctx, params):
    answers = await ask(ctx, params, client_roots=(ROOTS, {}))
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return content(text("Roots: " + ", ".join(str(root.uri) for root in answers["client_roots"].roots)))


@tool("test_input_required_result_request_state", "Asks and wants its state back")
async def asks_with_state(ctx, params):
    answers = await ask(ctx, params, state="asked-once", confirm=CONFIRM)
    if isinstance(answers, types.InputRequiredResult):
        return answers
    known = not is_modern(ctx) or params.request_state == "asked-once"
    return content(text("state-ok" if known else "state unknown"), isError=not known)


@tool("test_input_required_result_tampered_state", "Refuses a state that it did not give")
async def tampered_state(ctx, params):
    return await asks_with_state(ctx, params)


@tool("test_input_required_result_multiple_inputs", "Asks for three things at once")
async def asks_three(ctx, params):
    answers = await ask(
        ctx,
        params,
        state="asked-three",
        user_name=NAME,
        greeting=prompt_model("Generate a greeting", 50),
        client_roots=(ROOTS, {}),
    )
    if isinstance(answers, types.InputRequiredResult):
        return answers
    return content(text(f"Got {', '.join(sorted(answers))}"))


@tool("test_input_required_result_multi_round", "Asks twice, one after the other")
async def asks_twice(ctx, params):
    if not is_modern(ctx) or params.request_state is None:
        first = await ask(ctx, params, state="round-1", step1=form("Step 1: What is your name?", name={"type": "string"}))
        if isinstance(first, types.InputRequiredResult):
            return first
    color = form("Step 2: What is your favorite color?", color={"type": "string"})
    second = await ask(ctx, params, state="round-2", step2=color)
    return second if isinstance(second, types.InputRequiredResult) else content(text("Both steps done"))


@tool("test_input_required_result_capabilities", "Asks only for what the client can give")
async def asks_possible(ctx, params):
    possible = {}
    if capable(ctx, "sampling"):
        possible["greeting"] = prompt_model("Generate a greeting", 50)
    if capable(ctx, "elicitation"):
        possible["user_name"] = NAME
    if not possible:
        return content(text("The client can be asked for nothing"))
    answers = await ask(ctx, params, **possible)
    return answers if isinstance(answers, types.InputRequiredResult) else content(text(f"Got {', '.join(sorted(answers))}"))


# Prompts.


def argument(name, description):
    return types.PromptArgument(name=name, description=description, required=True)


PROMPTS = [
    types.Prompt(name="test_simple_prompt", description="A simple prompt without arguments"),
    types.Prompt(
        name="test_prompt_with_arguments",
        description="A prompt with two arguments",
        arguments=[argument("arg1", "First test argument"), argument("arg2", "Second test argument")],
    ),
    types.Prompt(
        name="test_prompt_with_embedded_resource",
        description="A prompt with a resource inside",
        arguments=[argument("resourceUri", "URI of the resource to embed")],
    ),
    types.Prompt(name="test_prompt_with_image", description="A prompt with an image"),
    types.Prompt(name="test_input_required_result_prompt", description="A prompt that asks for its context"),
]


def messages(*blocks):
    said = [{"role": "user", "content": block} for block in blocks]
    return types.GetPromptResult.model_validate({"messages": said})


async def get_prompt(ctx, params):
    given = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            return messages(text("This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            words = f"Prompt with arguments: arg1='{given.get('arg1')}', arg2='{given.get('arg2')}'"
            return messages(text(words))
        case "test_prompt_with_embedded_resource":
            resource = {
                "uri": given.get("resourceUri"),
                "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            }
            return messages(
                {"type": "resource", "resource": resource}, text("Please process the embedded resource above.")
            )
        case "test_prompt_with_image":
            picture = {"type": "image", "data": PNG, "mimeType": "image/png"}
            return messages(picture, text("Please analyze the image above."))
        case "test_input_required_result_prompt":
            question = form("What context should the prompt use?", context={"type": "string"})
            answers = await ask(ctx, params, user_context=question)
            if isinstance(answers, types.InputRequiredResult):
                return answers
            return messages(text(f"Use this context: {(answers['user_context'].content or {}).get('context')}"))
    raise MCPError(types.INVALID_PARAMS, "Unknown prompt", {"name": params.name})


async def list_prompts(ctx, params):
    return types.ListPromptsResult(prompts=PROMPTS)


async def complete(ctx, params):
    known = ["paris", "park", "party"]
    values = [word for word in known if word.startswith(params.argument.value)]
    return types.CompleteResult(completion=types.Completion(values=values, total=len(values), has_more=False))


# Resources.

STATIC = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Watch me."},
    "test://example-resource": {"mimeType": "text/plain", "text": "An example."},
}


async def list_resources(ctx, params):
    listed = [
        {"uri": uri, "name": uri.removeprefix("test://"), "description": f"The fixture at {uri}", "mimeType": kept["mimeType"]}
        for uri, kept in STATIC.items()
    ]
    return types.ListResourcesResult.model_validate({"resources": listed})


async def list_templates(ctx, params):
    template = {
        "uriTemplate": "test://template/{id}/data",
        "name": "template",
        "description": "Data by its id",
        "mimeType": "application/json",
    }
    return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": [template]})


async def read_resource(ctx, params):
    uri = str(params.uri)
    kept = STATIC.get(uri)
    inside = uri.removeprefix("test://template/").removesuffix("/data")
    if kept is None and uri == f"test://template/{inside}/data" and "/" not in inside:
        data = {"id": inside, "templateTest": True, "data": f"Data for ID: {inside}"}
        kept = {"mimeType": "application/json", "text": json.dumps(data)}
    if kept is None:
        raise MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
    return types.ReadResourceResult.model_validate({"contents": [{"uri": uri, **kept}]})


async def accept(ctx, params):
    return types.EmptyResult()


# The server.


async def list_tools(ctx, params):
    return types.ListToolsResult(tools=[listed for listed, _ in TOOLS.values()])


async def call_tool(ctx, params):
    if params.name not in TOOLS:
        raise MCPError(types.INVALID_PARAMS, "Unknown tool", {"name": params.name})
    return await TOOLS[params.name][1](ctx, params)


def input_schema(name):
    return TOOLS[name][0].input_schema if name in TOOLS else None


def refuse_other_era(era):
    """Makes the server one of a single era: what belongs to the other is unknown to it."""

    async def middleware(ctx, call_next):
        # A server of the earlier era knows no `server/discover`; one of the later, no `initialize`.
        is_other = ctx.method == "initialize" if era == "modern" else is_modern(ctx)
        if is_other and ctx.request_id is not None:
            raise MCPError(types.METHOD_NOT_FOUND, f"Method not found: {ctx.method}")
        return await call_next(ctx)

    return middleware


def make_server(era):
    every_list = CacheHint(ttl_ms=5000, scope="private")
    cached = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")
    server = Server(
        "tipstaff-fixture",
        version="1.0.0",
        instructions="A server to test gateways against.",
        cache_hints={method: every_list for method in cached},
        get_tool_input_schema=input_schema,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=accept,
        on_unsubscribe_resource=accept,
        on_set_logging_level=accept,
        on_subscriptions_listen=ListenHandler(BUS),
    )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity.ephemeral(), default_audience=server.name))
    if era != "both":
        server.middleware.append(refuse_other_era(era))
    return server


class Events(EventStore):
    """Every event of every stream, so that a client that lost its stream can ask for the rest."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        seen = int(last_event_id)
        stream = self.events[seen - 1][0]
        for number, (stream_id, message) in enumerate(self.events[seen:], start=seen + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def serve_http(server, port, ready):
    app = server.streamable_http_app(event_store=Events(), retry_interval=100)
    listener = socket.create_server(("127.0.0.1", port))
    if ready:
        part = f"{ready}.part"
        with open(part, "w", encoding="utf-8") as file:
            json.dump({"url": f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"}, file)
        os.replace(part, ready)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).run(sockets=[listener])


async def serve_stdio(server):
    options = server.create_initialization_options(NotificationOptions())
    async with stdio_server() as (reader, writer):
        await server.run(reader, writer, options)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, help="streamable HTTP on this port; 0 takes a free one")
    parser.add_argument("--ready", help="where to write the URL once the port is open")
    parser.add_argument("--era", choices=["both", "modern", "legacy"], default="both")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    server = make_server(options.era)
    if options.port is None:
        asyncio.run(serve_stdio(server))
    else:
        serve_http(server, options.port, options.ready)


if __name__ == "__main__":
    main()
