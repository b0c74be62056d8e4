"""A data folder that a node wrote, read by Go's own reader of transparency logs (`oracle/main.go`).

Makes enough calls through a gateway that its logs have full and partial tiles, stops it, and lets Go
hash every entry, prove it under the signed checkpoint, show that the log has only grown, and check the
proofs that `tipstaff ledger proof` writes. One changed byte must be found. And a log written in Go
(`witness/main.go`) has `tipstaff witness` cosign it, and checks what it answers. The last line is the count.
"""

import json
import os
import shutil
import subprocess
import sys
import urllib.request

from rig import FOLDER, HERE, PYTHON, TIPSTAFF, Gateway, Tally, start_ready, tail

# Two entries a call: more than one full tile and a partial one.
CALLS = 150
VERSION = "2026-07-28"


def call(gateway, token, number):
    """One `tools/call` over plain HTTP; fails unless it was allowed."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": {"name": "oracle", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "test_structured_sum", "arguments": {"a": number, "b": 1}, "_meta": meta}
    body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    headers = {
        "Authorization": f"Bearer {token}",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "test_structured_sum",
    }
    request = urllib.request.Request(f"{gateway.url}/mcp/fixture", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    wanted = f'"sum":{number + 1}'
    if wanted not in text.replace(" ", ""):
        raise RuntimeError(f"call {number} was not answered: {text[:500]}")


def go(oracle, *words):
    """What the oracle finds wrong; nothing if it is satisfied."""
    done = subprocess.run([oracle, *words], capture_output=True, text=True, timeout=120)
    return [] if done.returncode == 0 else (done.stderr or done.stdout).splitlines() or ["it failed silently"]


def counted(oracle, data, log):
    done = subprocess.run([oracle, data, log], capture_output=True, text=True, timeout=120)
    return int(done.stdout.split()[1]) if done.returncode == 0 else 0


def write_proofs(gateway, log, indexes):
    paths = []
    for index in indexes:
        path = gateway.dir / f"{log}-{index}.proof"
        path.write_text(gateway.run("ledger", "proof", f"{log}/{index}", "--data", gateway.data))
        paths.append(path)
    return paths


def change_a_byte(data):
    """A copy of the data folder with one byte of one entry changed."""
    changed = data.with_name("data-changed")
    shutil.copytree(data, changed, ignore=shutil.ignore_patterns("lock", "*.sock"))
    bundle = changed / "calls" / "tile" / "entries" / "000"
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.chmod(0o600)
    bundle.write_bytes(content)
    return changed


def run(tally):
    oracle = FOLDER / "go-oracle"
    subprocess.run(["go", "build", "-o", oracle, "."], cwd=HERE / "oracle", check=True)
    _, url = start_ready("oracle-fixture", [PYTHON, HERE / "fixture.py", "--port", "0", "--ready", "{ready}"])
    gateway = Gateway("oracle", {"fixture": f"url = {json.dumps(url)}"})
    gateway.up()
    gateway.enrol()
    token = gateway.token("fixture").read_text()
    for number in range(CALLS):
        call(gateway, token, number)
    tally.check("the node stops and leaves its logs", [] if gateway.down() else tail("oracle"))
    data = gateway.data
    for log, least in (("control", 5), ("calls", 2 * CALLS)):
        tally.check(f"Go reads every entry of {log}", go(oracle, data, log))
        size = counted(oracle, data, log)
        tally.check(f"all entries of {log} are under its checkpoint", [] if size >= least else [f"{size} entries"])
        proofs = write_proofs(gateway, log, sorted({0, 1, size // 2, size - 1}))
        tally.check(f"Go checks the proofs of {log}", go(oracle, data, log, *proofs))
    found = go(oracle, change_a_byte(data), "calls")
    tally.check("Go finds one changed byte", [] if found else ["nothing was found"])


def witness(tally):
    """A log in Go, witnessed."""
    client = FOLDER / "go-witness"
    subprocess.run(["go", "build", "-o", client, "."], cwd=HERE / "witness", check=True)
    folder = FOLDER / "witness"
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    key = folder / "log.key"
    subprocess.run([client, "key", key], check=True, timeout=60)
    words = ["witness", "--folder", folder / "memory", "--name", "witness.example/w1", "--log", f"{key}.vkey"]
    command = [TIPSTAFF, *words, "--listen", "127.0.0.1:0", "--ready-file", "{ready}"]
    _, url = start_ready("witness", command)
    with urllib.request.urlopen(f"{url}/vkey", timeout=30) as answer:
        vkey = answer.read().decode().strip()
    tally.check("a log written in Go is witnessed", go(client, "run", key, url, vkey))


def main():
    tally = Tally()
    try:
        witness(tally)
        run(tally)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        tally.check("the oracle runs", [*str(error).splitlines(), *tail("oracle")])
    return tally.end()


if __name__ == "__main__":
    sys.exit(main())
