"""People sign in, with parts of others: oidc-provider is the company's provider, Chromium the browser,
the Python SDK and the TypeScript SDK the clients that want a code, and PyJWT and Authlib read what it is given.

It needs a debug build of `tipstaff`, and Debian's chromium and chromium-driver. The last line is the count.
"""

import asyncio
import contextlib
import http.server
import json
import logging
import os
import queue
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
import warnings

import jwt
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import AuthorizationCodeResult, OAuthClientMetadata
from rig import FOLDER, HERE, LOGS, NODE, PYTHON, Gateway, Tally, free_port, start, start_ready, tail, until

UPSTREAM, TOOL = "fixture", "test_simple_text"
AGENT, PURPOSE, SUBJECT = "helper", "triage", "00u1-maya"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Nothing beyond this machine: the provider's pages name a font elsewhere. One name leads here that is not ours.
    "--host-resolver-rules=MAP rebound.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
MODERN = "2026-07-28"
APPROVER = "00u1-noor"
UNKNOWN, ACCEPTED = "You are not known here", "Accepted"
ASKED, REFUSED = "May this call be made?", "This is not for you to approve"
# Where programs for Node find their packages.
PEERS = {**os.environ, "INTEROP_NODE": str(FOLDER / "node"), "NODE_NO_WARNINGS": "1"}
# How WebDriver marks an element.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Drivers:
    """chromedriver, which starts browsers: each with a profile of its own."""

    def __init__(self):
        if not CHROMIUM or not DRIVER:
            raise RuntimeError("chromium and chromedriver are missing: Debian's chromium and chromium-driver")
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        child = start("chromedriver", [DRIVER, f"--port={port}"])
        until("chromedriver", 20, self.ready, child)

    def ready(self):
        with contextlib.suppress(OSError):
            return self.ask("GET", "/status")["ready"]

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"].splitlines()[0]) from None

    @contextlib.contextmanager
    def browser(self, name):
        profile = FOLDER / "browsers" / name
        shutil.rmtree(profile, ignore_errors=True)
        profile.mkdir(parents=True)
        options = {"binary": CHROMIUM, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "timeouts": {"implicit": 10_000}}
        session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        try:
            yield Browser(self, f"/session/{session}")
        finally:
            self.ask("DELETE", f"/session/{session}")
            shutil.rmtree(profile, ignore_errors=True)


class Browser:
    """A person's browser: what they see of it, and what they do in it."""

    def __init__(self, drivers, session):
        self.ask = lambda method, path, body=None: drivers.ask(method, session + path, body)

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def find(self, css):
        found = self.ask("POST", "/element", {"using": "css selector", "value": css})
        return f"/element/{found[ELEMENT]}"

    def click(self, css):
        self.ask("POST", f"{self.find(css)}/click", {})

    def type(self, css, text):
        self.ask("POST", f"{self.find(css)}/value", {"text": text})

    def text(self, css="body"):
        return self.ask("GET", f"{self.find(css)}/text")

    def heading(self, wanted):
        """The page's heading, once it is the wanted one or did not become it."""

        def there():
            # A page that is being left has no elements any more.
            with contextlib.suppress(RuntimeError):
                return wanted in self.text("h1")

        with contextlib.suppress(RuntimeError):
            until("the page", 10, there)
        return self.text("h1")

    def press(self, name):
        """Clicks what bears this name, whatever it is."""
        xpath = f'(//*[not(self::script) and normalize-space(text())="{name}"])[1]'
        found = self.ask("POST", "/element", {"using": "xpath", "value": xpath})
        self.ask("POST", f"/element/{found[ELEMENT]}/click", {})

    def style(self, css, name):
        return self.ask("GET", f"{self.find(css)}/css/{name}")

    @property
    def url(self):
        return self.ask("GET", "/url")

    def sign_in(self, provider, subject):
        """At the provider's own pages: who they are, and that the node may know it."""
        self.type('input[name="login"]', subject)
        if not self.url.startswith(provider):
            raise RuntimeError(f"signing in at {self.url}, not at the provider")
        self.type('input[name="password"]', "any")
        self.click("button.login-submit")
        self.click('form:has(input[name="prompt"][value="consent"]) button.login-submit')


class Company(Gateway):
    """A node before the fixture server, whose people sign in at a provider."""

    def __init__(self, name="people", login="", tables=""):
        """`login` is what `[login]` says beside who the provider is; `tables` is what follows it."""
        super().__init__(name, {UPSTREAM: f"command = {json.dumps([PYTHON, str(HERE / 'fixture.py')])}"})
        self.port, port = free_port(), free_port()
        callback = f"http://127.0.0.1:{self.port}/login/callback"
        words = [NODE, HERE / "provider.mjs", port, callback, "{ready}"]
        _, self.provider = start_ready(f"provider-{name}", words, env=PEERS)
        with self.config.open("a", encoding="utf-8") as config:
            config.write(
                # What keys that are made later sign with: the first two are made already.
                '\n[tokens]\nalgorithm = "ES256"\n'
                f'\n[login]\nissuer = "{self.provider}"\nclient_id = "tipstaff"\nclient_secret = "plain:s3cret/+"\n'
                f"{login}\n{tables}\n"
            )

    def enrol(self):
        self.run("sponsor", "add", "maya", "--name", "Maya Interop", "--email", "maya@example.org")
        self.run("sponsor", "link", "maya", "--external-id", SUBJECT)
        self.run("sponsor", "add", "noor", "--name", "Noor Interop", "--email", "noor@example.org")
        self.run("sponsor", "link", "noor", "--external-id", APPROVER)
        words = ["--sponsor", "maya", "--purpose", "help", "--purpose", PURPOSE, "--people", "everyone", "--allow-bearer"]
        self.run("agent", "add", AGENT, *words)

    def show(self, *words):
        return json.loads(self.run(*words, "--json"))

    def exported(self, log, kind):
        lines = self.run("ledger", "export", "--log", log, "--data", self.data).splitlines()
        entries = [json.loads(line) for line in lines]
        return [entry["entry"]["body"] for entry in entries if entry["kind"] == kind]


# The client.


class Kept:
    """What the SDK keeps of a client and its tokens."""

    client = tokens = None

    async def get_tokens(self):
        return self.tokens

    async def set_tokens(self, tokens):
        self.tokens = tokens

    async def get_client_info(self):
        return self.client

    async def set_client_info(self, client):
        self.client = client


class Listener:
    """Where a client on this machine waits for its person to come back."""

    def __init__(self):
        returned = self.returned = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                if url.path == "/callback":
                    returned.put(dict(urllib.parse.parse_qsl(url.query)))
                self.send_response(200 if url.path == "/callback" else 404)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(b"<p id=back>Back at the program.</p>")

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}/callback"


def called(url, kept, listener, drive):
    """The SDK's own way to a token, and what a tool then says. `drive` is the person."""

    async def redirect(address):
        kept.asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))
        await asyncio.to_thread(drive, address)

    async def returned():
        kept.returned = await asyncio.to_thread(listener.returned.get, timeout=20)
        if "code" not in kept.returned:
            raise RuntimeError(f"no code: {kept.returned}")
        return AuthorizationCodeResult(**{name: kept.returned.get(name) for name in ("code", "state", "iss")})

    async def run():
        metadata = OAuthClientMetadata(
            client_name="An editor", redirect_uris=[listener.url], token_endpoint_auth_method="none"
        )
        auth = OAuthClientProvider(url, metadata, kept, redirect, returned)
        async with create_mcp_http_client(auth=auth) as client:
            async with Client(streamable_http_client(url, http_client=client)) as session:
                return (await session.call_tool(TOOL, {})).content[0].text

    return asyncio.run(run())


def called_from_node(url, listener, drive):
    """The same with the TypeScript SDK."""
    command = [NODE, str(HERE / "person.ts"), url, listener.url, TOOL]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    client = start("person", command, env=PEERS, **pipes)
    try:
        drive(json.loads(client.stdout.readline())["go"])
        back = urllib.parse.urlencode(listener.returned.get(timeout=20))
        said, _ = client.communicate(f"{back}\n", timeout=60)
        return json.loads(said)["said"]
    except ValueError:
        raise RuntimeError("\n".join(["the client ended early:", *tail("person")])) from None


def post(url, body, **headers):
    """The status and body of an answer."""
    request = urllib.request.Request(url, body.encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def raw_call(url, token):
    """A call as it goes over the wire: an SDK that is refused would ask its person again."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "people", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": TOOL, "arguments": {}, "_meta": meta}
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": TOOL,
    }
    return post(url, json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}), **headers)


def refresh(node, form, token):
    status, body = post(f"{node.url}/oauth/token", urllib.parse.urlencode({**form, "refresh_token": token}))
    return status, json.loads(body)


def same(found, wanted):
    return [] if found == wanted else [f"expected {wanted!r}, found {found!r}"]


def within(part, text):
    return [] if part in text else [f"expected {part!r} in {text!r}"]


# Readers of tokens.


def read(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def pyjwt_reads(node_url, audience, token, algorithm):
    """PyJWT, with the keys that our metadata lead to: it takes the token, and neither a forged one nor another's."""
    metadata = read(f"{node_url}/.well-known/oauth-authorization-server")
    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token)
    options = {"require": ["exp", "iat", "iss", "aud", "sub", "jti", "client_id"]}

    def decode(text, aud):
        return jwt.decode(text, key, algorithms=[algorithm], audience=aud, issuer=metadata["issuer"], options=options)

    decode(token, audience)
    head, claims, signature = token.split(".")
    forged = ".".join([head, claims, ("B" if signature[0] == "A" else "A") + signature[1:]])
    wrong = []
    for what, text, aud in [("a forged one", forged, audience), ("one for another", token, f"{audience}-not")]:
        with contextlib.suppress(jwt.InvalidTokenError):
            decode(text, aud)
            wrong.append(f"{what} was taken")
    return wrong


def authlib_reads(node_url, audience, token):
    """Authlib's resource server of RFC 9068, which takes no Ed25519."""
    metadata = read(f"{node_url}/.well-known/oauth-authorization-server")

    class Validator(JWTBearerTokenValidator):
        def get_jwks(self):
            return read(metadata["jwks_uri"])

    validator = Validator(issuer=metadata["issuer"], resource_server=audience)
    claims = validator.authenticate_token(token)
    validator.validate_token(claims, [], None)
    return same(claims["iss"], node_url)


def attempt(tally, name, find_wrong):
    try:
        wrong = find_wrong()
    except Exception as error:  # what breaks is a failed check
        wrong = str(error).splitlines() or [type(error).__name__]
    tally.check(name, wrong)


def approvals(tally, node, drivers, browser, call):
    """A call that is held until somebody else approves it in a browser of their own, and then goes through once."""
    policy = node.dir / "policies" / "held.cedar"
    policy.write_text('@id("held")\n@approval("noor")\nforbid(principal, action, resource) unless { context has approval };\n')
    node.run("policy", "apply")
    _, held = call()
    waiting = node.show("approval", "list")
    tally.check("people: a call waits for somebody else", within("hold", held) + same(len(waiting), 1))
    url = waiting[0]["url"]
    try:
        told = node.run("approval", "grant", waiting[0]["id"])
    except RuntimeError as error:
        told = str(error)
    tally.check("people: an administrator is told where, and no more", within("ended with 1", told) + within(url, told))
    browser.open(url)
    tally.check("people: whoever it is done for cannot approve it", within(REFUSED, browser.heading(REFUSED)))
    with drivers.browser("noor") as other:
        other.open(url)
        other.sign_in(node.provider, APPROVER)
        other.heading(ASKED)
        wanted = node.show("approval", "show", waiting[0]["id"])["shown"]
        tally.check("people: an approver sees the text to the letter", same(other.text("pre"), wanted.strip()))
        tally.check("people: in the order of its letters", same(other.style("pre", "unicode-bidi"), "bidi-override"))
        other.click('button[value="approve"]')
        tally.check("people: and approves it", same(other.heading("Approved"), "Approved"))
    tally.check("people: the call goes through", within("simple text", call()[1]))
    tally.check("people: once", within("hold", call()[1]))
    policy.unlink()
    node.run("policy", "apply")


def run(tally):
    node = Company()
    node.up(node.port)
    node.enrol()
    handle = node.show("sponsor", "show", "maya")["handle"]
    url = f"{node.url}/mcp/{UPSTREAM}"
    drivers, listener, kept = Drivers(), Listener(), Kept()

    with drivers.browser("stranger") as browser:
        browser.open(f"{node.url}/login")
        browser.sign_in(node.provider, "00u1-stranger")
        tally.check("people: somebody whom nobody made known is told so", within(UNKNOWN, browser.heading(UNKNOWN)))
        tally.check("people: and what the provider calls them", within("00u1-stranger", browser.text()))

    with drivers.browser("maya") as browser:
        seen = {}

        def consents(address):
            browser.open(address)
            browser.sign_in(node.provider, SUBJECT)
            browser.find('button[value="agree"]')
            seen.update(page=browser.text(), url=browser.url, colour=browser.style("button.go", "background-color"))
            browser.click(f'input[value="{AGENT} {PURPOSE}"]')
            browser.click('button[value="agree"]')
            seen["after"] = browser.text("#back")

        told = called(url, kept, listener, consents)
        token = kept.tokens.access_token
        tally.check("people: a client gets in, and its call is answered", within("simple text", told))
        tally.check("people: it asked as it should", same(
            (kept.asked.get("resource"), kept.asked.get("code_challenge_method")), (url, "S256")))
        tally.check("people: the page of consent names the program and the person", [
            wrong for part in ("An editor", "Maya Interop", listener.url.split("/")[2], "a program on this computer")
            for wrong in within(part, seen["page"])])
        tally.check("people: it is at the node", within(f"{node.url}/oauth/authorize?", seen["url"]))
        tally.check("people: and looks as it should", within("15, 118, 110", seen["colour"]))
        tally.check("people: the code came with the node's name", same(kept.returned.get("iss"), node.url))
        tally.check("people: the browser is back at the program", within("Back at the program", seen["after"]))
        decided = node.exported("calls", "decision")
        tally.check("people: the record of the call names its sponsor", same(
            [(one["sponsor"], one["agent"], one["purpose"], one["effect"]) for one in decided],
            [(handle, AGENT, PURPOSE, "allow")]))
        started = node.exported("control", "instance-started")
        tally.check("people: and that the person signed in", within('"oidc"', json.dumps([one["via"] for one in started])))
        attempt(tally, "people: PyJWT reads the token", lambda: pyjwt_reads(node.url, url, token, "EdDSA"))
        for _ in range(2):
            node.run("keys", "rotate", "token")
        form = {"grant_type": "refresh_token", "client_id": kept.client.client_id, "resource": url}
        status, body = refresh(node, form, kept.tokens.refresh_token)
        tally.check("people: a refresh token gives another", same(status, 200))
        token, good = body["access_token"], body["refresh_token"]
        attempt(tally, "people: of ES256 by now, which PyJWT reads", lambda: pyjwt_reads(node.url, url, token, "ES256"))
        attempt(tally, "people: and Authlib as RFC 9068 has it", lambda: authlib_reads(node.url, url, token))

        before = node.show("agent", "show", AGENT)["sponsorship"]
        browser.open(f"{node.url}/accept/{AGENT}")
        shown = browser.text()
        browser.click('button[value="accept"]')
        browser.heading(ACCEPTED)
        after = node.show("agent", "show", AGENT)["sponsorship"]
        tally.check("people: a sponsor is shown what they are to answer for", within(PURPOSE, shown))
        tally.check("people: and accepts it", same((before, after), ("asserted", "verified")))

        def agrees(address):
            browser.open(address)
            browser.click(f'input[value="{AGENT} help"]')
            browser.click('button[value="agree"]')
            browser.find("#back")

        attempt(tally, "people: a client of another SDK gets in as well",
                lambda: within("simple text", called_from_node(url, listener, agrees)))
        decided = node.exported("calls", "decision")
        tally.check("people: for the purpose that was chosen for it", same(
            [(one["sponsor"], one["purpose"]) for one in decided], [(handle, PURPOSE), (handle, "help")]))

        def refuses(address):
            browser.open(address)
            browser.find('button[value="refuse"]')
            browser.click('button[value="refuse"]')
            browser.find("#back")

        other = Kept()
        with contextlib.suppress(Exception):
            called(url, other, listener, refuses)
        tally.check("people: another client is consented to anew, or not", same(
            (other.returned.get("error"), other.returned.get("iss"), other.tokens), ("access_denied", node.url, None)))

        approvals(tally, node, drivers, browser, lambda: raw_call(url, token))
        tally.check("people: the token is good still", same(raw_call(url, token)[0], 200))
        node.run("sponsor", "suspend", "maya")
        status, body = raw_call(url, token)
        tally.check("people: a suspended sponsor's token is not", [] if status == 401 else [f"{status}: {body}"])
        status, body = refresh(node, form, good)
        tally.check("people: nor is another given", same((status, body.get("error")), (400, "invalid_grant")))
        browser.open(f"{node.url}/login")
        browser.heading(UNKNOWN)
        tally.check("people: nor are they signed in again", within("suspended", browser.text()))
    node.down()
    found = json.loads(node.run("ledger", "verify", "--json", "--data", node.data, config=False))
    tally.check("people: the logs verify", same(found["verified"], True))


if __name__ == "__main__":
    # Refusals are what some checks are about; libraries print them, and what is to come in their next versions.
    logging.disable()
    warnings.simplefilter("ignore", DeprecationWarning)
    shutil.rmtree(LOGS, ignore_errors=True)
    tally = Tally()
    try:
        run(tally)
    except Exception as error:
        tally.check("people", [*str(error).splitlines(), *tail("people")])
    sys.exit(tally.end())
