"""OAuth with parts of others against a node whose agents run only once their sponsor accepted them: the
conformance suite's scenarios for authorization servers, clients that take nothing the RFCs do not allow, the SDK
in a page in Chromium, the MCP Inspector, and workloads with tokens as their platforms write them.

It needs a debug build of `tipstaff`, and Debian's chromium and chromium-driver. The last line is the count.
"""

import asyncio
import contextlib
import http.server
import json
import logging
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.parse
import uuid

import jwt
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from joserfc.jwk import ECKey, OKPKey, RSAKey
from mcp import Client
from mcp.client.auth.extensions.client_credentials import PrivateKeyJWTOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from people import AGENT, PEERS, PURPOSE, SUBJECT, TOOL, UPSTREAM, Company, Drivers, Kept, Listener
from people import attempt, post, raw_call, same, within
from rig import FOLDER, HERE, LOGS, MODULES, NODE, Tally, free_port, listens, module, start, stop, tail, until

ROBOT, RUNNER = "robot", "runner"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# Each scenario of the suite for authorization servers, and what each of its checks says of a node.
SCENARIOS = {
    "authorization-server-metadata-endpoint": {
        "authorization-server-metadata": "SUCCESS",
        "authorization-server-metadata-cimd": "SUCCESS",
    },
    "authorization-code-grant": {"authorization-code-grant": "SUCCESS"},
}


class Outsiders(Company):
    """A node that lets in what nobody registered by hand, and runs no agent that nobody accepted."""

    def __init__(self):
        self.platforms = Platforms()
        login = "loopback_clients = true\nidentity_assertions = true"
        super().__init__("outsiders", login, '[agents]\nasserted = "refuse"\n' + self.platforms.tables())
        (self.dir / "bundle.json").write_text(self.platforms.bundle())
        self.resource = f"http://127.0.0.1:{self.port}/mcp/{UPSTREAM}"

    def enrol(self):
        super().enrol()
        more = ["--people", "everyone", "--allow-bearer", "--key-out", self.key]
        self.run("agent", "add", ROBOT, "--sponsor", "maya", "--purpose", "robots", *more)
        self.run("agent", "add", RUNNER, "--sponsor", "maya", "--purpose", "ci", "--allow-bearer")


def accepted(node, browser, *agents):
    """What is wrong after their sponsor, signed in, accepted each of these agents."""
    for agent in agents:
        browser.open(f"{node.url}/accept/{agent}")
        browser.click('button[value="accept"]')
        browser.heading("Accepted")
    return same([node.show("agent", "show", agent)["sponsorship"] for agent in agents], ["verified"] * len(agents))


def agrees(browser, url):
    """The person agrees that the program that sent them there is their helper."""
    browser.open(url)
    browser.click(f'input[value="{AGENT} {PURPOSE}"]')
    browser.click('button[value="agree"]')


def agrees_at_provider(browser, url):
    browser.open(url)
    browser.click('form:has(input[name="prompt"][value="consent"]) button.login-submit')


# The conformance suite.


def suite(*words):
    return [NODE, module("conformance", "dist", "index.js"), *[str(word) for word in words]]


def conformance(tally, node, browser):
    """Our metadata, and a code by way of a browser."""
    listed = subprocess.run(suite("list", "--authorization"), capture_output=True, text=True, timeout=60, check=True)
    tally.check("conformance authorization: there are these scenarios", same(
        sorted(re.findall(r"^\s+- (\S+)", listed.stdout, re.M)), sorted(SCENARIOS)))
    port, results = free_port(), FOLDER / "conformance" / "authorization"
    shutil.rmtree(results, ignore_errors=True)
    metadata = {"redirect_uris": [f"http://127.0.0.1:{port}/callback"], "client_name": "The suite"}
    status, body = post(f"{node.url}/oauth/register", json.dumps(metadata), **{"Content-Type": "application/json"})
    if status != 201:
        raise RuntimeError(f"the suite is not registered: {status} {body}")
    words = ["authorization", "--url", node.url, "--client-id", json.loads(body)["client_id"], "--port", port]
    words += ["--resource", node.resource, "-o", results]
    child = start("conformance", suite(*words), env=PEERS, stdout=subprocess.PIPE, text=True)
    for line in child.stdout:
        if line.startswith(f"{node.url}/oauth/authorize?"):
            agrees(browser, line.strip())
        if line.startswith("=== SUMMARY"):
            break
    child.communicate(timeout=60)
    found = {}
    for path in results.glob("*/checks.json"):
        scenario = next((name for name in SCENARIOS if name in path.parent.name), path.parent.name)
        found[scenario] = {check["id"]: check for check in json.loads(path.read_text())}
    for scenario, expected in SCENARIOS.items():
        checks = found.get(scenario, {})
        wrong = same({name: check["status"] for name, check in checks.items()}, expected)
        wrong += [check["errorMessage"] for check in checks.values() if wrong and "errorMessage" in check]
        tally.check(f"conformance authorization: {scenario}", wrong)


# Clients of others.


def clients(tally, node, browser):
    """oauth4webapi and the TypeScript SDK; the person goes where they send them."""
    listener = Listener()
    words = [node.url, node.resource, listener.url, node.provider, AGENT, PURPOSE, ROBOT, node.key, TOOL]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    child = start("outsider", [NODE, HERE / "outsider.ts", *words], env=PEERS, **pipes)
    handle = node.show("sponsor", "show", "maya")["handle"]
    for line in child.stdout:
        said = json.loads(line)
        if "check" in said:
            tally.check(f"outsider: {said['check']}", said["wrong"])
        elif "person" in said:
            tally.check("outsider: who is its sponsor", same(said["person"], handle))
        else:
            (agrees if said["at"] == node.url else agrees_at_provider)(browser, said["go"])
            child.stdin.write(urllib.parse.urlencode(listener.returned.get(timeout=20)) + "\n")
            child.stdin.flush()
    tally.check("outsider: it came to its end", [] if child.wait(20) == 0 else tail("outsider"))


def authlib(node):
    """Authlib as an agent with a key: what is wrong with the token it gets, or with its call."""
    key = OKPKey.import_key(json.loads(node.key.read_text())["key"])
    endpoint = f"{node.url}/oauth/token"
    session = OAuth2Session(ROBOT, key, token_endpoint_auth_method="private_key_jwt")
    # By itself Authlib makes assertions for an hour; five minutes is the most that are taken.
    claims = {"exp": int(time.time()) + 60}
    session.register_client_auth_method(PrivateKeyJWT(endpoint, claims, alg="EdDSA"))
    token = session.fetch_token(endpoint, grant_type="client_credentials", resource=node.resource)
    return same(token["token_type"], "Bearer") + called(node, token["access_token"])


def sdk(node):
    """The Python SDK's own provider for programs with a key, which finds its way by itself."""
    file = json.loads(node.key.read_text())
    key = jwt.PyJWK({**file["key"], "alg": "EdDSA"}).key

    async def assertion(audience):
        now = int(time.time())
        claims = {"iss": ROBOT, "sub": ROBOT, "aud": audience, "iat": now, "exp": now + 60, "jti": str(uuid.uuid4())}
        return jwt.encode(claims, key, "EdDSA", headers={"kid": file["kid"]})

    async def call():
        auth = PrivateKeyJWTOAuthProvider(node.resource, Kept(), ROBOT, assertion, issuer=node.url)
        async with create_mcp_http_client(auth=auth) as client:
            async with Client(streamable_http_client(node.resource, http_client=client)) as session:
                return (await session.call_tool(TOOL, {})).content[0].text

    return within("simple text", asyncio.run(call()))


def called(node, token):
    status, body = raw_call(node.resource, token)
    return same(status, 200) + within("simple text", body)


# Pages.

# Sends a request as a page may, and says what the page is told of it.
PROBE = """<!doctype html><meta charset="utf-8"><p id="said"></p><script type="module">
  const told = async ([url, options]) => {
    try {
      const answer = await fetch(url, options);
      return `${answer.type} ${answer.status}`;
    } catch (error) {
      return error.name;
    }
  };
  const asked = JSON.parse(new URLSearchParams(location.search).get("asked"));
  document.getElementById("said").textContent = JSON.stringify(await Promise.all(asked.map(told)));
</script>"""


class Pages:
    """A server of pages: a client, and some that only look at what they are told. Its modules are the SDK's."""

    def __init__(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = urllib.parse.urlsplit(self.path).path
                self.send_response(200)
                self.send_header("Content-Type", "text/javascript" if path.endswith(("js", "ts")) else "text/html")
                if path == "/sandboxed":
                    # A page without an origin of its own: `null`.
                    self.send_header("Content-Security-Policy", "sandbox allow-scripts")
                self.end_headers()
                if path.startswith("/modules/"):
                    self.wfile.write((MODULES / path.removeprefix("/modules/")).read_bytes())
                else:
                    self.wfile.write((HERE / "page.html").read_bytes() if path == "/" else PROBE.encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.port = server.server_port

    def url(self, path, host="127.0.0.1", **query):
        return f"http://{host}:{self.port}{path}?{urllib.parse.urlencode(query)}"


def said(browser):
    """What the page says, once it says something."""

    def there():
        with contextlib.suppress(RuntimeError):
            return browser.text("#said")

    return until("the page", 20, there)


def pages(tally, node, browser):
    """A client in a page of another origin, and pages that are no clients."""
    served = Pages()
    browser.open(served.url("/", server=node.resource, tool=TOOL))
    browser.click(f'input[value="{AGENT} {PURPOSE}"]')
    browser.click('button[value="agree"]')
    tally.check("pages: the SDK in a browser signs its person in and calls", within("simple text", said(browser)))
    at = lambda host: f"http://{host}:{node.port}"
    documents = ["/.well-known/oauth-authorization-server", f"/.well-known/oauth-protected-resource/mcp/{UPSTREAM}", "/oauth/jwks"]
    register = {"method": "POST", "headers": {"Content-Type": "application/json"}, "body": '{"redirect_uris": []}'}
    call = {"method": "POST", "headers": {"Authorization": "Bearer x", "Content-Type": "application/json"}, "body": "{}"}
    cookies = {"credentials": "include"}
    agree = {"method": "POST", "headers": {"Content-Type": "application/x-www-form-urlencoded"}, "body": "answer=agree"}

    def told(path, asked, host="127.0.0.1"):
        browser.open(served.url(path, host, asked=json.dumps(asked)))
        return json.loads(said(browser))

    everything = [[at("127.0.0.1") + path, {}] for path in documents]
    everything += [[f"{at('127.0.0.1')}/oauth/register", register], [node.resource, call]]
    tally.check("pages: one of this machine reads what clients need", same(
        told("/probe", everything), ["cors 200", "cors 200", "cors 200", "cors 400", "cors 401"]))
    tally.check("pages: and nothing with cookies, nor what is for people", same(
        told("/probe", [
            [at("127.0.0.1") + documents[0], cookies],
            [node.resource, {**call, **cookies}],
            [f"{at('127.0.0.1')}/login", cookies],
            [f"{at('127.0.0.1')}/oauth/consent", {**agree, **cookies}],
            [f"{at('127.0.0.1')}/metrics", {}],
        ]), ["TypeError"] * 5))  # fmt: skip
    tally.check("pages: one without an origin is told nothing", same(told("/sandboxed", everything), ["TypeError"] * 5))
    rebound = "rebound.example"
    tally.check("pages: nor is one of another name that leads here", same(told("/probe", everything, rebound), ["TypeError"] * 5))
    named = [[url.replace("127.0.0.1", rebound), options] for url, options in everything]
    tally.check("pages: not even when it calls the node by that name", same(told("/probe", named, rebound), ["TypeError"] * 5))
    browser.open(f"{at(rebound)}{documents[0]}")
    tally.check("pages: nor would its own page be one of ours", within("is not called", browser.text()))


def inspector(tally, node, browser):
    """The MCP Inspector, whose own server asks for its page: the person signs in in the page's browser."""
    port, folder = free_port(), FOLDER / "inspector"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {
        **PEERS,
        "CLIENT_PORT": str(port),
        "MCP_SANDBOX_PORT": str(free_port()),
        "MCP_AUTO_OPEN_ENABLED": "false",
        "MCP_INSPECTOR_SECRET_STORE": "memory",
        "MCP_STORAGE_DIR": str(folder),
        "DANGEROUSLY_OMIT_AUTH": "true",
        "HOME": str(folder),
    }
    words = ["--web", "--transport", "http", "--server-url", node.resource]
    child = start("inspector", [NODE, module("inspector", "clients", "launcher", "build", "index.js"), *words], env=environment)
    until("the Inspector", 20, lambda: listens(port), child)
    browser.ask("POST", "/window/rect", {"width": 1600, "height": 1200})
    browser.open(f"http://127.0.0.1:{port}/")
    browser.click(".mantine-Switch-track")
    browser.click(f'input[value="{AGENT} {PURPOSE}"]')
    asked = browser.text()
    browser.click('button[value="agree"]')
    tally.check("inspector: the person is asked about it", within("MCP Inspector", asked))
    browser.press("Tools")
    browser.press(TOOL)
    browser.press("Execute Tool")
    until("the tool's answer", 20, lambda: "This is a simple text response" in browser.text())
    tally.check("inspector: signed in, it calls a tool", within("This is a simple text response", browser.text()))
    stop(child)


# Workloads.


class Platforms:
    """What runs workloads and gives them tokens: a cluster and a forge, whose keys lie where they say, and a
    mesh, whose trust bundle is a file."""

    def __init__(self):
        self.keys = {name: RSAKey.generate_key(2048, {"kid": f"{name}-1", "use": "sig", "alg": "RS256"}) for name in ("cluster", "forge")}
        self.keys["mesh"] = ECKey.generate_key("P-256", {"kid": "mesh-1"})
        platforms = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                _, name, path = self.path.split("/", 2)
                issuer = f"{platforms.url}/{name}"
                documents = {
                    ".well-known/openid-configuration": {"issuer": issuer, "jwks_uri": f"{issuer}/openid/v1/jwks"},
                    "openid/v1/jwks": {"keys": [platforms.keys[name].as_dict(private=False)]},
                }
                self.send_response(200 if path in documents else 404)
                self.send_header("Content-Type", "application/jwk-set+json" if path.endswith("jwks") else "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(documents.get(path, {})).encode())

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"

    def tables(self):
        rule = f'rule = [{{ agent = "{RUNNER}", purpose = "ci/%s", claims = {{ %s }} }}]\n'
        return "".join([
            f'[workload.cluster]\nissuer = "{self.url}/cluster"\n',
            rule % ("cluster", '"kubernetes.io/namespace" = "prod", sub = "system:serviceaccount:prod:runner"'),
            f'[workload.forge]\nissuer = "{self.url}/forge"\njwks = "{self.url}/forge/openid/v1/jwks"\n',
            rule % ("forge", 'repository = "acme/app", ref = "refs/heads/main", environment = "prod"'),
            '[workload.mesh]\nspiffe = "acme.example"\njwks = "file:bundle.json"\n',
            rule % ("mesh", 'sub = "spiffe://acme.example/ns/*/sa/runner"'),
        ])  # fmt: skip

    def bundle(self):
        """A SPIFFE trust bundle: keys of both kinds of SVID."""
        x509 = {**ECKey.generate_key("P-256").as_dict(private=False), "use": "x509-svid"}
        keys = [x509, {**self.keys["mesh"].as_dict(private=False), "use": "jwt-svid"}]
        return json.dumps({"keys": keys, "spiffe_sequence": 1, "spiffe_refresh_hint": 300})

    def token(self, name, audience, **more):
        """A token as the platform writes it."""
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + 600, "jti": str(uuid.uuid4())}
        named = {
            "cluster": {
                "sub": "system:serviceaccount:prod:runner",
                "kubernetes.io": {"namespace": "prod", "serviceaccount": {"name": "runner"}, "pod": {"name": "runner-0"}},
            },
            "forge": {
                "sub": "repo:acme/app:environment:prod",
                "repository": "acme/app",
                "ref": "refs/heads/main",
                "environment": "prod",
            },
            "mesh": {"sub": "spiffe://acme.example/ns/prod/sa/runner"},
        }[name]
        own = {} if name == "mesh" else {"iss": f"{self.url}/{name}"}
        # A cluster writes a list.
        claims = {**own, **times, **named, "aud": [audience], **more}
        headers = {"kid": self.keys[name].kid, "typ": None if name == "cluster" else "JWT"}
        algorithm = "ES256" if name == "mesh" else "RS256"
        return jwt.encode(claims, self.keys[name].raw_value, algorithm, headers=headers)


def workloads(tally, node):
    def given(token, **more):
        form = {"grant_type": JWT_BEARER, "assertion": token, "resource": node.resource, **more}
        status, body = post(f"{node.url}/oauth/token", urllib.parse.urlencode(form))
        return status, json.loads(body)

    def refused(name, **changes):
        status, body = given(node.platforms.token(name, node.url, **changes))
        return same((status, body.get("error")), (400, "invalid_grant"))

    def taken(name):
        status, body = given(node.platforms.token(name, node.url))
        if status != 200:
            return [f"{status}: {body}"]
        return same(body["purpose"], f"ci/{name}") + called(node, body["access_token"])

    # Of the agent that the rules name nobody says yet that they answer for it.
    status, body = given(node.platforms.token("cluster", node.url))
    tally.check("workloads: none runs before its sponsor accepted the agent", same(status, 400) + within("accept", str(body)))
    yield
    strangers = [
        ("cluster", {"kubernetes.io": {"namespace": "test"}}),
        ("cluster", {"sub": "system:serviceaccount:prod:runner-2"}),
        ("forge", {"ref": "refs/pull/1/merge"}),
        ("forge", {"repository": "acme/app-2"}),
        ("mesh", {"sub": "spiffe://acme.example.evil.example/ns/prod/sa/runner"}),
        ("mesh", {"sub": "spiffe://acme.example/ns/prod/x/sa/runner"}),
    ]
    for name in ("cluster", "forge", "mesh"):
        attempt(tally, f"workloads: one of the {name} is let in, and its call is answered", lambda: taken(name))
        for audience in (["https://another.example"], [], [node.resource]):
            attempt(tally, f"workloads: not one of the {name} for {audience}", lambda: refused(name, aud=audience))
        attempt(tally, f"workloads: nor an old one of the {name}", lambda: refused(name, exp=int(time.time()) - 120))
    for name, changes in strangers:
        attempt(tally, f"workloads: nor one of the {name} with {changes}", lambda: refused(name, **changes))
    forged = node.platforms.token("forge", node.url, iss=f"{node.platforms.url}/cluster")
    tally.check("workloads: nor one of the forge that says it is of the cluster", same(given(forged)[0], 400))
    token = node.platforms.token("cluster", node.url)
    tally.check("workloads: as a bearer, once", same([given(token)[0], given(token)[0]], [200, 400]))
    yield


def together(tally, name, checks):
    """Runs what makes checks of its own; if it breaks, that is one more that failed."""
    try:
        checks()
    except Exception as error:
        tally.check(name, [*(str(error).splitlines() or [type(error).__name__]), *tail("outsiders")])


def run(tally):
    node = Outsiders()
    node.up(node.port)
    node.enrol()
    with Drivers().browser("outsiders") as browser:
        browser.open(f"{node.url}/login")
        browser.sign_in(node.provider, SUBJECT)
        browser.heading("signed in")
        attempt(tally, "outsiders: their sponsor accepts the agents", lambda: accepted(node, browser, AGENT, ROBOT))
        started = workloads(tally, node)
        together(tally, "workloads", lambda: next(started))
        attempt(tally, "outsiders: and the one that workloads start", lambda: accepted(node, browser, RUNNER))
        together(tally, "workloads", lambda: next(started))
        attempt(tally, "outsiders: Authlib is let in with an agent's key", lambda: authlib(node))
        attempt(tally, "outsiders: the Python SDK's provider with a private key is", lambda: sdk(node))
        together(tally, "conformance authorization", lambda: conformance(tally, node, browser))
        together(tally, "outsider", lambda: clients(tally, node, browser))
        together(tally, "pages", lambda: pages(tally, node, browser))
        together(tally, "inspector", lambda: inspector(tally, node, browser))
    node.down()
    found = json.loads(node.run("ledger", "verify", "--json", "--data", node.data, config=False))
    tally.check("outsiders: the logs verify", same(found["verified"], True))


if __name__ == "__main__":
    # Refusals are what some checks are about, and libraries print them.
    logging.disable()
    shutil.rmtree(LOGS, ignore_errors=True)
    tally = Tally()
    together(tally, "outsiders", lambda: run(tally))
    sys.exit(tally.end())
