//! Where credentials of upstreams are had.

use super::{Is, Required, Says, Table, key};

pub(super) const OAUTH: Table = Table {
    heading: "[upstream.NAME.oauth]",
    about: "An upstream with `url` that wants an OAuth access token: the gateway has one by its client credentials (RFC 6749 §4.4), or one for each instance by token exchange (RFC 8693), and sends it as `Authorization: Bearer`, which `headers` cannot say beside it. See [secrets](../secrets.md).",
    before: "trust_domain = \"acme.example\"\n[upstream.files]\nurl = \"https://api.acme.example/mcp\"\n[upstream.name]\nurl = \"https://api.acme.example/mcp\"\n",
    needs: "token_url = \"https://idp.acme.example/token\"\nclient_id = \"gate\"\nclient_secret = \"vault:acme\"",
    keys: &[
        key(
            "token_url",
            "URL",
            Required,
            "token_url = \"https://idp.acme.example/token\"\nclient_id = \"gate\"\nclient_secret = \"vault:acme\"",
            "The token endpoint: `https`, or on this machine. Redirects are not followed.",
        ),
        key(
            "client_id",
            "text",
            Required,
            "token_url = \"https://idp.acme.example/token\"\nclient_id = \"gate\"\nclient_secret = \"vault:acme\"",
            "What the token endpoint knows this node as.",
        ),
        key(
            "client_secret",
            "reference",
            Required,
            "token_url = \"https://idp.acme.example/token\"\nclient_id = \"gate\"\nclient_secret = \"vault:acme\"",
            "The secret that goes with it: `env:NAME`, `file:PATH` or `vault:NAME`. It is read each time that a token is had.",
        ),
        key(
            "scope",
            "words",
            Says("what the endpoint gives"),
            "scope = \"tools.read tools.call\"",
            "What is asked for.",
        ),
        key(
            "resource",
            "URI",
            Says("–"),
            "resource = \"https://api.acme.example/mcp\"",
            "What the token is to be for (RFC 8707), so that it is good nowhere else.",
        ),
        key(
            "client_auth",
            "`basic`, `post`",
            Is("\"basic\""),
            "client_auth = \"post\"",
            "Where the client says who it is: in a header `Authorization: Basic`, or in the form.",
        ),
        key(
            "grant",
            "`client-credentials`, `token-exchange`",
            Is("\"client-credentials\""),
            "grant = \"token-exchange\"",
            "As whom: the gateway itself, with one token for all, or each instance on behalf of its sponsor (RFC 8693), with a token of its own. The keys below belong to `token-exchange`.",
        ),
        key(
            "issuer",
            "name or URI",
            Says("`token_url`"),
            "grant = \"token-exchange\"\nissuer = \"https://idp.acme.example\"",
            "What the authorization server calls itself: whom the tokens are for that tell it of sponsor and instance.",
        ),
        key(
            "audience",
            "name or URI",
            Says("–"),
            "grant = \"token-exchange\"\naudience = \"crm\"",
            "What the token is to be for, by a name that the server knows.",
        ),
        key(
            "subject",
            "`external-id`, `id`",
            Says("`external-id`"),
            "grant = \"token-exchange\"\nsubject = \"id\"",
            "What the server knows sponsors by: what the directory calls them (`tipstaff sponsor link`), or their id here.",
        ),
        key(
            "revocation_url",
            "URL",
            Says("–"),
            "grant = \"token-exchange\"\nrevocation_url = \"https://idp.acme.example/revoke\"",
            "Where tokens are given back when their instance is over (RFC 7009). Without it they are good until they expire.",
        ),
    ],
};
