"""Asks Tipstaff before a FastMCP server does anything, and does nothing that was not permitted.

    mcp.add_middleware(Tipstaff("http://127.0.0.1:7420", token, "notes", "https://notes.acme.example/mcp"))

A tool is called, a resource read, a prompt rendered only after `/access/v1/evaluation` said yes to
these arguments for whoever sent this request. No answer, a late one, one that cannot be read and one
without a decision are all no. Methods that nobody here knows are refused.
"""

import asyncio
import json
import urllib.request

from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_http_headers
from fastmcp.server.middleware import Middleware

# What asks nothing of the server but what it is and has.
FREE = {
    "initialize",
    "server/discover",
    "ping",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
}
DECIDED = {"tools/call", "resources/read", "prompts/get"}
ANSWER_BYTES_MAX = 1 << 20


class Denied(ToolError):
    """Policy said no, in words that the agent may read, or there was no answer."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


# Neither a proxy of the environment nor a redirect gets to see the tokens.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


class Tipstaff(Middleware):
    def __init__(self, url, token, service, endpoint, timeout=5.0):
        """`token` is what `tipstaff pep add` printed, `endpoint` the URL that agents know this server by."""
        self.url = f"{url.rstrip('/')}/access/v1/evaluation"
        self.token, self.service, self.endpoint, self.timeout = token, service, endpoint, timeout

    async def on_request(self, context, call_next):
        if context.method not in FREE | DECIDED:
            raise Denied(f"`{context.method}` is not permitted here.")
        return await call_next(context)

    async def on_call_tool(self, context, call_next):
        tool = f"{self.service}/{context.message.name}"
        await self.require(tool, {"type": "tool", "id": tool}, context.message.arguments or {})
        return await call_next(context)

    async def on_read_resource(self, context, call_next):
        await self.require_method(context.method, {"uri": str(context.message.uri)})
        return await call_next(context)

    async def on_get_prompt(self, context, call_next):
        asked = {"name": context.message.name, "arguments": context.message.arguments or {}}
        await self.require_method(context.method, asked)
        return await call_next(context)

    async def require_method(self, method, args):
        await self.require(f"{self.service}:{method}", {"type": "upstream", "id": self.service}, args)

    async def require(self, action, resource, args):
        """Returns if it is permitted."""
        question = {
            "subject": self.subject(),
            "action": {"name": action},
            "resource": resource,
            "context": {"args": args},
        }
        try:
            answer = await asyncio.to_thread(self.ask, question)
        except Exception as error:  # whatever it is, there is no yes
            raise Denied("Nothing was done: whether it is permitted could not be asked.") from error
        if not isinstance(answer, dict) or answer.get("decision") is not True:
            raise Denied(reason(answer))

    def subject(self):
        """Whoever sent this request, by its token."""
        headers = get_http_headers(include_all=True)
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "dpop") or not token:
            raise Denied("This server needs an access token: `Authorization: Bearer` or `DPoP`.")
        subject = {"type": "access_token", "id": token.strip()}
        if scheme.lower() == "dpop":
            proof = {"proof": headers.get("dpop", ""), "htm": "POST", "htu": self.endpoint}
            subject["properties"] = {"dpop": proof}
        return subject

    def ask(self, question):
        body = json.dumps(question).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url, body, headers, method="POST")
        with _OPENER.open(request, timeout=self.timeout) as answer:
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            return json.loads(answer.read(ANSWER_BYTES_MAX))


def reason(answer):
    """What the agent is told: the reason that policy chose to give, if that is what it is."""
    context = answer.get("context") if isinstance(answer, dict) else None
    context = context if isinstance(context, dict) else {}
    error = context.get("error")
    told = error.get("message") if isinstance(error, dict) else context.get("reason")
    return told if isinstance(told, str) and told else "This is not permitted."
