//! `tipstaff.toml`, key by key. The table is held against the parser: a key it does not have, a
//! default that is none and an example that is not taken are errors.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use server::config::{Config, ConfigError};
use vocab::Digest;

use crate::{Sources, add, code, head, row};

mod credentials;

/// A key.
struct Key {
    name: &'static str,
    kind: &'static str,
    /// Its default, as TOML.
    default: Default,
    /// Lines that the parser takes in its table.
    example: &'static str,
    meaning: &'static str,
}

enum Default {
    /// It must be given.
    None,
    /// As TOML: giving it changes nothing.
    Is(&'static str),
    /// In words, where TOML has no value for it.
    Says(&'static str),
}

/// A table of the file.
struct Table {
    /// Its heading; empty for what stands before every table.
    heading: &'static str,
    about: &'static str,
    /// What stands before an example in it, to make a whole file.
    before: &'static str,
    /// What must be in it beside the example, unless the example is about the same.
    needs: &'static str,
    keys: &'static [Key],
}

use Default::{Is, None as Required, Says};

const fn key(
    name: &'static str,
    kind: &'static str,
    default: Default,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        example,
        meaning,
    }
}

const TABLES: &[Table] = &[
    Table {
        heading: "",
        about: "At the top of the file, before every table.",
        before: "",
        needs: "trust_domain = \"acme.example\"",
        keys: &[
            key(
                "trust_domain",
                "name",
                Required,
                "trust_domain = \"acme.example\"",
                "The realm that every name of this node belongs to. It is in every record: choose it once.",
            ),
            key(
                "node",
                "text",
                Is("\"node-1\""),
                "node = \"gate-2\"",
                "This node's name in records: 1 to 64 visible ASCII characters.",
            ),
            key(
                "data",
                "path",
                Is("\"data\""),
                "data = \"/var/lib/tipstaff\"",
                "The data folder: the logs, their blobs and keys that can be erased.",
            ),
            key(
                "keys",
                "path",
                Is("\"keys\""),
                "keys = \"/etc/tipstaff/keys\"",
                "The folder of the node's own keys. Keep it out of the data folder's backups: it opens what is sealed there.",
            ),
            key(
                "policies",
                "path",
                Is("\"policies\""),
                "policies = \"policies\"",
                "The folder of policy files (`*.cedar`) and their cases (`*.test.yaml`).",
            ),
            key(
                "listen",
                "ADDRESS:PORT",
                Is("\"127.0.0.1:7420\""),
                "listen = \"127.0.0.1:0\"",
                "Where agents reach the node. Port 0 takes a free one. `tipstaff up --listen` goes before it.",
            ),
            key(
                "public_url",
                "URL",
                Says("the listener's"),
                "public_url = \"https://gate.acme.example\"",
                "The URL that agents use: scheme, host and perhaps port. It fixes the issuer, the audiences and what DPoP proofs are about, whatever the listener is.",
            ),
            key(
                "environment",
                "`development`, `production`",
                Is("\"development\""),
                "environment = \"production\"",
                "In development an edited policy file is activated by itself within a second. In production policies change only by `tipstaff policy apply`.",
            ),
            key(
                "allowed_origins",
                "list of origins",
                Is("[]"),
                "allowed_origins = [\"https://app.acme.example\"]",
                "Origins whose pages may be MCP clients in a browser: they may read the metadata, register, ask for tokens, revoke them and call. A request with any other `Origin` is refused, and so is every other route's with one of these; programs send none. In development the pages of this machine (`http://localhost:…`) may be clients without being listed.",
            ),
            key(
                "allowed_hosts",
                "list of host names",
                Is("[]"),
                "allowed_hosts = [\"gate.acme.example\"]",
                "Names that requests may call the node by, beside those of the listener and of `public_url`.",
            ),
            key(
                "show_policies",
                "boolean",
                Is("true"),
                "show_policies = false",
                "Whether replies name the policies that decided. Records always do.",
            ),
        ],
    },
    Table {
        heading: "[inspect]",
        about: "What is looked for in what passes, beside the rules that ship: see [Inspection](../inspection.md). It is read at the start.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "rules",
                "list of paths",
                Is("[]"),
                "rules = [\"rules/own.toml\"]",
                "Files of rules: in our shape (`[[rule]]`, as those in `crates/inspect/rules`) or that of gitleaks (`[[rules]]`). One that cannot be read keeps the node from starting.",
            ),
            key(
                "leave_out",
                "list of texts",
                Is("[]"),
                "leave_out = [\"phone-number\"]",
                "Rules that are not looked for, by their ids, ours or others.",
            ),
        ],
    },
    Table {
        heading: "[ledger]",
        about: "Where the logs' checkpoints go, and when the disk is too full.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "anchor",
                "text, or list of texts",
                Is("[]"),
                "anchor = [\"/mnt/elsewhere\", \"https://anchor.acme.example/log\", \"witness:https://w.example w.example+3e6d1c1c+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs\"]",
                "Places outside the data folder that keep our checkpoints: a folder on another mount, an HTTP endpoint that takes a checkpoint by `POST`, or a C2SP witness, written `witness:URL VKEY`. What witnesses say is kept: `data/LOG.cosigned` is the newest checkpoint that one cosigned, with all their cosignatures on it; the last word of a witness that did not cosign that one stays in `data/LOG.KEYID.cosigned`. Without an anchor, whoever can replace the whole folder can replace its history.",
            ),
            key(
                "quorum",
                "number",
                Is("0"),
                "anchor = \"witness:https://w.example w.example+3e6d1c1c+BOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs\"\nquorum = 1",
                "How many of the witnesses among the anchors must have cosigned a checkpoint before `ledger export` and `ledger proof` hand out what it covers. Export then ends with what so many agreed on, and a proof carries their cosignatures; `doctor` says how much that is, and which witness is missing. `data/LOG.quorum.cosigned` is the newest checkpoint with enough of them. 0 asks for none.",
            ),
            key(
                "warn_free_mib",
                "MiB",
                Is("1024"),
                "warn_free_mib = 4096",
                "Free space under which the node warns: in the log, in the control log and in `/readyz`.",
            ),
            key(
                "refuse_free_mib",
                "MiB",
                Is("64"),
                "refuse_free_mib = 128",
                "Free space under which calls are refused, so that outcomes and administration still have room.",
            ),
            key(
                "timeout",
                "seconds",
                Is("10"),
                "timeout = 30",
                "How long a call waits for its decision's record. Then it is refused; if the record is written after all, an outcome says that nothing was sent.",
            ),
            key(
                "key_rotation_days",
                "days",
                Is("0"),
                "key_rotation_days = 365",
                "How long one key signs a log before another is announced and takes its place. 0: until `tipstaff keys rotate`. Witnesses have to be told of a new key. More than `key_overlap_days`, or 0.",
            ),
            key(
                "key_overlap_days",
                "days",
                Is("30"),
                "key_overlap_days = 14",
                "How long the key before signs checkpoints beside the present one.",
            ),
        ],
    },
    Table {
        heading: "[tokens]",
        about: "How access tokens are signed. Keys lie in the keys folder: `token.key` signs, `token.next.key` is to sign next and is published already.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "rotation_days",
                "days",
                Is("30"),
                "rotation_days = 7",
                "How long one key signs before the next one does. The one before goes on verifying until its last token has expired, five minutes later. 0 leaves it to `tipstaff keys rotate token`.",
            ),
            key(
                "algorithm",
                "`EdDSA` or `ES256`",
                Is("\"EdDSA\""),
                "algorithm = \"ES256\"",
                "What keys that are made from now on sign with: Ed25519, or P-256 for verifiers that know no better. The next start publishes a next key of that sort, and the change of keys after that has it sign.",
            ),
        ],
    },
    Table {
        heading: "[limits]",
        about: "Limits on what instances may do. They come beside the policies, never instead.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "calls_per_minute",
                "number",
                Is("0"),
                "calls_per_minute = 600",
                "Calls in any minute by one agent, over all its instances, counted since the node's start; 0 is no limit. An agent registered with a limit of its own has that one.",
            ),
            key(
                "same_denials",
                "number",
                Is("5"),
                "same_denials = 3",
                "Identical denials of one instance within a minute after which it is told to stop asking; 0 is never.",
            ),
            key(
                "calls_in_flight",
                "number",
                Is("64"),
                "calls_in_flight = 8",
                "Calls that one instance may have in flight.",
            ),
            key(
                "denied_kib_per_minute",
                "KiB",
                Is("4096"),
                "denied_kib_per_minute = 256",
                "Arguments of denied calls that are kept in any minute for one agent. Beyond that, and of arguments longer than 16 KiB, only the length and the digest are kept; `ledger replay` counts such denials as `bounded`. 0 keeps none. Permitted calls are always kept whole.",
            ),
        ],
    },
    Table {
        heading: "[break_glass]",
        about: "How long two administrators may let an agent run that nobody answers for: see [break-glass](../break-glass.md).",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "max_minutes",
                "minutes",
                Is("240"),
                "max_minutes = 60",
                "The longest that one may hold, at most a day. 0: there is none on this node.",
            ),
            key(
                "approve_minutes",
                "minutes",
                Is("15"),
                "approve_minutes = 5",
                "How long the second administrator may take.",
            ),
        ],
    },
    Table {
        heading: "[approvals]",
        about: "How long people may take to approve a call that policy holds, and how they are told: see [approvals](../approvals.md).",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "lasts_minutes",
                "minutes",
                Is("60"),
                "lasts_minutes = 30",
                "How long people may take, at most a day; and how long an approval may be used once it is given.",
            ),
            key(
                "pending_per_instance",
                "number",
                Is("8"),
                "pending_per_instance = 4",
                "Calls of one instance that people are asked about at once, at most 64. Of one agent it is 64, and 512 in all. What is held beyond that is held, and nobody is asked.",
            ),
            key(
                "webhook",
                "`https` URL",
                Says("–"),
                "webhook = \"https://hooks.acme.example/tipstaff\"\nwebhook_secret = \"env:TIPSTAFF_WEBHOOK_SECRET\"",
                "Where a signed message is sent for each approval that waits and for how it ends. In plain `http` only an address on this machine.",
            ),
            key(
                "webhook_secret",
                "reference",
                Says("–"),
                "webhook = \"https://hooks.acme.example/tipstaff\"\nwebhook_secret = \"env:TIPSTAFF_WEBHOOK_SECRET\"",
                "What the messages are signed with, as Standard Webhooks says: `whsec_` and the base64 of 24 to 64 random bytes. Two with a space between them, and both sign.",
            ),
        ],
    },
    Table {
        heading: "[agents]",
        about: "What goes for all agents.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "asserted",
                "`run`, `refuse`",
                Says("`run` in development, `refuse` in production"),
                "asserted = \"refuse\"",
                "What becomes of an agent whose sponsor did not accept it, signed in as themselves, but of whom only an administrator said that they answer for it: it runs, and is shown as `asserted`; or it does not run until they accept it.",
            ),
            key(
                "review_days",
                "days",
                Is("90"),
                "review_days = 30",
                "How often somebody has to say that an agent is needed (`tipstaff agent reviewed ID`); accepting or transferring it says so too. `tipstaff agent review` shows those that are due.",
            ),
            key(
                "overdue",
                "`show`, `suspend`",
                Is("\"show\""),
                "overdue = \"suspend\"",
                "What becomes of an agent whose review is overdue: it is only shown, or suspended within a minute.",
            ),
            key(
                "dormant_days",
                "days",
                Is("30"),
                "dormant_days = 7",
                "After how long without a permitted call an agent is shown as dormant.",
            ),
        ],
    },
    Table {
        heading: "[reactions]",
        about: "What follows of what the directory, or who sends security events, says of a sponsor: `revoke-tokens` ends what runs for them, and more may be started; `suspend` stops them and everything they sponsor until it is lifted; `re-accept` stops their agents until they accept them again, signed in as themselves; `force-approval` lets nothing of theirs pass without an approval, which no approval of a call is yet, so nothing passes until the cause is over; `ignore` does nothing. `tipstaff doctor` prints the table in force.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "",
        keys: &[
            key(
                "leaves",
                "`suspend`",
                Is("\"suspend\""),
                "leaves = \"suspend\"",
                "They left: the directory deactivated or deleted them, or a signal said that the account is disabled or purged. This is always so.",
            ),
            key(
                "role_changed",
                "reaction",
                Is("\"re-accept\""),
                "role_changed = \"suspend\"",
                "They have another title or user type.",
            ),
            key(
                "department_changed",
                "reaction",
                Is("\"re-accept\""),
                "department_changed = \"ignore\"",
                "They are in another department.",
            ),
            key(
                "manager_changed",
                "reaction",
                Is("\"ignore\""),
                "manager_changed = \"re-accept\"",
                "They have another manager.",
            ),
            key(
                "group_lost",
                "reaction",
                Is("\"revoke-tokens\""),
                "group_lost = \"re-accept\"",
                "They are not in a group any more. Policies see that with the next call, whatever this says.",
            ),
            key(
                "session_revoked",
                "reaction",
                Is("\"revoke-tokens\""),
                "session_revoked = \"suspend\"",
                "A session of theirs was revoked (CAEP `session-revoked`).",
            ),
            key(
                "credential_changed",
                "reaction",
                Is("\"revoke-tokens\""),
                "credential_changed = \"re-accept\"",
                "A credential of theirs was changed, revoked or deleted (CAEP `credential-change`), or has to be (RISC `account-credential-change-required`).",
            ),
            key(
                "credential_compromised",
                "reaction",
                Is("\"suspend\""),
                "credential_compromised = \"revoke-tokens\"",
                "Others know a credential of theirs (RISC `credential-compromise`).",
            ),
            key(
                "risk_high",
                "reaction",
                Is("\"force-approval\""),
                "risk_high = \"suspend\"",
                "Their account is held to be at high risk (CAEP `risk-level-change`). What `force-approval` stopped goes on when the risk is not high any more.",
            ),
            key(
                "risk_medium",
                "reaction",
                Is("\"revoke-tokens\""),
                "risk_medium = \"ignore\"",
                "Their account is held to be at some risk.",
            ),
            key(
                "assurance_lowered",
                "reaction",
                Is("\"revoke-tokens\""),
                "assurance_lowered = \"ignore\"",
                "They are signed in less surely than before (CAEP `assurance-level-change`).",
            ),
            key(
                "device_not_compliant",
                "reaction",
                Is("\"revoke-tokens\""),
                "device_not_compliant = \"ignore\"",
                "A device of theirs does not comply any more (CAEP `device-compliance-change`).",
            ),
            key(
                "claims_changed",
                "reaction",
                Is("\"revoke-tokens\""),
                "claims_changed = \"ignore\"",
                "What their tokens at the company say is not so any more (CAEP `token-claims-change`).",
            ),
            key(
                "identifier_changed",
                "reaction",
                Is("\"revoke-tokens\""),
                "identifier_changed = \"ignore\"",
                "Their address or number is another, or somebody else's now (RISC `identifier-changed`, `identifier-recycled`).",
            ),
        ],
    },
    Table {
        heading: "[ext_authz]",
        about: "gRPC `ext_authz` for Envoy and other proxies: see [ext_authz](../ext-authz.md). Without this table nothing listens.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "listen = \"127.0.0.1:7422\"",
        keys: &[key(
            "listen",
            "`ADDRESS:PORT`",
            Says("required"),
            "listen = \"127.0.0.1:7422\"",
            "Where proxies ask, over HTTP/2 without TLS. Agents' tokens pass it, so it should be the same machine, or a network that nobody else is in.",
        )],
    },
    Table {
        heading: "[login]",
        about: "How people sign in. Without it: in development by the node's own login (`tipstaff login`), in production not at all. `docs/sign-in.md` says more.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "issuer = \"https://idp.acme.example\"\nclient_id = \"tipstaff\"",
        keys: &[
            key(
                "issuer",
                "URL",
                Says("–"),
                "issuer = \"https://idp.acme.example\"\nclient_id = \"tipstaff\"",
                "The company's OpenID provider, as its ID tokens say it in `iss`, letter by letter. Its discovery document is read from there. `{public_url}/login/callback` is the redirect URI to register.",
            ),
            key(
                "client_id",
                "text",
                Says("–"),
                "issuer = \"https://idp.acme.example\"\nclient_id = \"tipstaff\"",
                "What the provider knows this node as.",
            ),
            key(
                "client_secret",
                "reference",
                Says("none: a public client"),
                "client_secret = \"env:TIPSTAFF_LOGIN_SECRET\"",
                "The secret that goes with it.",
            ),
            key(
                "external_id",
                "claim",
                Says("`sub`, if `id` is not given"),
                "external_id = \"oid\"",
                "The claim that is a sponsor's `externalId`: what the directory, or `tipstaff sponsor link`, says that they are known by. Never `email`: addresses change hands.",
            ),
            key(
                "id",
                "claim",
                Says("none"),
                "id = \"preferred_username\"",
                "A claim that is a sponsor's id here. Only one that the provider keeps for one person for ever.",
            ),
            key(
                "scopes",
                "list of texts",
                Is("[]"),
                "scopes = [\"profile\"]",
                "What the provider is asked for beside `openid`.",
            ),
            key(
                "identity_assertions",
                "boolean",
                Is("false"),
                "identity_assertions = true",
                "Whether an agent that authenticates itself may start instances for a person whom the provider asserts (ID-JAG, enterprise-managed authorization).",
            ),
            key(
                "local",
                "boolean",
                Says("true in development without `issuer`, else false"),
                "local = true",
                "Whether `tipstaff login` signs people in. Whoever administers the node can then sign in as anybody; records say `local-login`, and pages, `up` and `doctor` say so.",
            ),
            key(
                "loopback_clients",
                "boolean",
                Is("false"),
                "loopback_clients = true",
                "Whether people's clients may describe themselves at `http://` addresses of this machine. In development only.",
            ),
        ],
    },
    Table {
        heading: "[workload.NAME]",
        about: "An issuer whose workloads may start instances with a token of their own (`jwt-bearer`).",
        before: "trust_domain = \"acme.example\"\n",
        needs: "issuer = \"https://token.actions.example\"\nrule = [{ agent = \"release\", purpose = \"ci\", claims = { sub = \"x\" } }]",
        keys: &[
            key(
                "issuer",
                "URL",
                Says("–"),
                "issuer = \"https://token.actions.githubusercontent.com\"\nrule = [{ agent = \"release\", purpose = \"ci\", claims = { sub = \"x\" } }]",
                "What its tokens say in `iss`, letter by letter. It or `spiffe` must be given.",
            ),
            key(
                "spiffe",
                "trust domain",
                Says("–"),
                "spiffe = \"acme.example\"\njwks = \"https://spire.acme.example/keys\"\nrule = [{ agent = \"release\", purpose = \"ci\", claims = { sub = \"spiffe://acme.example/ci\" } }]",
                "The SPIFFE trust domain of JWT-SVIDs that say no issuer; `jwks` says where its bundle is.",
            ),
            key(
                "jwks",
                "URL, or `file:PATH`",
                Says("where the issuer's discovery document says"),
                "jwks = \"https://kubernetes.default.svc/openid/v1/jwks\"",
                "Where its keys are. A file is read when the node starts.",
            ),
            key(
                "audience",
                "text",
                Says("`public_url`"),
                "audience = \"tipstaff\"",
                "What must be in its tokens' `aud`.",
            ),
            key(
                "rule",
                "list of tables",
                Required,
                "issuer = \"https://token.actions.githubusercontent.com\"\nrule = [{ agent = \"release\", purpose = \"ci/release\", claims = { repository = \"acme/*\", ref = \"refs/heads/main\" } }]",
                "Which workloads are which agent: `agent`, `purpose` (a request names it, one below it, or none) and `claims`, all of which must hold; the first rule that holds is the one. A claim is a name, or a way into an object (`kubernetes.io/namespace`), and a text in which `*` stands for anything between `/` and `:`, `**` for anything at all.",
            ),
        ],
    },
    Table {
        heading: "[directory]",
        about: "Where the company's directory is asked itself about active sponsors, since provisioning comes in cycles. It is asked by `externalId` about everybody for whom the directory speaks. Without this table silence means nothing.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "url = \"https://idp.acme.example/scim/v2\"",
        keys: &[
            key(
                "url",
                "URL",
                Default::None,
                "url = \"https://idp.acme.example/scim/v2\"",
                "A SCIM 2.0 service: `/Users` under it is asked. Who is not found, or not `active`, is suspended, and goes on when the directory says that they are there.",
            ),
            key(
                "token",
                "reference",
                Says("–"),
                "token = \"env:DIRECTORY_TOKEN\"",
                "The bearer token for it.",
            ),
            key(
                "every_s",
                "seconds",
                Says("60"),
                "every_s = 30",
                "How long it is waited between two rounds: 1 to 86400.",
            ),
            key(
                "fresh_s",
                "seconds",
                Says("900"),
                "fresh_s = 300",
                "How long an answer about somebody holds: more than `every_s`. Before the first one it counts from the node's start.",
            ),
            key(
                "stale",
                "`suspend`, `ignore`",
                Is("\"suspend\""),
                "stale = \"ignore\"",
                "What becomes of a sponsor about whom nothing was heard for longer than that: they are suspended until the directory answers, or nothing.",
            ),
        ],
    },
    Table {
        heading: "[ssf.NAME]",
        about: "Who sends security events about people (SSF 1.0, with CAEP and RISC): pushed to `/ssf/NAME`, or asked for. Each has `authorization` or `poll_url`. `[reactions]` says what follows.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "issuer = \"https://idp.acme.example\"\nauthorization = \"plain:Bearer x\"",
        keys: &[
            key(
                "issuer",
                "URL",
                Default::None,
                "issuer = \"https://idp.acme.example\"\nauthorization = \"env:IDP_PUSHES_WITH\"",
                "The transmitter: what its events say in `iss`, letter by letter.",
            ),
            key(
                "audience",
                "text",
                Says("`/ssf/NAME` under the URL that agents use"),
                "audience = \"https://gate.acme.example\"",
                "What events for this node say in `aud`.",
            ),
            key(
                "jwks",
                "URL or `file:PATH`",
                Says("where `/.well-known/ssf-configuration` says"),
                "jwks = \"https://idp.acme.example/oauth2/v1/keys\"",
                "Where the transmitter's keys are.",
            ),
            key(
                "subjects",
                "list of `iss_sub`, `opaque`, `email`",
                Is("[\"iss_sub\", \"opaque\"]"),
                "subjects = [\"iss_sub\"]",
                "Which names in an event say who somebody is. `iss_sub` and `opaque` are held against the `externalId` that the directory gave. An address is somebody else's tomorrow: `email` is believed only where it is listed, and only if one sponsor alone has it.",
            ),
            key(
                "subject_issuer",
                "text",
                Says("`issuer`"),
                "subject_issuer = \"https://acme.okta.example\"",
                "What `iss` in an `iss_sub` is, where the transmitter names people by another issuer.",
            ),
            key(
                "authorization",
                "reference",
                Says("–"),
                "issuer = \"https://idp.acme.example\"\nauthorization = \"env:IDP_PUSHES_WITH\"",
                "What the transmitter has in `Authorization` when it pushes, the whole value. Without it nothing is pushed.",
            ),
            key(
                "state",
                "text",
                Says("–"),
                "state = \"f3c1\"",
                "The `state` that verification events must have, if the transmitter is asked for them with one.",
            ),
            key(
                "poll_url",
                "URL",
                Says("–"),
                "poll_url = \"https://idp.acme.example/poll\"",
                "Where events are asked for (RFC 8936), if the transmitter does not push.",
            ),
            key(
                "poll_token",
                "reference",
                Says("–"),
                "poll_url = \"https://idp.acme.example/poll\"\npoll_token = \"env:IDP_POLL_TOKEN\"",
                "The bearer token for that.",
            ),
            key(
                "poll_s",
                "seconds",
                Says("60"),
                "poll_url = \"https://idp.acme.example/poll\"\npoll_s = 30",
                "How often: 1 to 86400.",
            ),
        ],
    },
    Table {
        heading: "[upstream.NAME]",
        about: "What agents reach through the gateway, at `/mcp/NAME`. Each has `command` or `url`.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "command = [\"server\"]",
        keys: &[
            key(
                "command",
                "list of texts",
                Says("–"),
                "command = [\"npx\", \"-y\", \"@modelcontextprotocol/server-filesystem\", \"/srv/shared\"]",
                "The program and its arguments: an MCP server on stdio, started for each instance.",
            ),
            key(
                "env",
                "table of references",
                Is("{}"),
                "env = { API_KEY = \"env:FILES_API_KEY\", MODE = \"plain:fast\" }",
                "The child's environment. Of the node's own it gets `PATH`, `HOME`, `USER`, `LANG`, `LC_ALL`, `TZ` and `TMPDIR`, nothing else. A value is a reference: `env:NAME`, `file:PATH`, `vault:NAME`, `openbao:NAME/PATH#FIELD`, or `plain:VALUE` for what is no secret; see [secrets](../secrets.md).",
            ),
            key(
                "cwd",
                "path",
                Says("the node's"),
                "cwd = \"/srv\"",
                "The child's working folder.",
            ),
            key(
                "url",
                "URL",
                Says("–"),
                "url = \"http://127.0.0.1:9000/mcp\"",
                "An MCP server over streamable HTTP.",
            ),
            key(
                "headers",
                "table of references",
                Is("{}"),
                "url = \"https://api.acme.example/mcp\"\nheaders = { Authorization = \"Bearer {file:/run/secrets/acme}\" }",
                "Headers of every request to a `url`. A value is a reference, or text with references in braces; see [secrets](../secrets.md).",
            ),
            key(
                "oauth",
                "table",
                Says("–"),
                "url = \"https://api.acme.example/mcp\"\noauth = { token_url = \"https://idp.acme.example/token\", client_id = \"gate\", client_secret = \"vault:acme\" }",
                "Where a token for a `url` is had; see below.",
            ),
            key(
                "leases",
                "`upstream`, `instance`",
                Is("\"upstream\""),
                "leases = \"instance\"",
                "Whom an `openbao:` server makes credentials for: one for the upstream, or for each instance one of its own, which is given back when the instance is over. Not beside `shared`.",
            ),
            key(
                "shared",
                "boolean",
                Is("false"),
                "shared = true",
                "Whether one child serves all instances. If not, each instance has a child of its own, and none sees what another left behind.",
            ),
            key(
                "mode",
                "`enforce`, `observe`",
                Is("\"enforce\""),
                "mode = \"observe\"\nobserve_until = \"2027-01-31\"",
                "In `observe` a call that policy denies passes, is recorded as such and shown. Identity and recording still refuse.",
            ),
            key(
                "observe_until",
                "date or time",
                Says("–"),
                "mode = \"observe\"\nobserve_until = \"2027-01-31T12:00:00Z\"",
                "When `observe` ends; it must have an end. From then on the upstream is enforced.",
            ),
            key(
                "timeout_s",
                "seconds",
                Is("60"),
                "timeout_s = 5",
                "How long one call may take: 1 to 86400.",
            ),
            key(
                "start_timeout_s",
                "seconds",
                Is("30"),
                "start_timeout_s = 60",
                "How long a child, or the opening of a connection, may take until it answers: 1 to 86400.",
            ),
            key(
                "tools",
                "`accept-first`, `review`",
                Is("\"accept-first\""),
                "tools = \"review\"",
                "What becomes of a tool that it lists for the first time. `accept-first`: its definition is accepted, unless something is found in it or its name looks like that of another upstream's tool. `review`: it cannot be called until a person accepts it. What was accepted and changes is held in any case.",
            ),
            key(
                "undeclared_arguments",
                "`refuse`, `allow`",
                Is("\"refuse\""),
                "undeclared_arguments = \"allow\"",
                "What becomes of an argument, or a member of one, that the tool's schema does not declare. If allowed, policies see its name in `context.untyped`.",
            ),
            key(
                "noncanonical_arguments",
                "`refuse`, `allow`",
                Is("\"refuse\""),
                "noncanonical_arguments = \"allow\"",
                "What becomes of a path or URL in another than its canonical form. One that has none is refused in any case.",
            ),
            key(
                "path_arguments",
                "list of `ARGUMENT` or `TOOL/ARGUMENT`",
                Is("[]"),
                "path_arguments = [\"target\", \"move/to\"]",
                "Arguments that are paths although neither their name nor their format says so; dots lead into objects.",
            ),
            key(
                "url_arguments",
                "list of `ARGUMENT` or `TOOL/ARGUMENT`",
                Is("[]"),
                "url_arguments = [\"fetch/target\"]",
                "The same for URLs.",
            ),
            key(
                "confine",
                "`if-available`, `required`, `off`",
                Is("\"if-available\""),
                "confine = \"required\"",
                "Whether Landlock keeps a child from reading the data and keys folders and from changing configuration and policies: where the kernel can do it; always, so that the child is not started where it cannot; or never. What it may reach is fixed when it starts: a file beside `tipstaff.toml` that is replaced meanwhile it can read once it is started again. In the folder of the configuration it can make no new files either, nor in those above it: a server that writes needs a folder of its own elsewhere.",
            ),
            key(
                "labels",
                "list of words",
                Is("[]"),
                "labels = [\"customer-data\"]",
                "What an agent that is permitted a call here has read from then on, and all of its delegation: `context.labels`. Small letters, digits and `-`.",
            ),
            key(
                "tool_labels",
                "table of lists, by tool",
                Is("{}"),
                "tool_labels = { read_customer = [\"customer-data\"] }",
                "The same, of single tools.",
            ),
        ],
    },
    credentials::OAUTH,
    credentials::OPENBAO,
    Table {
        heading: "[service.NAME]",
        about: "What guards itself and asks here for decisions, over AuthZEN or `ext_authz`: see [AuthZEN](../authzen.md). Nothing is sent to it from here. Policies name it like an upstream.",
        before: "trust_domain = \"acme.example\"\n",
        needs: "actions = \"records.actions.json\"",
        keys: &[
            key(
                "actions",
                "path",
                Says("required"),
                "actions = \"records.actions.json\"",
                "What can be done there: a JSON array of `{name, inputSchema}`, as an MCP server's `tools/list` gives it. It is read at the start and every few minutes; each version is kept with the decisions that rest on it.",
            ),
            key(
                "url",
                "URL",
                Says("`public_url/mcp/NAME`"),
                "url = \"https://records.acme.example/api\"",
                "Where its clients reach it, as they write it: a DPoP proof must be for that URL or, over AuthZEN, for one below it.",
            ),
            key(
                "mode",
                "`enforce`, `observe`",
                Is("\"enforce\""),
                "mode = \"observe\"\nobserve_until = \"2027-01-31\"",
                "In `observe` a call that policy denies passes, is recorded as such and shown. Identity and recording still refuse.",
            ),
            key(
                "observe_until",
                "date or time",
                Says("–"),
                "mode = \"observe\"\nobserve_until = \"2027-01-31T12:00:00Z\"",
                "When `observe` ends; it must have an end. From then on the upstream is enforced.",
            ),
            key(
                "undeclared_arguments",
                "`refuse`, `allow`",
                Is("\"refuse\""),
                "undeclared_arguments = \"allow\"",
                "What becomes of an argument, or a member of one, that the tool's schema does not declare. If allowed, policies see its name in `context.untyped`.",
            ),
            key(
                "noncanonical_arguments",
                "`refuse`, `allow`",
                Is("\"refuse\""),
                "noncanonical_arguments = \"allow\"",
                "What becomes of a path or URL in another than its canonical form. One that has none is refused in any case.",
            ),
            key(
                "path_arguments",
                "list of `ARGUMENT` or `TOOL/ARGUMENT`",
                Is("[]"),
                "path_arguments = [\"target\", \"move/to\"]",
                "Arguments that are paths although neither their name nor their format says so; dots lead into objects.",
            ),
            key(
                "url_arguments",
                "list of `ARGUMENT` or `TOOL/ARGUMENT`",
                Is("[]"),
                "url_arguments = [\"fetch/target\"]",
                "The same for URLs.",
            ),
            key(
                "labels",
                "list of words",
                Is("[]"),
                "labels = [\"customer-data\"]",
                "What an agent that is permitted a call here has read from then on, and all of its delegation: `context.labels`. Small letters, digits and `-`.",
            ),
            key(
                "tool_labels",
                "table of lists, by tool",
                Is("{}"),
                "tool_labels = { read_customer = [\"customer-data\"] }",
                "The same, of single tools.",
            ),
        ],
    },
];

pub(crate) fn page(_: &Sources) -> Result<String> {
    let mut page = "\
# Configuration

`tipstaff.toml`, or the file that `--config` names. It is read once, at the start, and strictly: an
unknown key is an error that names the nearest known one. Paths are relative to the file's folder.
Secrets are never written in it: a value that may be one is a reference.

"
    .to_owned();
    let mut known: Vec<&str> = Vec::new();
    for table in TABLES {
        table.check()?;
        known.push(table.heading);
        if !table.heading.is_empty() {
            add(&mut page, format_args!("\n## `{}`\n\n", table.heading));
        }
        add(&mut page, format_args!("{}\n\n", table.about));
        page.push_str(&head(&["key", "is", "default", "means"]));
        for key in table.keys {
            let default = match key.default {
                Required => "must be given".to_owned(),
                Is(value) => code(value),
                Says(words) => words.to_owned(),
            };
            page.push_str(&row(&[&code(key.name), key.kind, &default, key.meaning]));
        }
        add(
            &mut page,
            format_args!("\nFor example:\n\n```toml\n{}```\n", table.example()?),
        );
    }
    tables_are_known(&known)?;
    Ok(page)
}

impl Table {
    fn file(&self, lines: &str) -> String {
        let heading = self.heading.replace("NAME", "name");
        let taken = |name: &str| {
            lines
                .lines()
                .any(|line| line.starts_with(&format!("{name} =")))
        };
        let needs = match self.needs.split(' ').next().unwrap_or_default() {
            needed if taken(needed) || needed == "command" && taken("url") => "",
            "issuer" if taken("spiffe") => "",
            _ => self.needs,
        };
        format!("{}{heading}\n{needs}\n{lines}\n", self.before)
    }

    /// All keys in one block that the parser takes as it is printed; what cannot stand beside the
    /// rest is commented out.
    fn example(&self) -> Result<String> {
        let (mut taken, mut printed, mut names) = (String::new(), String::new(), Vec::new());
        for key in self.keys {
            let mut lines = String::new();
            for line in key.example.lines() {
                let name = line.split(' ').next().unwrap_or_default();
                if !names.contains(&name) {
                    names.push(name);
                    add(&mut lines, format_args!("{line}\n"));
                }
            }
            let together = format!("{taken}{lines}");
            if shown(&self.file(&together)).is_ok() {
                taken = together;
                printed.push_str(&lines);
            } else {
                for line in lines.lines() {
                    add(&mut printed, format_args!("# {line}\n"));
                }
            }
        }
        let name = match self.heading.trim_matches(['[', ']']).split('.').next() {
            Some("upstream") => "files",
            Some("service") => "notes",
            Some("workload") => "github",
            Some("openbao") => "main",
            _ => "okta",
        };
        let heading = self.heading.replace("NAME", name);
        let block = if heading.is_empty() {
            printed
        } else {
            format!("{heading}\n{printed}")
        };
        shown(&format!("{}{block}", self.before))?;
        Ok(block)
    }

    fn check(&self) -> Result<()> {
        let expected = expected(&self.file("no_such_key = 1"))?;
        for name in &expected {
            let listed = self.keys.iter().any(|key| key.name == name);
            ensure!(
                listed || is_table(name),
                "`{name}` in `{}` has no row",
                self.heading
            );
        }
        let base = shown(&self.file(""))?;
        for key in self.keys {
            ensure!(
                expected.iter().any(|name| name == key.name),
                "there is no key `{}`",
                key.name
            );
            shown(&self.file(key.example))?;
            if let Is(value) = key.default {
                let given = shown(&self.file(&format!("{} = {value}", key.name)))?;
                ensure!(
                    given == base,
                    "the default of `{}` is not {value}",
                    key.name
                );
            }
        }
        Ok(())
    }
}

fn is_table(name: &str) -> bool {
    TABLES.iter().any(|table| {
        let heading = table.heading.trim_matches(['[', ']']);
        heading.split('.').next() == Some(name)
    })
}

/// Every table of the file has a heading here.
fn tables_are_known(known: &[&str]) -> Result<()> {
    for name in expected("trust_domain = \"a\"\nno_such_key = 1")? {
        let key = TABLES
            .iter()
            .flat_map(|table| table.keys)
            .any(|key| key.name == name);
        let heading = known
            .iter()
            .any(|it| it.trim_start_matches('[').starts_with(&name));
        ensure!(key || heading, "`{name}` has no table");
    }
    Ok(())
}

/// What the parser made of a file, to be compared.
/// All of a configuration but the text that it came from, as a whole and of each upstream.
fn shown(text: &str) -> Result<String> {
    let mut config = Config::parse(Path::new("/tipstaff.toml"), text)?;
    config.digest = Digest::of(b"");
    for upstream in config.upstreams.values_mut() {
        upstream.table = Digest::of(b"");
    }
    Ok(format!("{config:?}"))
}

/// The keys that the parser lists when it is given one that it does not know.
fn expected(text: &str) -> Result<Vec<String>> {
    match Config::parse(Path::new("/tipstaff.toml"), text) {
        Err(ConfigError::Syntax { message, .. }) => {
            let listed = message
                .split_once("expected ")
                .map_or("", |(_, listed)| listed);
            let listed = listed.split(';').next().unwrap_or_default();
            Ok(listed
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect())
        }
        other => bail!("an unknown key gave {other:?}"),
    }
}
