"""A FastMCP server that does nothing that Tipstaff did not permit.

    python server.py --actions > notes.actions.json     what it can do, for [service.notes]
    TIPSTAFF_TOKEN=tsp_… python server.py --node http://127.0.0.1:7420 --port 8000
"""

import argparse
import asyncio
import json
import os
import pathlib
import socket

import uvicorn
from fastmcp import FastMCP
from tipstaff import Tipstaff

mcp = FastMCP("notes")
NOTES: dict[str, str] = {"welcome": "Hello."}


@mcp.tool
def add_note(title: str, text: str) -> str:
    """Keeps a note."""
    NOTES[title] = text
    return f"Kept. There are {len(NOTES)} notes."


@mcp.tool
def read_note(title: str) -> str:
    """Reads a note."""
    return NOTES[title]


@mcp.resource("notes://{title}")
def note(title: str) -> str:
    """A note."""
    return NOTES[title]


async def actions():
    tools = await mcp.list_tools()
    return [{"name": tool.name, "inputSchema": tool.parameters} for tool in tools]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actions", action="store_true", help="print what the server can do, and end")
    parser.add_argument("--node", default="http://127.0.0.1:7420", help="where Tipstaff answers")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--ready", type=pathlib.Path, help="where to write the URL once the port is open")
    options = parser.parse_args()
    if options.actions:
        print(json.dumps(asyncio.run(actions()), indent=2))
        return
    listener = socket.create_server(("127.0.0.1", options.port))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    mcp.add_middleware(Tipstaff(options.node, os.environ["TIPSTAFF_TOKEN"], "notes", url))
    if options.ready:
        options.ready.write_text(json.dumps({"url": url}))
    app = mcp.http_app(stateless_http=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).run(sockets=[listener])


if __name__ == "__main__":
    main()
