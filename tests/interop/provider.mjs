// An OpenID provider of others, with the sign-in and consent pages that it brings along.
//
//     provider.mjs PORT CALLBACK READY
//
// Whoever types a name is that person. It knows two clients: the node, which comes back to CALLBACK,
// and an editor on the person's machine. The editor's ID token can be exchanged for an assertion about
// its person (ID-JAG), for a node that knows the editor by the `client_id` that it asks with.

import { createRequire } from "node:module";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [port, callback, ready] = process.argv.slice(2);
const require = createRequire(`${process.env.INTEROP_NODE}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { default: Provider, errors } = await load("oidc-provider");
const { SignJWT } = await load("jose");

const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const [ID_TOKEN, ID_JAG] = ["id_token", "id-jag"].map((type) => `urn:ietf:params:oauth:token-type:${type}`);

const url = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = { ...privateKey.export({ format: "jwk" }), kid: "signs", use: "sig", alg: "RS256" };
const code = { grant_types: ["authorization_code"], response_types: ["code"] };
const provider = new Provider(url, {
  clients: [
    { ...code, client_id: "tipstaff", client_secret: "s3cret/+", redirect_uris: [callback] },
    {
      ...code,
      client_id: "editor",
      application_type: "native",
      token_endpoint_auth_method: "none",
      redirect_uris: ["http://127.0.0.1/callback"],
      grant_types: [...code.grant_types, EXCHANGE],
    },
  ],
  cookies: { keys: ["interop"] },
  jwks: { keys: [key] },
  pkce: { required: () => true },
});
const parameters = ["subject_token", "subject_token_type", "requested_token_type", "audience", "resource", "known_as"];
provider.registerGrantType(
  EXCHANGE,
  async (ctx) => {
    const { params, client } = ctx.oidc;
    if (params.subject_token_type !== ID_TOKEN || params.requested_token_type !== ID_JAG) {
      throw new errors.InvalidRequest("an ID token is exchanged for an ID-JAG");
    }
    const { payload } = await provider.IdToken.validate(params.subject_token, client);
    const assertion = new SignJWT({ client_id: params.known_as, resource: params.resource })
      .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: "oauth-id-jag+jwt" })
      .setIssuer(url)
      .setSubject(payload.sub)
      .setAudience(params.audience)
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime("5m");
    ctx.body = { issued_token_type: ID_JAG, access_token: await assertion.sign(privateKey), token_type: "N_A", expires_in: 300 };
  },
  parameters,
);
provider.on("server_error", (_, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1", () => writeFileSync(ready, JSON.stringify({ url })));
