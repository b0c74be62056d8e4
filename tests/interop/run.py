"""Real clients against real servers, direct and through the gateway.

    run.py [--direct]        --direct: only the part that needs no gateway

Two things are compared. The conformance suite's frozen requirement sets: what a scenario passes
direct it passes through the gateway. And transcripts: the Python and the TypeScript SDK go through
the same operations against each upstream, direct and through the gateway, in each protocol version,
and what came back is the same, member by member. Beside that a SCIM client and a SCIM tester have
the directory's part of a node to themselves. The last line is the count.
"""

import argparse
import concurrent.futures
import difflib
import json
import os
import re
import shutil
import subprocess
import sys

import directory
import elsewhere
from rig import FOLDER, HERE, NODE, PYTHON, Gateway, Tally, free_port, listens, module, start, start_ready, tail, until

MODERN, LEGACY, EARLIER = "2026-07-28", "2025-11-25", "2025-06-18"
CLIENTS = [("python", LEGACY), ("python", MODERN), ("typescript", EARLIER), ("typescript", LEGACY), ("typescript", MODERN)]
SHARED = FOLDER / "shared"


class Upstream:
    """A server: how it is reached, what is done with it, and which eras it speaks."""

    def __init__(self, name, operations, eras, command=None, url=None, variables=()):
        self.name, self.operations, self.eras = name, operations, eras
        self.command, self.url, self.variables = command, url, variables

    def reach(self):
        return ["--url", self.url] if self.url else ["--", *self.command]

    def config(self):
        return f"url = {json.dumps(self.url)}" if self.url else f"command = {json.dumps(self.command)}"


def upstreams():
    fixture = [PYTHON, str(HERE / "fixture.py")]
    everything = [NODE, module("server-everything", "dist", "index.js")]
    filesystem = [NODE, module("server-filesystem", "dist", "index.js"), str(SHARED)]
    both = (MODERN, LEGACY)
    port = free_port()
    child = start("everything", [*everything, "streamableHttp"], env={**os.environ, "PORT": str(port)})
    until("server-everything", 20, lambda: listens(port), child)
    urls = {}
    for era in ("both", "modern", "legacy"):
        _, urls[era] = start_ready(f"fixture-{era}", [*fixture, "--port", "0", "--era", era, "--ready", "{ready}"])
    return [
        Upstream("fixture", "fixture", both, url=urls["both"]),
        Upstream("fixture-modern", "fixture", (MODERN,), url=urls["modern"]),
        Upstream("fixture-legacy", "fixture", (LEGACY,), url=urls["legacy"]),
        Upstream("fixture-stdio", "fixture", both, command=fixture),
        Upstream("everything", "everything", (LEGACY,), url=f"http://127.0.0.1:{port}/mcp"),
        Upstream("everything-stdio", "everything", (LEGACY,), command=[*everything, "stdio"]),
        Upstream("filesystem", "filesystem", (LEGACY,), command=filesystem, variables=[f"dir={SHARED}"]),
        Upstream("time", "time", both, command=[PYTHON, "-m", "mcp_server_time", "--local-timezone", "UTC"]),
    ]


# Transcripts.


def era_of(version):
    return MODERN if version == MODERN else LEGACY


def transcript(sdk, version, upstream, reach, crossing):
    """What a client got, one entry an operation."""
    if upstream.operations == "filesystem":
        prepare_files()
    client = [PYTHON, HERE / "matrix.py"] if sdk == "python" else [NODE, HERE / "matrix.ts"]
    words = [*client, "--era", version, "--operations", upstream.operations]
    words += [f"--set={pair}" for pair in upstream.variables]
    words += ["--crossing"] if crossing else []
    environment = {**os.environ, "INTEROP_NODE": str(FOLDER / "node"), "NODE_NO_WARNINGS": "1"}
    command = [str(word) for word in [*words, *reach]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-12:]
        raise RuntimeError(f"the {sdk} client ended with {done.returncode}:\n" + "\n".join(last))
    return [json.loads(line) for line in done.stdout.splitlines()]


def prepare_files():
    """Puts what the filesystem server serves back to what each of its runs finds. The folder itself stays: servers hold it."""
    SHARED.mkdir(parents=True, exist_ok=True)
    for path in SHARED.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (SHARED / "letter.txt").write_text("Dear reader,\nthis is the second line.\n", encoding="utf-8")


def settled(entry, crossing):
    """An entry without what may differ from run to run or, between eras, from era to era."""
    came = []
    for message in entry["came"]:
        about = message.get("notification", "")
        # A server says that its lists changed, logs, and asks for roots at moments of its own.
        if about.endswith("list_changed") or message.get("request") == "roots/list":
            continue
        if about == "notifications/message" and entry["op"] != "log lines":
            continue
        code = message.get("error", {}).get("code")
        # An answer that nobody waits for any more may come or not, and late.
        if code == CANCELLED:
            continue
        # An SDK that is told that it left out a header asks for the list again and mends its call.
        if entry["op"] == "mirrored header" and (code == HEADER_MISMATCH or message.get("answers") == "tools/list"):
            continue
        message = plain(message, crossing)
        # What a list holds for this caller may change at any moment, so the gateway lets nobody keep it.
        if (message.get("answers") or "").endswith("/list"):
            message.get("result", {}).pop("ttlMs", None)
        # The gateway speaks versions to clients that the server behind it does not.
        if message.get("answers") == "server/discover":
            message.get("result", {}).pop("supportedVersions", None)
        came.append(message)
    if entry["op"] == "together":
        came.sort(key=lambda message: json.dumps(message, sort_keys=True))
    return {**entry, "came": came}


CANCELLED, HEADER_MISMATCH, NO_RESOURCE_BEFORE, INVALID_PARAMS = -32800, -32020, -32002, -32602
ERA_MEMBERS = ("resultType", "ttlMs", "cacheScope")


def plain(value, crossing):
    """A value without the gateway's own marks, the counters of one connection and, between eras, their members."""
    if isinstance(value, list):
        return [plain(inner, crossing) for inner in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, inner in value.items():
        if key.startswith("dev.tipstaff/") or (crossing and key in ERA_MEMBERS):
            continue
        if crossing and key.startswith("io.modelcontextprotocol/"):
            continue
        # The gateway numbers what it asks for on the client's behalf, and seals states as its own.
        kept[key] = "…" if key in ("progressToken", "requestState") else plain(inner, crossing)
    # "No such resource" has had two numbers.
    if crossing and kept.get("code") == NO_RESOURCE_BEFORE:
        kept["code"] = INVALID_PARAMS
    if not kept.get("_meta", True):
        del kept["_meta"]
    return kept


def differences(expected, found, crossing):
    """What differs, as a reader would want to see it."""
    lines = []
    for want, have in zip(expected, found):
        want, have = settled(want, crossing), settled(have, crossing)
        # Between eras the handshakes differ; and on stdio the TypeScript SDK tries the later one on a child of its own.
        if want["op"] == "connect" and (crossing or not want["came"] or not have["came"]):
            continue
        if want != have:
            shown = [json.dumps(entry, indent=1, sort_keys=True, ensure_ascii=False).splitlines() for entry in (want, have)]
            lines.append(f"operation `{want['op']}`, direct and through:")
            lines += [line[:200] for line in difflib.unified_diff(*shown, "direct", "through", lineterm="", n=2)][:40]
    if len(expected) != len(found):
        lines.append(f"{len(expected)} operations direct, {len(found)} through")
    return lines


FAILS_ON_PURPOSE = {"no such resource"}


def odd_outcomes(entries):
    """Operations that did not go as they should have, with a client that talks to the server itself."""
    odd = [entry for entry in entries if (entry.get("outcome", "done") == "done") == (entry["op"] in FAILS_ON_PURPOSE)]
    return [f"operation `{entry['op']}`: {entry['outcome']}" for entry in odd]


def matrix(tally, upstream, gateway):
    """Every client against one upstream: direct where it speaks the client's version, and through the gateway."""
    direct = {}

    def baseline(sdk, version, crossing):
        key = (sdk, version, crossing)
        if key not in direct:
            direct[key] = transcript(sdk, version, upstream, upstream.reach(), crossing)
        return direct[key]

    for sdk, version in CLIENTS:
        crossing = era_of(version) not in upstream.eras
        pairing = f"{sdk} {version} with {upstream.name}"
        # Between eras the server itself cannot be asked: what it says to the same SDK in its own era is expected.
        native = upstream.eras[0] if crossing else version
        attempt(tally, f"{pairing}, direct" + (f" in {native}" if crossing else ""),
                lambda: odd_outcomes(baseline(sdk, native, crossing)))
        if gateway is None:
            continue
        ways = {"through the gateway": lambda: ["--url", f"{gateway.url}/mcp/{upstream.name}", "--token", gateway.token(upstream.name)]}
        if version != EARLIER and upstream.name in CONNECTED:
            ways["through `tipstaff connect`"] = lambda: ["--", *gateway.connect_command(upstream.name)]
        for way, reach in ways.items():
            def compare():
                found = transcript(sdk, version, upstream, reach(), crossing)
                return differences(baseline(sdk, native, crossing), found, crossing)

            attempt(tally, f"{pairing}, {way}", compare)


# Upstreams that are also reached on stdio, as a desktop client would.
CONNECTED = ("fixture", "everything-stdio", "time")


def attempt(tally, name, find_wrong):
    try:
        wrong = find_wrong()
    except Exception as error:  # a client or server that breaks is a failed check, not the end of the run
        wrong = str(error).splitlines() or [type(error).__name__]
    tally.check(name, wrong)


# The conformance suite.


def conformance(label, url, version):
    """Each scenario's passed and failed checks, and the scenarios that are scored."""
    results = FOLDER / "conformance" / label
    shutil.rmtree(results, ignore_errors=True)
    suite = [NODE, module("conformance", "dist", "index.js"), "server", "--url", url, "--requirements", version]
    done = subprocess.run([*suite, "-o", str(results)], capture_output=True, text=True, timeout=600)
    scenarios, unscored = {}, set()
    for line in done.stdout.splitlines():
        if match := re.match(r"[✓✗] ([\w-]+): (\d+) passed, (\d+) failed", line):
            scenarios[match[1]] = (int(match[2]), int(match[3]))
        elif match := re.match(r"\s+[✓✗] ([\w-]+) \([\w-]+\)$", line):
            unscored.add(match[1])
    if not scenarios:
        raise RuntimeError("the suite reported nothing:\n" + (done.stderr or done.stdout)[-2000:])
    return scenarios, unscored, results


def failures(results, scenario):
    """What the suite wrote about the failed checks of a scenario."""
    lines = []
    for path in sorted(results.glob(f"*{scenario}*/checks.json")):
        for check in json.loads(path.read_text()):
            if check["status"] == "FAILURE":
                lines.append(f"{check['id']}: {check.get('errorMessage', '')}"[:400])
    return lines


def conform(tally, fixture, gateway):
    for version in (LEGACY, MODERN):
        try:
            direct, unscored, results = conformance(f"direct-{version}", localhost(fixture.url), version)
        except RuntimeError as error:
            tally.check(f"conformance {version}, direct", str(error).splitlines())
            continue
        for scenario, (_, failed) in direct.items():
            # The optional tasks extension is not ours to have; all else that is run, the fixture passes.
            if failed and scenario in unscored and scenario.startswith("tasks-"):
                continue
            tally.check(f"conformance {version} {scenario}, direct", failures(results, scenario) if failed else [])
        if gateway is not None:
            attempt_conform_through(tally, fixture, gateway, version, direct)


def attempt_conform_through(tally, fixture, gateway, version, direct):
    try:
        shim = [PYTHON, HERE / "shim.py", "--upstream", gateway.url, "--ready", "{ready}", "--"]
        _, url = start_ready(f"shim-{version}", [*shim, *gateway.token_command(fixture.name)])
        through, _, results = conformance(f"through-{version}", f"{url}/mcp/{fixture.name}", version)
    except RuntimeError as error:
        tally.check(f"conformance {version}, through the gateway", str(error).splitlines())
        return
    for scenario, (passed, failed) in direct.items():
        if failed:
            continue
        passed_through, failed_through = through.get(scenario, (0, 0))
        wrong = failures(results, scenario) if failed_through else []
        if not wrong and (failed_through or passed_through < passed):
            wrong = [f"{passed} passed direct; {passed_through} passed and {failed_through} failed through the gateway"]
        tally.check(f"conformance {version} {scenario}, through the gateway", wrong)


def localhost(url):
    """The suite tests protection against DNS rebinding only where it is told a local name."""
    return url.replace("127.0.0.1", "localhost")


def start_gateway(tally, served):
    try:
        gateway = Gateway("interop", {upstream.name: upstream.config() for upstream in served})
        gateway.up()
        gateway.enrol()
        return gateway
    except (RuntimeError, OSError) as error:
        tally.check("the gateway starts", [*str(error).splitlines(), *tail("interop")])
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--direct", action="store_true", help="only the part that needs no gateway")
    options = parser.parse_args()
    tally = Tally()
    prepare_files()
    served = upstreams()
    gateway = None if options.direct else start_gateway(tally, served)
    conform(tally, served[0], gateway)
    if gateway is not None:
        token = json.loads(gateway.run("scim", "token", "--json"))["token"]
        attempt(tally, "scim2-tester finds nothing wrong", lambda: directory.tested(gateway.url, token))
        attempt(tally, "scim2-client sees a life through", lambda: directory.lived(gateway.url, token))
    # Two at a time: one waits while the other works.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda upstream: matrix(tally, upstream, gateway), served))
    if gateway is not None:
        attempt(tally, "the gateway stops when it is told to", lambda: [] if gateway.down() else tail("interop"))
        attempt(tally, "its logs verify", lambda: unverified(gateway))
        attempt(tally, "its decisions come out the same again", lambda: replayed_otherwise(gateway))
    if not options.direct:
        try:
            elsewhere.run(tally)
        except Exception as error:  # what breaks is a failed check
            tally.check("asking from elsewhere", [*str(error).splitlines(), *tail("elsewhere")])
    return tally.end()


def unverified(gateway):
    found = json.loads(gateway.run("ledger", "verify", "--json", "--data", gateway.data, config=False))
    is_open = found["calls"]["open"]
    return [] if found["verified"] and not is_open else [f"verified: {found['verified']}, permits without outcome: {is_open}"]


def replayed_otherwise(gateway):
    found = json.loads(gateway.run("ledger", "replay", "--json"))
    others = {kind: number for kind, number in found.items() if kind not in ("same", "responses") and number}
    return [] if found["same"] and not others else [json.dumps(found)]


if __name__ == "__main__":
    sys.exit(main())
