// The TypeScript SDK's client, driven through a list of operations, printing what came back as JSON.
//
//   matrix.ts --era 2025-06-18|2025-11-25|2026-07-28 --operations NAME [--token FILE] (--url URL | -- COMMAND ARG...)
//
// The same as matrix.py, whose words say what is printed. Node runs this file as it stands; INTEROP_NODE
// names the folder where the SDK is installed.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";

type Json = Record<string, any>;
type Transport = { onmessage?: (message: Json, extra?: unknown) => void; send: (message: Json, options?: unknown) => Promise<void> };

const require = createRequire(join(process.env.INTEROP_NODE ?? ".", "package.json"));
const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

const MODERN = "2026-07-28";

/** What came in since it was last cut, each with the request that it answers. */
class Tape {
  private asked = new Map<unknown, string>();
  private came: Json[] = [];

  /** Shows everything that passes the transport to this tape. */
  on(transport: Transport): Transport {
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      for (const one of Array.isArray(message) ? message : [message]) {
        if (one.method !== undefined && one.id !== undefined) this.asked.set(one.id, one.method);
      }
      return send(message, options);
    };
    let taped: Transport["onmessage"];
    Object.defineProperty(transport, "onmessage", {
      get: () => taped,
      set: (listener: Transport["onmessage"]) => {
        taped = listener && ((message, extra) => {
          this.received(message);
          listener(message, extra);
        });
      },
    });
    return transport;
  }

  private received(message: Json) {
    if (message.method !== undefined) {
      const kind = message.id === undefined ? "notification" : "request";
      this.came.push({ [kind]: message.method, params: message.params ?? null });
      return;
    }
    const { result, error } = message;
    const answers = this.asked.get(message.id) ?? null;
    this.came.push(result === undefined ? { answers, error } : { answers, result });
  }

  cut(): Json[] {
    return this.came.splice(0);
  }
}

async function perform(client: any, op: Json): Promise<void> {
  const fresh = { cacheMode: "bypass" };
  switch (op.op) {
    case "tools/list":
      return client.listTools({}, fresh);
    case "resources/list":
      return client.listResources({}, fresh);
    case "resources/templates/list":
      return client.listResourceTemplates({}, fresh);
    case "prompts/list":
      return client.listPrompts({}, fresh);
    case "tools/call":
      return client.callTool(call(op), op.progress ? { onprogress: () => {} } : undefined);
    case "resources/read":
      return client.readResource({ uri: op.uri }, fresh);
    case "prompts/get":
      return client.getPrompt(call(op));
    case "completion/complete":
      return client.complete({ ref: op.ref, argument: op.argument });
    case "ping":
      return client.ping();
    case "logging/setLevel":
      return client.setLoggingLevel(op.level);
    case "cancel":
      return cancel(client, op);
    case "together":
      await Promise.all(op.operations.map((one: Json) => perform(client, one)));
      return;
    default:
      throw new Error(`no operation \`${op.op}\``);
  }
}

function call(op: Json): Json {
  return op.arguments === undefined ? { name: op.name } : { name: op.name, arguments: op.arguments };
}

/** Starts a call, gives it up as soon as it has said that it runs, and goes on. */
async function cancel(client: any, op: Json): Promise<void> {
  const abort = new AbortController();
  const given = client.callTool(call(op), { signal: abort.signal, onprogress: () => abort.abort() });
  await given.catch((error: unknown) => {
    if (!abort.signal.aborted) throw error;
  });
}

/** Puts the run's own paths into an operation. */
function fill(value: any, variables: Map<string, string>): any {
  if (typeof value === "string") {
    return [...variables].reduce((text, [name, put]) => text.replaceAll(`{${name}}`, put), value);
  }
  if (Array.isArray(value)) return value.map((inner) => fill(inner, variables));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, fill(inner, variables)]));
}

function print(line: Json) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      era: { type: "string" },
      operations: { type: "string" },
      crossing: { type: "boolean" },
      set: { type: "string", multiple: true, default: [] },
      url: { type: "string" },
      token: { type: "string" },
    },
  });
  const era = values.era ?? MODERN;
  const scripts = JSON.parse(readFileSync(new URL("operations.json", import.meta.url), "utf8"));
  const variables = new Map(values.set.map((pair) => pair.split(/=(.*)/s, 2) as [string, string]));
  const script = fill(scripts[values.operations ?? ""], variables);
  const handshakeEra = era === MODERN ? MODERN : "2025-11-25";
  const operations = script.operations.filter(
    (op: Json) => (op.era ?? handshakeEra) === handshakeEra && !(values.crossing && op.within),
  );

  const tape = new Tape();
  const headers = values.token ? { Authorization: `Bearer ${readFileSync(values.token, "utf8").trim()}` } : undefined;
  const [command, ...args] = positionals;
  const transport = values.url
    ? new StreamableHTTPClientTransport(new URL(values.url), { requestInit: { headers } })
    : new StdioClientTransport({ command, args });
  // Between eras a client cannot be asked anything, so it does not offer to be.
  const roots = values.crossing ? undefined : script.roots;
  const askable = values.crossing ? {} : { elicitation: {}, sampling: {}, ...(roots ? { roots: {} } : {}) };
  const client = new Client(
    { name: "tipstaff-interop", version: "1" },
    {
      capabilities: askable,
      ...(era === MODERN
        ? { versionNegotiation: { mode: { pin: MODERN } } }
        : { supportedProtocolVersions: [era], versionNegotiation: { mode: "legacy" } }),
    },
  );
  const words = { type: "text", text: "A sampled answer" };
  const form = { name: "Ada", username: "ada", email: "ada@example.org" };
  if (!values.crossing) {
    client.setRequestHandler("elicitation/create", () => ({ action: "accept", content: form }));
    client.setRequestHandler("sampling/createMessage", () => ({ role: "assistant", content: words, model: "none", stopReason: "endTurn" }));
  }
  if (roots) client.setRequestHandler("roots/list", () => ({ roots }));

  await client.connect(tape.on(transport));
  print({ op: "connect", spoken: client.getNegotiatedProtocolVersion(), came: tape.cut() });
  for (const op of operations) {
    let outcome = "done";
    try {
      await perform(client, op);
    } catch (error) {
      outcome = String(error);
    }
    print({ op: op.label ?? op.op, outcome, came: tape.cut() });
  }
  await client.close();
}

await main();
