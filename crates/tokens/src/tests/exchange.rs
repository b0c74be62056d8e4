//! Token exchange: what an instance hands on, and what others try.

use register::{CallLimits, Command, EndReason, NewAgent, NewOwners};
use serde_json::{Value, json};
use vocab::{Digest, InstanceId};

use super::bench::{Bench, NOW, URL, key, new_key};
use super::forge::{Sign, b64, forge};
use super::token::{claims_of, shown};
use crate::{AgentKey, DpopKey, HandingOn, TokenResponse, form};

/// A bench with the agents `lead` and `coder`, who prove keys, and `runner`, who need not.
struct World {
    bench: Bench,
}

/// What somebody asks for. `Default` is what an instance of `lead` asks for another of itself.
struct Ask<'a> {
    agent: &'a str,
    /// Authenticates the client.
    client: Option<&'a AgentKey>,
    /// Signs what is handed on.
    holder: Option<&'a DpopKey>,
    /// Proves itself in the `DPoP` header.
    child: Option<&'a DpopKey>,
    details: Option<&'a str>,
    max_calls: Option<u64>,
    purpose: Option<&'a str>,
    upstream: &'a str,
    expiry: Option<u64>,
    /// Parameters that are set in the end, or taken away by an empty value.
    changes: &'a [(&'a str, &'a str)],
}

const READ_A: &str = r#"[{"type":"mcp_tool","locations":["files"],"identifier":"read_*","arguments":{"path":{"prefix":"/a/"}}}]"#;

impl World {
    fn new() -> Self {
        let bench = Bench::new();
        for (id, seed, allow_bearer) in [
            ("lead", 10, false),
            ("coder", 11, false),
            ("runner", 12, true),
        ] {
            bench.execute(Command::AddAgent(Box::new(NewAgent {
                id: id.parse().unwrap(),
                sponsor: "maya".parse().unwrap(),
                purposes: vec!["triage".parse().unwrap()],
                allow: None,
                max_instances: Some(20),
                allow_bearer,
                max_lifetime: None,
                idle: None,
                limits: CallLimits::default(),
                max_depth: Some(2),
                max_children: Some(3),
                people: None,
                owners: NewOwners::default(),
                key: Some(new_key(key(seed).public())),
                software: "".parse().unwrap(),
                model: "".parse().unwrap(),
                environment: "".parse().unwrap(),
            })));
        }
        Self { bench }
    }

    fn agent(&self, id: &str, seed: u8) -> AgentKey {
        AgentKey {
            agent: id.parse().unwrap(),
            issuer: URL.parse().unwrap(),
            key: key(seed),
            expires_at: self.bench.agent.expires_at,
        }
    }

    /// A token of a new instance that nobody delegated to.
    fn root(&self, id: &str, seed: u8, holder: Option<&DpopKey>) -> TokenResponse {
        let form = self.bench.form(&self.agent(id, seed));
        let proof = holder.map(|holder| self.proof(holder));
        self.bench.ask(&form, proof.as_deref()).unwrap()
    }

    fn proof(&self, of: &DpopKey) -> String {
        let endpoint = self.bench.issuer.public_url().token_endpoint();
        let (now, rng) = (self.bench.now(), &*self.bench.rng);
        of.proof("POST", &endpoint, None, now, rng).unwrap()
    }

    fn form(&self, subject: &str, ask: &Ask<'_>) -> String {
        let (now, rng) = (self.bench.now(), &*self.bench.rng);
        let purpose = ask.purpose.map(|it| it.parse().unwrap());
        let handing_on = HandingOn {
            issuer: self.bench.issuer.public_url(),
            agent: &ask.agent.parse().unwrap(),
            jkt: ask.child.map(DpopKey::jkt),
            details: ask.details,
            max_calls: ask.max_calls,
            purpose: purpose.as_ref(),
            resource: &self.bench.resource(ask.upstream),
            lifetime_seconds: ask.expiry,
        };
        let form = handing_on.form(subject, ask.holder, now, rng).unwrap();
        let form = match ask.client {
            Some(client) => client.authenticated(&form, now, rng).unwrap(),
            None => form,
        };
        changed(form.expose(), ask.changes)
    }

    fn ask(&self, subject: &str, ask: &Ask<'_>) -> Result<TokenResponse, String> {
        let form = self.form(subject, ask);
        self.send(&form, ask.child)
    }

    fn send(&self, form: &str, child: Option<&DpopKey>) -> Result<TokenResponse, String> {
        let proof = child.map(|child| self.proof(child));
        let asked = self.bench.ask(form, proof.as_deref());
        asked.map_err(|error| shown(&error))
    }

    fn instance(&self, id: &InstanceId) -> std::sync::Arc<register::Instance> {
        let found = |state: &register::State| state.instance(id).cloned();
        self.bench.control.view(found).unwrap()
    }
}

fn changed(form: &str, changes: &[(&str, &str)]) -> String {
    let mut pairs: Vec<&str> = form.split('&').collect();
    let mut more = Vec::new();
    for (name, value) in changes {
        pairs.retain(|pair| pair.split('=').next() != Some(name));
        if !value.is_empty() {
            more.push((*name, *value));
        }
    }
    let more = form::encode(&more);
    pairs.push(&more);
    pairs.join("&")
}

fn dpop(seed: u8) -> DpopKey {
    DpopKey::new(key(seed))
}

/// What an instance of `lead` with key 20 asks for a new one with key 21.
fn asking(keys: &(DpopKey, DpopKey)) -> Ask<'_> {
    Ask {
        agent: "lead",
        client: None,
        holder: Some(&keys.0),
        child: Some(&keys.1),
        details: None,
        max_calls: None,
        purpose: None,
        upstream: "files",
        expiry: None,
        changes: &[],
    }
}

fn keys() -> (DpopKey, DpopKey) {
    (dpop(20), dpop(21))
}

fn refused(asked: Result<TokenResponse, String>, expected: &str) {
    let refusal = asked.expect_err(expected);
    assert!(
        refusal.starts_with(expected),
        "{refusal}\nis not: {expected}"
    );
}

#[test]
fn an_instance_hands_on_a_part_of_what_it_may_do() {
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    //= type=test
    //# grant_type REQUIRED. The value "urn:ietf:params:oauth:grant-type:token- exchange"
    //# indicates that a token exchange is being performed.
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let ask = Ask {
        details: Some(READ_A),
        max_calls: Some(5),
        purpose: Some("triage/refunds/eu"),
        ..asking(&keys)
    };
    let child = world.ask(&root.access_token, &ask).unwrap();
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    //= type=test
    //# access_token REQUIRED. The security token issued by the authorization server in response
    //# to the token exchange request.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    //= type=test
    //# issued_token_type REQUIRED. An identifier, as described in Section 3, for the
    //# representation of the issued security token.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    //= type=test
    //# token_type REQUIRED. A case-insensitive value specifying the method of using the access
    //# token issued, as specified in Section 7.1 of [RFC6749].
    //= https://www.rfc-editor.org/rfc/rfc9396#section-7
    //= type=test
    //# In addition to the token response parameters as defined in [RFC6749], the AS MUST also
    //# return the authorization_details as granted by the resource owner and assigned to the
    //# respective access token.
    let wire = serde_json::to_value(&child).unwrap();
    assert_eq!(
        wire,
        json!({
            "access_token": child.access_token,
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "DPoP",
            "expires_in": 300,
            "authorization_details": [{"type": "mcp_tool", "locations": [format!("{URL}/mcp/files")],
                "identifier": "read_*", "arguments": {"path": {"prefix": "/a/"}}}],
            "instance": child.instance,
            "purpose": "triage/refunds/eu",
        })
    );
    let sponsor = world.instance(&root.instance).sponsor.clone();
    let claims = claims_of(&child.access_token);
    assert_eq!(claims["sub"], json!(sponsor));
    assert_eq!(claims["client_id"], "lead");
    let act = json!({"sub": child.instance, "act": {"sub": root.instance}});
    assert_eq!(claims["act"], act);
    assert_eq!(claims["cnf"]["jkt"], keys.1.jkt());
    let instance = world.instance(&child.instance);
    assert_eq!(instance.parent.as_ref(), Some(&root.instance));
    assert_eq!((instance.depth, instance.max_calls), (1, Some(5)));
    // And further, by a client that is another agent.
    let (own, coder) = (dpop(22), world.agent("coder", 11));
    let ask = Ask {
        agent: "coder",
        client: Some(&coder),
        holder: Some(&keys.1),
        child: Some(&own),
        ..asking(&keys)
    };
    let grandchild = world.ask(&child.access_token, &ask).unwrap();
    assert_eq!(
        claims_of(&grandchild.access_token)["act"],
        json!({"sub": grandchild.instance, "act": act})
    );
    assert_eq!(claims_of(&grandchild.access_token)["client_id"], "coder");
    // What is not narrowed is handed on as it is.
    let details = |response: &TokenResponse| {
        response
            .authorization_details
            .as_ref()
            .unwrap()
            .get()
            .to_owned()
    };
    assert_eq!(details(&grandchild), details(&child));
}

#[test]
fn a_child_is_let_in_and_renews_its_token() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let child = world.ask(&root.access_token, &asking(&keys)).unwrap();
    let enter = |token: &str| {
        let resource = world.bench.resource("files");
        let (now, rng) = (world.bench.now(), &*world.bench.rng);
        let proof = keys.1.proof("POST", resource.uri(), Some(token), now, rng);
        let authorization = format!("DPoP {token}");
        let headers = [
            ("authorization", &*authorization),
            ("dpop", &proof.unwrap()),
        ];
        world
            .bench
            .call(&headers)
            .map(|caller| caller.instance().clone())
    };
    assert_eq!(enter(&child.access_token).unwrap(), child.instance);
    world.bench.advance(299);
    let (now, rng) = (world.bench.now(), &*world.bench.rng);
    let lead = world.agent("lead", 10);
    let resource = world.bench.resource("files");
    let purpose = "triage/refunds".parse().unwrap();
    let form = lead.renewal_form(&purpose, &resource, &child.instance, now, rng);
    let next = world.send(&form.unwrap(), Some(&keys.1)).unwrap();
    assert_eq!(next.instance, child.instance);
    assert_eq!(
        claims_of(&next.access_token)["act"]["act"]["sub"],
        json!(root.instance)
    );
    assert_eq!(enter(&next.access_token).unwrap(), child.instance);
    // One narrowed link, and no call and no token comes of it.
    let end = Command::EndInstance {
        id: root.instance,
        reason: EndReason::Revoked,
    };
    world.bench.execute(end);
    assert_eq!(
        enter(&next.access_token).unwrap_err().word(),
        "ancestor-narrowed"
    );
    let form = lead.renewal_form(&purpose, &resource, &child.instance, now, rng);
    refused(
        world.send(&form.unwrap(), Some(&keys.1)),
        "400 invalid_grant: instance `",
    );
}

#[test]
fn requests_that_are_no_exchange_are_refused() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let check = |changes: &[(&str, &str)], expected: &str| {
        let ask = Ask {
            changes,
            ..asking(&keys)
        };
        refused(world.ask(&root.access_token, &ask), expected);
    };
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    //= type=test
    //# subject_token REQUIRED. A security token that represents the identity of the party on
    //# behalf of whom the request is being made.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    //= type=test
    //# subject_token_type REQUIRED. An identifier, as described in Section 3, that indicates
    //# the type of the security token in the "subject_token" parameter.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    //= type=test
    //# The value of the "resource" parameter MUST be an absolute URI, as specified by Section
    //# 4.3 of [RFC3986], that MAY include a query component and MUST NOT include a fragment
    //# component.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.2
    //= type=test
    //# The value of the "error" parameter MUST be the "invalid_request" error code.
    let kind = "400 invalid_request: `subject_token_type` is not `urn:ietf:params:oauth:token-type:access_token`";
    check(
        &[("subject_token", "")],
        "400 invalid_request: the parameter `subject_token` is missing",
    );
    check(
        &[("subject_token_type", "")],
        "400 invalid_request: the parameter `subject_token_type` is missing",
    );
    check(
        &[(
            "subject_token_type",
            "urn:ietf:params:oauth:token-type:id_token",
        )],
        kind,
    );
    check(
        &[(
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:jwt",
        )],
        "400 invalid_request: `requested_token_type` is not",
    );
    check(
        &[("actor_token", &root.access_token)],
        "400 invalid_request: `actor_token` is not taken",
    );
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    //= type=test
    //# but MUST NOT be included otherwise.
    check(
        &[(
            "actor_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        )],
        "400 invalid_request: `actor_token` is not taken",
    );
    check(
        &[("audience", "files")],
        "400 invalid_target: `audience` is not taken",
    );
    check(
        &[("resource", "")],
        "400 invalid_target: `resource` is not the URI",
    );
    check(
        &[("resource", "http://other/mcp/files")],
        "400 invalid_target: `resource` is not",
    );
    check(
        &[("max_calls", "0")],
        "400 invalid_request: `max_calls` is not a number",
    );
    check(
        &[("max_calls", "+1")],
        "400 invalid_request: `max_calls` is not a number",
    );
    check(
        &[("requested_expiry", "-1")],
        "400 invalid_request: `requested_expiry` is not a number",
    );
    check(
        &[("client_secret", "x")],
        "400 invalid_request: the client authenticated in a second way",
    );
    check(
        &[("client_id", "coder")],
        "400 invalid_request: `client_id` is not the agent",
    );
    check(
        &[("client_assertion", "x")],
        "401 invalid_client: the client did not authenticate",
    );
}

#[test]
fn details_that_are_not_understood_are_refused() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let check = |details: &str, expected: &str| {
        let ask = Ask {
            details: Some(details),
            ..asking(&keys)
        };
        let expected = format!("400 invalid_authorization_details: {expected}");
        refused(world.ask(&root.access_token, &ask), &expected);
    };
    //= https://www.rfc-editor.org/rfc/rfc9396#section-5
    //= type=test
    //# The AS MUST refuse to process any unknown authorization details type
    //# or authorization details not conforming to the respective type
    //# definition.
    check(
        r#"[{"type":"payment","locations":["files"],"identifier":"x"}]"#,
        "the only type of `authorization_details` that is known here is `mcp_tool`",
    );
    check(
        r#"[{"type":"mcp_tool","locations":["files"],"identifier":"x","actions":["call"]}]"#,
        "`authorization_details` cannot be read: unknown field `actions`",
    );
    //= https://www.rfc-editor.org/rfc/rfc9396#section-5
    //= type=test
    //# The AS MUST abort processing and respond with an error invalid_authorization_details to the
    //# client if any of the following are true of the objects in the authorization_details
    //# structure:
    //= https://www.rfc-editor.org/rfc/rfc9396#section-8
    //= type=test
    //# The Token Error Response MUST conform to the rules given in Section 5.
    //= https://www.rfc-editor.org/rfc/rfc9396#section-2
    //= type=test
    //# This field is REQUIRED.
    check(
        r#"[{"locations":["files"],"identifier":"x"}]"#,
        "`authorization_details` cannot be read: missing field `type`",
    );
    check(
        r#"[{"type":"mcp_tool","locations":["files"]}]"#,
        "`authorization_details` cannot be read: missing field `identifier`",
    );
    check(
        r#"[{"type":"mcp_tool","locations":"files","identifier":"x"}]"#,
        "`authorization_details` cannot be read: invalid type",
    );
    check(
        r#"[{"type":"mcp_tool","locations":["files"],"identifier":""}]"#,
        "`authorization_details` cannot be read: a tool's name is empty",
    );
    //= https://www.rfc-editor.org/rfc/rfc9396#section-12
    //= type=test
    //# The AS MUST properly sanitize and handle the data passed in the authorization_details in
    //# order to prevent injection attacks.
    check(
        "[{\"type\":\"mcp_tool\",\"locations\":[\"files\"],\"identifier\":\"x\",\"\\\"\\r\\n<b>\":1}]",
        "`authorization_details` cannot be read: unknown field `'??<b>`",
    );
    check("[]", "`authorization_details` has 1 to 32 details");
    for location in [
        "none",
        "http://127.0.0.1:7421/mcp/files",
        "http://127.0.0.1:7420/mcp/none",
    ] {
        check(
            &format!(r#"[{{"type":"mcp_tool","locations":["{location}"],"identifier":"x"}}]"#),
            "`locations` has 1 to 16 of this node's upstreams",
        );
    }
    let uri =
        format!(r#"[{{"type":"mcp_tool","locations":["{URL}/mcp/files"],"identifier":"x"}}]"#);
    let ask = Ask {
        details: Some(&uri),
        ..asking(&keys)
    };
    assert!(world.ask(&root.access_token, &ask).is_ok());
    // For an upstream that nothing is handed on of, a token would be of no use.
    let ask = Ask {
        details: Some(&uri),
        upstream: "clock",
        ..asking(&keys)
    };
    refused(
        world.ask(&root.access_token, &ask),
        "400 invalid_target: nothing of upstream `clock` is handed on",
    );
}

#[test]
fn attack_exchange_to_widen() {
    let (world, keys, next) = (World::new(), keys(), (dpop(21), dpop(22)));
    let root = world.root("lead", 10, Some(&keys.0));
    let narrow = Ask {
        details: Some(READ_A),
        max_calls: Some(5),
        purpose: Some("triage/refunds/eu"),
        ..asking(&keys)
    };
    let child = world.ask(&root.access_token, &narrow).unwrap();
    let child = &child.access_token;
    let details = |details| Ask {
        details: Some(details),
        ..asking(&next)
    };
    let widened = "400 invalid_authorization_details: `authorization_details[0].";
    let check = |ask: &Ask<'_>, expected: &str| refused(world.ask(child, ask), expected);
    check(
        &details(r#"[{"type":"mcp_tool","locations":["files"],"identifier":"read_*"}]"#),
        &format!("{widened}arguments.path` cannot be shown to be within what was handed on to the"),
    );
    check(
        &details(r#"[{"type":"mcp_tool","locations":["files"],"identifier":"write"}]"#),
        &format!("{widened}identifier`"),
    );
    check(
        &details(r#"[{"type":"mcp_tool","locations":["files","clock"],"identifier":"read_x"}]"#),
        &format!("{widened}locations`"),
    );
    check(
        &Ask {
            max_calls: Some(6),
            ..asking(&next)
        },
        "400 access_denied: 6 calls are more than the 5",
    );
    check(
        &Ask {
            purpose: Some("triage/refunds"),
            ..asking(&next)
        },
        "400 access_denied: purpose `triage/refunds` is neither",
    );
    check(
        &Ask {
            purpose: Some("billing"),
            ..asking(&next)
        },
        "400 access_denied: agent `lead` is not registered for purpose `billing`",
    );
    // It lives no longer than the one above.
    let ask = Ask {
        expiry: Some(10_000_000),
        ..asking(&next)
    };
    let longest = world.ask(child, &ask).unwrap();
    let (longest, root) = (
        world.instance(&longest.instance),
        world.instance(&root.instance),
    );
    assert_eq!(longest.expires_at, root.expires_at);
    let ask = Ask {
        expiry: Some(60),
        child: Some(&dpop(23)),
        ..asking(&next)
    };
    let shortest = world.ask(child, &ask).unwrap();
    assert_eq!(shortest.expires_in, 60);
    assert_eq!(claims_of(&shortest.access_token)["exp"], NOW + 60);
    assert_eq!(
        world.instance(&shortest.instance).expires_at.as_secs(),
        NOW + 60
    );
}

#[test]
fn delegation_has_an_end() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let below = |token: &str, holder: &DpopKey, seed| {
        let child = dpop(seed);
        let ask = Ask {
            holder: Some(holder),
            child: Some(&child),
            ..asking(&keys)
        };
        world.ask(token, &ask)
    };
    let first = below(&root.access_token, &keys.0, 21).unwrap();
    let second = below(&first.access_token, &dpop(21), 22).unwrap();
    refused(
        below(&second.access_token, &dpop(22), 23),
        "400 access_denied: the delegation would be 3 hops below an instance of agent `lead`",
    );
    for seed in [30, 31] {
        below(&root.access_token, &keys.0, seed).unwrap();
    }
    refused(
        below(&root.access_token, &keys.0, 32),
        &format!(
            "400 access_denied: instance `{}` has 3 live instances below it",
            root.instance
        ),
    );
}

#[test]
fn attack_stale_subject_token() {
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.2
    //= type=test
    //# If the request itself is not valid or if either the "subject_token" or "actor_token" are
    //# invalid for any reason, or are unacceptable based on policy, the authorization server MUST
    //# construct an error response, as specified in Section 5.2 of [RFC6749].
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    world.bench.advance(300);
    refused(
        world.ask(&root.access_token, &asking(&keys)),
        "400 invalid_request: the subject token is not accepted: the access token expired 0 s ago",
    );
}

#[test]
fn attack_token_of_another_node() {
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    //= type=test
    //# In processing the request, the authorization server MUST perform the appropriate
    //# validation procedures for the indicated token type and, if the actor token is present,
    //# also perform the appropriate validation procedures for its indicated token type.
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let kid = key(201).public().thumbprint().to_string();
    let header = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": kid}).to_string();
    let theirs = forge(
        &header,
        &claims_of(&root.access_token).to_string(),
        Sign::EdDsa(&key(201)),
    );
    refused(
        world.ask(&theirs, &asking(&keys)),
        "400 invalid_request: the subject token is not accepted: the access token's `kid` is not a key",
    );
    // Nor is something else that this node's key signed.
    let kid = key(200).public().thumbprint().to_string();
    let header = |typ: &str| json!({"typ": typ, "alg": "EdDSA", "kid": kid}).to_string();
    let mut claims = claims_of(&root.access_token);
    let forged = forge(&header("jwt"), &claims.to_string(), Sign::EdDsa(&key(200)));
    refused(
        world.ask(&forged, &asking(&keys)),
        "400 invalid_request: the subject token is not accepted:",
    );
    claims["iss"] = "http://other:7420".into();
    let other = forge(
        &header("at+jwt"),
        &claims.to_string(),
        Sign::EdDsa(&key(200)),
    );
    refused(
        world.ask(&other, &asking(&keys)),
        "400 invalid_request: the subject token is not accepted: the access token's `iss`",
    );
}

/// What is nested in `act` is for others to read: here it says that nobody delegated.
#[test]
fn attack_nested_actors_decide_nothing() {
    //= https://www.rfc-editor.org/rfc/rfc8693#section-4.1
    //= type=test
    //# For the purpose of applying access control policy, the consumer of a token MUST only
    //# consider the token's top-level claims and the party identified as the current actor by
    //# the "act" claim.
    let (world, keys, next) = (World::new(), keys(), (dpop(21), dpop(22)));
    let root = world.root("lead", 10, Some(&keys.0));
    let ask = Ask {
        details: Some(READ_A),
        ..asking(&keys)
    };
    let child = world.ask(&root.access_token, &ask).unwrap();
    let kid = key(200).public().thumbprint().to_string();
    let header = json!({"typ": "at+jwt", "alg": "EdDSA", "kid": kid}).to_string();
    for act in [
        json!({"sub": child.instance}),
        json!({"sub": child.instance, "act": {"sub": 7}}),
    ] {
        let mut claims = claims_of(&child.access_token);
        claims["act"] = act;
        let told = forge(&header, &claims.to_string(), Sign::EdDsa(&key(200)));
        let all = r#"[{"type":"mcp_tool","locations":["files"],"identifier":"*"}]"#;
        let ask = Ask {
            details: Some(all),
            ..asking(&next)
        };
        refused(
            world.ask(&told, &ask),
            "400 invalid_authorization_details: `authorization_details[0].identifier`",
        );
    }
}

#[test]
fn attack_exchange_after_suspension() {
    let check = |narrow: fn(&World, &InstanceId), expected: &str| {
        let (world, keys) = (World::new(), keys());
        let root = world.root("lead", 10, Some(&keys.0));
        narrow(&world, &root.instance);
        let expected =
            format!("400 invalid_request: the subject token is not accepted: {expected}");
        refused(world.ask(&root.access_token, &asking(&keys)), &expected);
        let coder = world.agent("coder", 11);
        let ask = Ask {
            agent: "coder",
            client: Some(&coder),
            ..asking(&keys)
        };
        refused(world.ask(&root.access_token, &ask), &expected);
    };
    check(
        |world, _| drop(world.bench.execute(suspend_agent("lead"))),
        "the agent is suspended",
    );
    check(
        |world, _| {
            let id = "maya".parse().unwrap();
            drop(
                world
                    .bench
                    .execute(Command::SuspendSponsor { id, signal: None }),
            );
        },
        "the agent's sponsor is suspended",
    );
    check(
        |world, id| {
            let (id, reason) = (id.clone(), EndReason::Revoked);
            drop(world.bench.execute(Command::EndInstance { id, reason }));
        },
        "the instance was ended",
    );
}

fn suspend_agent(id: &str) -> Command {
    Command::SuspendAgent {
        id: id.parse().unwrap(),
        signal: None,
    }
}

/// Keycloak #52691: a token that was delegated is exchanged as if it were any other, and outlives
/// that the actor was disabled.
#[test]
fn attack_keycloak_52691() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let (coder, own) = (world.agent("coder", 11), dpop(22));
    let ask = Ask {
        agent: "coder",
        client: Some(&coder),
        child: Some(&own),
        ..asking(&keys)
    };
    let child = world.ask(&root.access_token, &ask).unwrap();
    // The one that delegated is disabled; the token and its own agent are as good as before.
    world.bench.execute(suspend_agent("lead"));
    let next = dpop(23);
    let again = Ask {
        agent: "coder",
        client: Some(&coder),
        holder: Some(&own),
        child: Some(&next),
        ..asking(&keys)
    };
    refused(
        world.ask(&child.access_token, &again),
        "400 invalid_request: the subject token is not accepted: an instance that delegated to it",
    );
}

#[test]
fn attack_replayed_proofs() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let form = world.form(&root.access_token, &asking(&keys));
    assert!(world.send(&form, Some(&keys.1)).is_ok());
    refused(
        world.send(&form, Some(&keys.1)),
        "400 invalid_dpop_proof: the DPoP proof was used",
    );
    let (coder, own) = (world.agent("coder", 11), dpop(22));
    let ask = Ask {
        agent: "coder",
        client: Some(&coder),
        child: Some(&own),
        ..asking(&keys)
    };
    let form = world.form(&root.access_token, &ask);
    let proof = world.proof(&own);
    assert!(world.bench.ask(&form, Some(&proof)).is_ok());
    let again = world.bench.ask(&form, Some(&proof)).unwrap_err();
    assert!(shown(&again).starts_with("401 invalid_client: the client assertion was used"));
    let again = changed(&world.form(&root.access_token, &ask), &[]);
    let error = world.bench.ask(&again, Some(&proof)).unwrap_err();
    assert!(shown(&error).starts_with("400 invalid_dpop_proof: the DPoP proof was used"));
}

/// Whoever comes by an agent's token has nothing of it: its holder signs what is handed on, and to
/// whom.
#[test]
fn attack_confused_deputy() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let token = &root.access_token;
    let (coder, thief) = (world.agent("coder", 11), dpop(40));
    let as_coder = |holder| Ask {
        agent: "coder",
        client: Some(&coder),
        holder,
        child: Some(&thief),
        ..asking(&keys)
    };
    refused(
        world.ask(token, &as_coder(None)),
        "400 invalid_dpop_proof: the subject token is bound",
    );
    refused(
        world.ask(token, &as_coder(Some(&thief))),
        "400 invalid_dpop_proof: the DPoP proof is by another key",
    );
    // A proof that its holder sent to an upstream.
    let (now, rng) = (world.bench.now(), &*world.bench.rng);
    let resource = world.bench.resource("files");
    let sent = keys
        .0
        .proof("POST", resource.uri(), Some(token), now, rng)
        .unwrap();
    let with = |proof: &str| {
        let changes = [("subject_token_proof", proof)];
        world.ask(
            token,
            &Ask {
                changes: &changes,
                ..as_coder(None)
            },
        )
    };
    refused(
        with(&sent),
        "400 invalid_dpop_proof: the DPoP proof's `htu`",
    );
    // One for a token of its own.
    refused(
        with(&world.proof(&keys.0)),
        "400 invalid_dpop_proof: the DPoP proof's `ath`",
    );
    let endpoint = world.bench.issuer.public_url().token_endpoint();
    let bound = keys
        .0
        .proof("POST", &endpoint, Some(token), now, rng)
        .unwrap();
    let not_this = "400 invalid_dpop_proof: the DPoP proof's `delegation` is not the digest";
    refused(with(&bound), not_this);
    // And one for something else that was to be handed on: each part of it counts.
    let meant = Ask {
        details: Some(READ_A),
        max_calls: Some(1),
        purpose: Some("triage/refunds/eu"),
        expiry: Some(60),
        ..asking(&keys)
    };
    let all = r#"[{"type":"mcp_tool","locations":["files"],"identifier":"*"}]"#;
    let clock = format!("{URL}/mcp/clock");
    for change in [
        ("authorization_details", all),
        ("authorization_details", ""),
        ("max_calls", "2"),
        ("max_calls", ""),
        ("purpose", "triage/refunds"),
        ("resource", &clock),
        ("requested_expiry", ""),
    ] {
        let form = changed(&world.form(token, &meant), &[change]);
        refused(world.send(&form, Some(&keys.1)), not_this);
    }
    let form = world.form(token, &meant);
    refused(world.send(&form, Some(&thief)), not_this);
    refused(world.send(&world.form(token, &meant), None), not_this);
    let form = coder.authenticated(&vocab::Secret::new(world.form(token, &meant)), now, rng);
    refused(world.send(form.unwrap().expose(), Some(&keys.1)), not_this);
    assert!(world.ask(token, &meant).is_ok());
}

/// A bearer token shows nobody. Only its own agent exchanges it, and never alone.
#[test]
fn attack_found_bearer_token() {
    let (world, keys) = (World::new(), keys());
    let found = world.root("runner", 12, None);
    let token = &found.access_token;
    let (runner, coder) = (world.agent("runner", 12), world.agent("coder", 11));
    let ask = |agent, client, child| Ask {
        agent,
        client,
        holder: None,
        child,
        ..asking(&keys)
    };
    let proven = Some(&keys.1);
    for child in [None, proven] {
        refused(
            world.ask(token, &ask("runner", None, child)),
            "401 invalid_client: the subject token is not bound to a key",
        );
    }
    refused(
        world.ask(token, &ask("coder", Some(&coder), proven)),
        "400 invalid_request: the subject token is another agent's and not bound to a key",
    );
    assert_eq!(
        world
            .ask(token, &ask("runner", Some(&runner), None))
            .unwrap()
            .token_type,
        "Bearer"
    );
    assert_eq!(
        world
            .ask(token, &ask("runner", Some(&runner), proven))
            .unwrap()
            .token_type,
        "DPoP"
    );
}

/// A bearer child is one of the same agent, where that is registered for such tokens.
#[test]
fn bearer_children() {
    let (world, keys) = (World::new(), keys());
    let bearer = |agent, client| Ask {
        agent,
        client,
        child: None,
        ..asking(&keys)
    };
    let runner = world.root("runner", 12, Some(&keys.0));
    let child = world
        .ask(&runner.access_token, &bearer("runner", None))
        .unwrap();
    assert_eq!(child.token_type, "Bearer");
    assert_eq!(claims_of(&child.access_token).get("cnf"), None::<&Value>);
    let lead = world.root("lead", 10, Some(&keys.0));
    let not_allowed = "400 invalid_dpop_proof: agent `";
    refused(
        world.ask(&lead.access_token, &bearer("lead", None)),
        not_allowed,
    );
    let key = world.agent("runner", 12);
    refused(
        world.ask(&lead.access_token, &bearer("runner", Some(&key))),
        not_allowed,
    );
}

#[test]
fn a_child_proves_a_key_of_its_own() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let ask = Ask {
        child: Some(&keys.0),
        ..asking(&keys)
    };
    refused(
        world.ask(&root.access_token, &ask),
        "400 invalid_dpop_proof: an instance below another proves a key of its own",
    );
}

/// A key that was replaced authenticates nobody, whatever the subject wants.
#[test]
fn attack_replaced_agent_key() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let coder = world.agent("coder", 11);
    world.bench.execute(Command::RotateAgentKey {
        id: "coder".parse().unwrap(),
        key: new_key(key(50).public()),
    });
    let ask = Ask {
        agent: "coder",
        client: Some(&coder),
        ..asking(&keys)
    };
    refused(
        world.ask(&root.access_token, &ask),
        "401 invalid_client: the client assertion is not",
    );
}

fn one_call(args: &str) -> String {
    let digest = Digest::of(args.as_bytes());
    format!(
        r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"read_x","arguments_sha256":"{digest}"}}]"#
    )
}

#[test]
fn a_credential_for_one_call_stays_with_its_holder() {
    let (world, keys) = (World::new(), keys());
    let root = world.root("lead", 10, Some(&keys.0));
    let details = one_call("{}");
    let once = |child| Ask {
        details: Some(&details),
        holder: None,
        child,
        ..asking(&keys)
    };
    let given = world.ask(&root.access_token, &once(Some(&keys.0))).unwrap();
    assert_eq!((given.token_type, given.expires_in), ("DPoP", 60));
    let instance = world.instance(&given.instance);
    assert!(instance.is_once());
    assert_eq!(instance.max_calls, Some(1));
    assert_eq!(claims_of(&given.access_token)["cnf"]["jkt"], keys.0.jkt());
    // Nobody else holds it, whatever the holder says; and whoever only has the token has nothing.
    refused(
        world.ask(&root.access_token, &once(Some(&keys.1))),
        "400 invalid_dpop_proof: the subject token is bound to a key",
    );
    refused(
        world.ask(&root.access_token, &once(None)),
        "400 invalid_dpop_proof: the subject token is bound to a key",
    );
    let signed = Ask {
        holder: Some(&keys.0),
        ..once(Some(&keys.1))
    };
    refused(
        world.ask(&root.access_token, &signed),
        "400 invalid_grant: instance `",
    );
    // It begets nothing, and is not renewed.
    let next = dpop(22);
    let below = Ask {
        child: Some(&next),
        ..asking(&keys)
    };
    refused(
        world.ask(&given.access_token, &below),
        "400 invalid_request: instance `",
    );
    let (now, rng) = (world.bench.now(), &*world.bench.rng);
    let (purpose, resource) = (
        "triage/refunds".parse().unwrap(),
        world.bench.resource("files"),
    );
    let lead = world.agent("lead", 10);
    let form = lead.renewal_form(&purpose, &resource, &given.instance, now, rng);
    refused(
        world.send(&form.unwrap(), Some(&keys.0)),
        "400 invalid_grant: instance `",
    );
    let two = format!("[{0},{0}]", details.trim_matches(['[', ']']));
    let ask = Ask {
        details: Some(&two),
        ..once(Some(&keys.0))
    };
    refused(
        world.ask(&root.access_token, &ask),
        "400 invalid_authorization_details: a credential for one call names one tool",
    );
}

/// What `delegation` is, for whoever writes it without this program.
#[test]
fn the_digest_of_a_delegation_is_plain() {
    let parts = [
        Some("coder"),
        Some("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"),
        Some(READ_A),
        None,
        Some("triage"),
        Some("http://127.0.0.1:7420/mcp/files"),
        None,
    ];
    let mut all = Vec::new();
    for part in parts {
        all.extend_from_slice(Digest::of(part.unwrap_or("").as_bytes()).as_bytes());
    }
    let expected = b64(Digest::of(&all).as_bytes());
    assert_eq!(crate::exchange::delegation_digest(&parts), expected);
}
