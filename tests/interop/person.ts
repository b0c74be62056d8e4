// The TypeScript SDK's own way to a token: prints where its person is to go, reads from stdin the query
// with which they came back, and prints what a tool then says, and what it asked for.
//
//   person.ts URL CALLBACK TOOL

import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline/promises";

const require = createRequire(join(process.env.INTEROP_NODE ?? ".", "package.json"));
const { Client, StreamableHTTPClientTransport, UnauthorizedError } = require("@modelcontextprotocol/client");

const [url, callback, name] = process.argv.slice(2);
const print = (value: unknown) => console.log(JSON.stringify(value));
const kept: Record<string, any> = {};

const authProvider = {
  redirectUrl: callback,
  clientMetadata: { client_name: "Another editor", redirect_uris: [callback], token_endpoint_auth_method: "none" },
  state: () => "a state & more",
  clientInformation: () => kept.client,
  saveClientInformation: (client: unknown) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens: unknown) => void (kept.tokens = tokens),
  redirectToAuthorization: (to: URL) => print({ go: to.href }),
  saveCodeVerifier: (verifier: string) => void (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  saveDiscoveryState: (state: unknown) => void (kept.discovered = state),
  discoveryState: () => kept.discovered,
};

const connect = async () => {
  const transport = new StreamableHTTPClientTransport(new URL(url), { authProvider });
  const client = new Client({ name: "tipstaff-interop", version: "1" });
  try {
    await client.connect(transport);
    return { client };
  } catch (error) {
    if (!(error instanceof UnauthorizedError)) throw error;
    return { transport };
  }
};

const { transport } = await connect();
const lines = createInterface({ input: process.stdin });
const back = new URLSearchParams(await lines.question(""));
lines.close();
if (back.get("state") !== authProvider.state()) throw new Error(`the state came back as ${back.get("state")}`);
await transport.finishAuth(back);
const { client } = await connect();
const result = await client.callTool({ name, arguments: {} });
print({ said: result.content[0].text });
await client.close();
