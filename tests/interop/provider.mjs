// An OpenID provider of others, with the sign-in and consent pages that it brings along.
//
//     provider.mjs PORT CALLBACK READY
//
// Whoever types a name is that person. It knows one client, the node, which comes back to CALLBACK.

import { createRequire } from "node:module";
import { writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [port, callback, ready] = process.argv.slice(2);
const require = createRequire(`${process.env.INTEROP_NODE}/`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

const url = `http://127.0.0.1:${port}`;
const provider = new Provider(url, {
  clients: [
    {
      client_id: "tipstaff",
      client_secret: "s3cret/+",
      redirect_uris: [callback],
      grant_types: ["authorization_code"],
      response_types: ["code"],
    },
  ],
  cookies: { keys: ["interop"] },
  pkce: { required: () => true },
});
provider.on("server_error", (_, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1", () => writeFileSync(ready, JSON.stringify({ url })));
