// OAuth clients of others that ask a node for tokens: oauth4webapi, which takes nothing that the RFCs do not
// allow, and the TypeScript SDK's own provider for programs without people.
//
//   outsider.ts NODE RESOURCE CALLBACK PROVIDER AGENT PURPOSE ROBOT KEY TOOL
//
// AGENT is what people start, ROBOT what KEY starts. Prints a line for each check, and where the person is to go;
// reads from stdin the query with which they came back.

import { createRequire } from "node:module";
import { createServer } from "node:http";
import { join } from "node:path";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline/promises";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.env.INTEROP_NODE ?? ".", "package.json"));
const oauth = await import(pathToFileURL(require.resolve("oauth4webapi")).href);
const { Client, PrivateKeyJwtProvider, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");

const [node, resource, callback, providerUrl, agent, purpose, robot, keyFile, tool] = process.argv.slice(2);
const plain = { [oauth.allowInsecureRequests]: true };
const MODERN = "2026-07-28";
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const type = (name: string) => `urn:ietf:params:oauth:token-type:${name}`;

const print = (value: unknown) => console.log(JSON.stringify(value));
const lines = createInterface({ input: process.stdin });

/** One check: passes unless it throws, or says what is wrong. */
const check = async (name: string, run: () => Promise<unknown>) => {
  let wrong: unknown[] = [];
  let value: unknown;
  try {
    value = await run();
    if (Array.isArray(value)) wrong = value;
  } catch (error: any) {
    wrong = [`${error.message}: ${JSON.stringify(error.cause?.error ?? error.cause?.body ?? error.cause?.message ?? null)}`];
  }
  print({ check: name, wrong });
  return value as any;
};

const same = (found: unknown, wanted: unknown) =>
  JSON.stringify(found) === JSON.stringify(wanted) ? [] : [`expected ${JSON.stringify(wanted)}, found ${JSON.stringify(found)}`];

/** What the node refuses with. */
const refused = async (answered: Promise<unknown>, wanted: string) => {
  try {
    await answered;
    return [`expected ${wanted}, and it was given`];
  } catch (error: any) {
    const challenge = Array.isArray(error.cause) ? error.cause.map((one: any) => one.parameters.error).find(Boolean) : undefined;
    return same(error.error ?? challenge ?? error.message, wanted);
  }
};

const claims = (token: string) => JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());

// Where clients describe themselves, and their keys lie.
const documents = new Map<string, unknown>();
const shelf = createServer((request, response) => {
  const document = documents.get(request.url ?? "");
  response.writeHead(document ? 200 : 404, { "Content-Type": "application/json" });
  response.end(JSON.stringify(document ?? {}));
});
await new Promise<void>((done) => shelf.listen(0, "127.0.0.1", done));
const here = `http://127.0.0.1:${(shelf.address() as any).port}`;

const describe = (name: string, more: object) => {
  const client_id = `${here}/${name}.json`;
  documents.set(`/${name}.json`, {
    client_id,
    client_name: `The ${name} editor`,
    redirect_uris: [callback],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    ...more,
  });
  return { client_id };
};

// What every client finds out.

let as: any;
const body = JSON.stringify({
  jsonrpc: "2.0",
  id: 1,
  method: "tools/call",
  params: {
    name: tool,
    arguments: {},
    _meta: {
      "io.modelcontextprotocol/protocolVersion": MODERN,
      "io.modelcontextprotocol/clientInfo": { name: "outsider", version: "1" },
      "io.modelcontextprotocol/clientCapabilities": {},
    },
  },
});
const headers = () =>
  new Headers({
    "Content-Type": "application/json",
    Accept: "application/json, text/event-stream",
    "MCP-Protocol-Version": MODERN,
    "Mcp-Method": "tools/call",
    "Mcp-Name": tool,
  });

/** A call, as RFC 6750 and RFC 9449 have it; and the request that went out for it. */
const call = async (token: string, DPoP?: unknown) => {
  let sent: any;
  const watch = { [oauth.customFetch]: (url: string, init: any) => ((sent = { url, init }), fetch(url, init)) };
  const response = await oauth.protectedResourceRequest(token, "POST", new URL(resource), headers(), body, { DPoP, ...plain, ...watch });
  return { sent, said: await response.text(), status: response.status };
};
const answered = ({ status, said }: any) => (status === 200 && said.includes("simple text") ? [] : [`${status}: ${said}`]);

await check("a refused call leads to what to ask", async () => {
  try {
    await call("nothing");
    return ["it was let in"];
  } catch (error: any) {
    const found = error.cause.map((one: any) => [one.scheme, one.parameters.resource_metadata]);
    const wanted = `${node}/.well-known/oauth-protected-resource${new URL(resource).pathname}`;
    return same(found, [["bearer", wanted], ["dpop", wanted]]);
  }
});
await check("metadata of RFC 9728 and RFC 8414 hold what they must", async () => {
  const protectedBy = await oauth.processResourceDiscoveryResponse(new URL(resource), await oauth.resourceDiscoveryRequest(new URL(resource), plain));
  const issuer = new URL(protectedBy.authorization_servers[0]);
  as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: "oauth2", ...plain }));
});

// People's clients.

/** The person is asked, and the client gets what they said. */
const code = async (server: any, client: any, more: Record<string, string>) => {
  const [verifier, state] = [oauth.generateRandomCodeVerifier(), oauth.generateRandomState()];
  const url = new URL(server.authorization_endpoint);
  const parameters = {
    client_id: client.client_id,
    redirect_uri: callback,
    response_type: "code",
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
    state,
    ...more,
  };
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  print({ go: url.href, at: server.issuer });
  const back = new URLSearchParams(await lines.question(""));
  // Also that `iss` is there, and is the server's (RFC 9207).
  return { parameters: oauth.validateAuthResponse(server, client, back, state), verifier };
};

const redeem = async (client: any, auth: any, { parameters, verifier }: any, options: object) => {
  const asked = await oauth.authorizationCodeGrantRequest(as, client, auth, parameters, callback, verifier, { ...plain, ...options });
  return oauth.processAuthorizationCodeResponse(as, client, asked);
};
const again = async (client: any, auth: any, token: string, options: object) =>
  oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, auth, token, { ...plain, ...options }));
const ask = async (server: any, client: any, auth: any, grant: string, parameters: object, options: object = {}) => {
  const response = await oauth.genericTokenEndpointRequest(server, client, auth, grant, parameters, { ...plain, ...options });
  return oauth.processGenericTokenEndpointResponse(server, client, response, { recognizedTokenTypes: { n_a: () => {} } });
};

{
  const client = describe("public", { token_endpoint_auth_method: "none" });
  const [own, other] = [await oauth.generateKeyPair("Ed25519"), await oauth.generateKeyPair("ES256")];
  const DPoP = oauth.DPoP(client, own);
  const thief = oauth.DPoP(client, other);
  const tokens = await check("a client that describes itself gets a token that is bound to its key", async () => {
    const given = await code(as, client, { resource, dpop_jkt: await DPoP.calculateThumbprint() });
    return redeem(client, oauth.None(), given, { DPoP, additionalParameters: { resource } });
  });
  let sent: any;
  await check("and calls with it", async () => {
    const made = await call(tokens.access_token, DPoP);
    sent = made.sent;
    return answered(made);
  });
  await check("its call is one of RFC 9068 and RFC 9449 to a server of others", async () => {
    const request = new Request(sent.url, sent.init);
    const read = await oauth.validateJwtAccessToken(as, request, resource, {
      ...plain,
      requireDPoP: true,
      signingAlgorithms: ["EdDSA", "Ed25519", "ES256"],
    });
    return same([read.iss, read.client_id, typeof read.jti], [node, agent, "string"]);
  });
  await check("a proof is good once", async () => {
    const response = await fetch(sent.url, { ...sent.init });
    return same([response.status, response.headers.get("www-authenticate")?.includes("invalid_dpop_proof")], [401, true]);
  });
  await check("without its key, or with another, the token is nothing", async () => [
    ...(await refused(call(tokens.access_token), "invalid_token")),
    ...(await refused(call(tokens.access_token, thief), "invalid_token")),
  ]);
  await check("nor is the refresh token", async () => [
    ...(await refused(again(client, oauth.None(), tokens.refresh_token, { DPoP: thief }), "invalid_grant")),
    ...(await refused(again(client, oauth.None(), tokens.refresh_token, {}), "invalid_grant")),
  ]);
  await check("with its key it gives another", async () => {
    const fresh = await again(client, oauth.None(), tokens.refresh_token, { DPoP, additionalParameters: { resource } });
    return answered(await call(fresh.access_token, DPoP));
  });
}

{
  const [pair, other] = [await oauth.generateKeyPair("ES256", { extractable: true }), await oauth.generateKeyPair("ES256")];
  documents.set("/keys.json", { keys: [{ ...(await crypto.subtle.exportKey("jwk", pair.publicKey)), kid: "one", use: "sig", alg: "ES256" }] });
  const client = describe("vouched", {
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: "ES256",
    jwks_uri: `${here}/keys.json`,
  });
  const auth = oauth.PrivateKeyJwt({ key: pair.privateKey, kid: "one" });
  const options = { additionalParameters: { resource } };
  await check("a client with keys at an address is nobody without them", async () => {
    const [first, second] = [await code(as, client, { resource }), await code(as, client, { resource })];
    return [
      ...(await refused(redeem(client, oauth.None(), first, options), "invalid_client")),
      ...(await refused(redeem(client, oauth.PrivateKeyJwt({ key: other.privateKey, kid: "one" }), second, options), "invalid_client")),
    ];
  });
  const tokens = await check("with them it gets a token", async () => redeem(client, auth, await code(as, client, { resource }), options));
  await check("and calls as a bearer", async () => answered(await call(tokens.access_token)));
  await check("its refresh token is nothing without them", async () => refused(again(client, oauth.None(), tokens.refresh_token, {}), "invalid_client"));
  await check("an assertion is good once", async () => {
    let form: any;
    const watch = { [oauth.customFetch]: (url: string, init: any) => ((form = init), fetch(url, init)) };
    const fresh = await again(client, auth, tokens.refresh_token, { ...options, ...watch });
    form.body.set("refresh_token", fresh.refresh_token);
    const response = await fetch(as.token_endpoint, form);
    return same([response.status, (await response.json()).error], [401, "invalid_client"]);
  });
}

// Programs without people.

const file = JSON.parse(readFileSync(keyFile, "utf8"));
const key = await crypto.subtle.importKey("jwk", { ...file.key, alg: undefined }, "Ed25519", false, ["sign"]);
const machine = { client_id: robot };
const proves = oauth.PrivateKeyJwt({ key, kid: file.kid });

{
  const DPoP = oauth.DPoP(machine, await oauth.generateKeyPair("ES256"));
  const given = async (options: object) =>
    oauth.processClientCredentialsResponse(as, machine, await oauth.clientCredentialsGrantRequest(as, machine, proves, { resource }, { ...plain, ...options }));
  const tokens = await check("an agent gets a token with its key, and need not name its one purpose", async () => given({ DPoP }));
  await check("it calls with it", async () => answered(await call(tokens.access_token, DPoP)));
  const introspected = async (token: string) =>
    oauth.processIntrospectionResponse(as, machine, await oauth.introspectionRequest(as, machine, proves, token, plain));
  await check("introspection of RFC 7662 says that it is good", async () => {
    const { active, client_id, cnf } = await introspected(tokens.access_token);
    return same([active, client_id, cnf?.jkt], [true, robot, await DPoP.calculateThumbprint()]);
  });
  const bearer = await check("as a bearer, it hands on to another of itself by RFC 8693", async () => given({}));
  await check("whose token tells the chain", async () => {
    const parameters = { subject_token: bearer.access_token, subject_token_type: type("access_token"), resource };
    const child = await ask(as, machine, proves, EXCHANGE, parameters, { DPoP });
    const act = claims(child.access_token).act;
    return [
      ...same([child.issued_token_type, child.token_type, act.act.sub === claims(bearer.access_token).act.sub], [type("access_token"), "dpop", true]),
      ...answered(await call(child.access_token, DPoP)),
    ];
  });
  await check("revocation of RFC 7009 ends it", async () => {
    await oauth.processRevocationResponse(await oauth.revocationRequest(as, machine, proves, tokens.access_token, plain));
    return [
      ...same((await introspected(tokens.access_token)).active, false),
      ...(await refused(call(tokens.access_token, DPoP), "invalid_token")),
    ];
  });
}

await check("the SDK's provider with a private key lets a program in", async () => {
  const authProvider = new PrivateKeyJwtProvider({ clientId: robot, privateKey: { ...file.key, alg: undefined }, algorithm: "EdDSA", expectedIssuer: node });
  const client = new Client({ name: "tipstaff-interop", version: "1" });
  await client.connect(new StreamableHTTPClientTransport(new URL(resource), { authProvider }));
  const result = await client.callTool({ name: tool, arguments: {} });
  await client.close();
  return result.content[0].text.includes("simple text") ? [] : [JSON.stringify(result)];
});

// The company's provider says who somebody is, and the agent acts for them.

{
  const idp = await oauth.processDiscoveryResponse(new URL(providerUrl), await oauth.discoveryRequest(new URL(providerUrl), plain));
  const editor = { client_id: "editor" };
  const DPoP = oauth.DPoP(machine, await oauth.generateKeyPair("ES256"));
  const idToken = await check("an editor signs its person in at the provider", async () => {
    const { parameters, verifier } = await code(idp, editor, { scope: "openid" });
    const asked = await oauth.authorizationCodeGrantRequest(idp, editor, oauth.None(), parameters, callback, verifier, plain);
    return (await oauth.processAuthorizationCodeResponse(idp, editor, asked, { requireIdToken: true })).id_token;
  });
  const grant = async (more: object = {}) => {
    const parameters = {
      subject_token: idToken,
      subject_token_type: type("id_token"),
      requested_token_type: type("id-jag"),
      audience: as.issuer,
      known_as: robot,
      resource,
      ...more,
    };
    return (await ask(idp, editor, oauth.None(), EXCHANGE, parameters)).access_token;
  };
  const shown = (assertion: string) => ask(as, machine, proves, JWT_BEARER, { assertion, resource }, { DPoP });
  const assertion = await grant();
  await check("its identity assertion starts the agent for the person (ID-JAG)", async () => {
    const tokens = await shown(assertion);
    print({ person: claims(tokens.access_token).sub });
    return [...same(tokens.refresh_token, undefined), ...answered(await call(tokens.access_token, DPoP))];
  });
  await check("once", async () => refused(shown(assertion), "invalid_grant"));
  await check("not without the agent's key", async () =>
    refused(ask(as, machine, oauth.None(), JWT_BEARER, { assertion: await grant(), resource }, { DPoP }), "invalid_grant"));
  await check("not if it is for another node, another client or another server", async () => [
    ...(await refused(shown(await grant({ audience: "https://another.example" })), "invalid_grant")),
    ...(await refused(shown(await grant({ known_as: "another" })), "invalid_grant")),
    ...(await refused(shown(await grant({ resource: `${node}/mcp/another` })), "invalid_grant")),
  ]);
  await check("and an ID token is none", async () => refused(shown(idToken), "invalid_grant"));
}

lines.close();
shelf.close();
