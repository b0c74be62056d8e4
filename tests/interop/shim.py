"""A reverse proxy that puts a bearer token on every request, for clients that send none.

    shim.py --upstream http://127.0.0.1:PORT --ready FILE -- TOKEN-COMMAND ARG...

The conformance suite tests servers without authentication; this stands before the gateway and adds
what is missing, and nothing else: paths and bodies pass as they are, answers pass unbuffered as they
come, and `Host` and `Origin` are made the gateway's own only where they name this proxy, so that a
scenario which sends a stranger's name still tests the gateway. The token command prints a token
endpoint's response; it is run again when the token has four minutes behind it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import time
from urllib.parse import urlsplit

TOKEN_SECONDS = 240
HEAD_BYTES_MAX = 64 * 1024


class Token:
    def __init__(self, command):
        self.command, self.value, self.got, self.lock = command, None, 0.0, asyncio.Lock()

    async def get(self):
        async with self.lock:
            if self.value is None or time.monotonic() - self.got > TOKEN_SECONDS:
                child = await asyncio.create_subprocess_exec(*self.command, stdout=asyncio.subprocess.PIPE)
                out, _ = await child.communicate()
                if child.returncode != 0:
                    raise RuntimeError(f"the token command failed with {child.returncode}")
                self.value, self.got = json.loads(out)["access_token"], time.monotonic()
            return self.value


class Shim:
    def __init__(self, upstream, token):
        url = urlsplit(upstream)
        self.host, self.port, self.token = url.hostname, url.port, token
        self.own = 0

    async def serve(self, reader, writer):
        """One request a connection: the end of the answer is the end of the connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await self.exchange(reader, writer)
        writer.close()

    async def exchange(self, reader, writer):
        request, headers = await read_head(reader)
        token = await self.token.get()
        ahead, behind = await asyncio.open_connection(self.host, self.port, limit=HEAD_BYTES_MAX)
        try:
            behind.write(head(request, self.changed(headers) + [("Authorization", f"Bearer {token}"), ("Connection", "close")]))
            await pass_body(headers, reader, behind)
            status, answered = await read_head(ahead)
            kept = [(name, value) for name, value in answered if name.lower() not in ("connection", "keep-alive")]
            writer.write(head(status, kept + [("Connection", "close")]))
            # A client that goes away ends the exchange upstream too.
            await first_of(pass_all(ahead, writer), reader.read(1))
        finally:
            behind.close()

    def changed(self, headers):
        """The headers with this proxy's own name made the gateway's."""
        changed = []
        for name, value in headers:
            match name.lower():
                case "host":
                    value = self.renamed(value)
                case "origin" if "://" in value:
                    scheme, _, host = value.partition("://")
                    value = f"{scheme}://{self.renamed(host)}"
                case "connection" | "keep-alive" | "authorization":
                    continue
            changed.append((name, value))
        return changed

    def renamed(self, host):
        name, _, port = host.rpartition(":")
        return f"{name}:{self.port}" if name in ("localhost", "127.0.0.1") and port == str(self.own) else host


async def read_head(reader):
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(":", 1) for line in lines[1:] if line)
    return lines[0], [(name, value.strip()) for name, value in pairs]


def head(first, headers):
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def pass_body(headers, reader, writer):
    """Passes a body on as it is framed: by its length, or in chunks."""
    named = {name.lower(): value for name, value in headers}
    if "chunked" in named.get("transfer-encoding", "").lower():
        size = 1
        while size:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            writer.write(line + await reader.readexactly(size + 2))
    elif length := int(named.get("content-length", 0)):
        writer.write(await reader.readexactly(length))
    await writer.drain()


async def pass_all(reader, writer):
    while part := await reader.read(64 * 1024):
        writer.write(part)
        await writer.drain()


async def first_of(*coroutines):
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run(options):
    shim = Shim(options.upstream, Token(options.command))
    server = await asyncio.start_server(shim.serve, "127.0.0.1", options.port, limit=HEAD_BYTES_MAX)
    shim.own = server.sockets[0].getsockname()[1]
    part = f"{options.ready}.part"
    with open(part, "w", encoding="utf-8") as file:
        json.dump({"url": f"http://localhost:{shim.own}"}, file)
    os.replace(part, options.ready)
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", required=True, help="the gateway's URL, without a path")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ready", required=True, help="where to write the URL once the port is open")
    parser.add_argument("command", nargs="+", help="prints a token endpoint's response")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
