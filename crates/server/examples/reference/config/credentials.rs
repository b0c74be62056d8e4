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

pub(super) const OPENBAO: Table = Table {
    heading: "[openbao.NAME]",
    about: "An OpenBao or HashiCorp Vault server that `env` and `headers` of upstreams refer to with `openbao:NAME/PATH#FIELD`, and as whom it is asked: one of `token`, `approle` and `kubernetes`. See [secrets](../secrets.md).",
    before: "trust_domain = \"acme.example\"\n",
    needs: "address = \"https://bao.acme.example:8200\"\ntoken = \"file:/run/secrets/bao-token\"",
    keys: &[
        key(
            "address",
            "URL",
            Required,
            "address = \"https://bao.acme.example:8200\"\ntoken = \"file:/run/secrets/bao-token\"",
            "Where it is, without `/v1`: `https` with a certificate that the system trusts, or on this machine. Redirects are not followed.",
        ),
        key(
            "namespace",
            "path",
            Says("–"),
            "namespace = \"team/a\"",
            "The namespace there (`X-Vault-Namespace`).",
        ),
        key(
            "token",
            "reference",
            Says("–"),
            "address = \"https://bao.acme.example:8200\"\ntoken = \"file:/run/secrets/bao-token\"",
            "A token that somebody made: `env:NAME`, `file:PATH` or `vault:NAME`. It is renewed while it can be, and never revoked from here.",
        ),
        key(
            "approle",
            "table",
            Says("–"),
            "address = \"https://bao.acme.example:8200\"\napprole = { role_id = \"gate\", secret_id = \"file:/run/secrets/bao-secret-id\" }",
            "A login by AppRole: `role_id`, a reference `secret_id`, and `mount`, if it is not `approle`.",
        ),
        key(
            "kubernetes",
            "table",
            Says("–"),
            "address = \"https://bao.acme.example:8200\"\nkubernetes = { role = \"gate\", jwt = \"file:/var/run/secrets/kubernetes.io/serviceaccount/token\" }",
            "A login by the token of a Kubernetes service account: `role`, a reference `jwt`, and `mount`, if it is not `kubernetes`.",
        ),
    ],
};
