//! What goes wrong, by the words it goes by, and what to do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use ledger::{AppendError, EntryError, Kind};
use mcp::headers::{HeaderError, HeaderFault};
use mcp::json::JsonFault;
use mcp::{Era, FrameError, JsonError, ProtocolError};
use policy::Stage;
use register::{CommandError, Refusal, Why};
use tokens::{
    AssertionError, ClaimsError, CodeError, ExchangeError, ForeignError, FormError, IdJagError,
    JwsError, McpClientError, NoPerson, ProofError, RefreshError, RequestError, Stale, TokenError,
    Unproven, VerifyError, WorkloadError,
};
use vocab::{LogName, Time};

use crate::{Sources, add, code, head, row};

/// A value of every variant, and a word about each: a variant that is missing does not compile.
macro_rules! every {
    ($type:ty: $($pattern:pat => $sample:expr, $text:expr;)*) => {{
        fn text(value: &$type) -> &'static str {
            match value { $($pattern => $text,)* }
        }
        let all: Vec<$type> = vec![$($sample),*];
        all.into_iter().map(|value| { let text = text(&value); (value, text) }).collect::<Vec<_>>()
    }};
}

pub(crate) fn page(sources: &Sources) -> Result<String> {
    let mut page = "\
# Errors and refusals

A word in `code` is fixed: it is in records, metrics or answers, and scripts may rely on it. The
texts beside it are for people, and may be put better.

"
    .to_owned();
    denials(&mut page);
    protocol(&mut page, sources)?;
    token_endpoint(&mut page)?;
    challenges(&mut page);
    refused_counts(&mut page, sources)?;
    outcomes(&mut page, sources)?;
    ledger_errors(&mut page);
    administration(&mut page, sources)?;
    opening(&mut page, sources)?;
    Ok(page)
}

fn denials(page: &mut String) {
    page.push_str("\
## Denied calls

A denied tool call is answered with a tool result that has `isError: true`, a text for the agent, and
`_meta[\"dev.tipstaff/decision\"] = {effect, reason, policies, record}`. A denial of another method is
JSON-RPC error 7403 over HTTP 200, with the same object in `error.data`. The record has the stage:

");
    page.push_str(&head(&["stage", "means", "what to do"]));
    for stage in Stage::ALL {
        let (means, act) = match stage {
            Stage::Standing => (
                "The instance, its agent or its sponsor may not act any more.",
                "`tipstaff trace INSTANCE` says which, and `tipstaff agent resume` or `sponsor resume` lifts a suspension. An instance that is over is not continued: get a new token.",
            ),
            Stage::Authority => (
                "The agent was registered with `--allow`, and this is not in it.",
                "Register an agent that may, or ask for less.",
            ),
            Stage::Limit => (
                "Too many calls, too many in flight, or the same denial again and again.",
                "Wait, or ask for something else. `[limits]` has the numbers.",
            ),
            Stage::PolicyUnavailable => (
                "There is no valid policy set that could decide this upstream's calls, or its tools are not known.",
                "`tipstaff policy check`; `tipstaff doctor`.",
            ),
            Stage::ToolsNotRead => (
                "The upstream's tools could not be listed since the node started, so nobody knows whether they are those that were accepted.",
                "`tipstaff doctor` says why; mend the upstream, and the next call lists them.",
            ),
            Stage::UnknownTool => (
                "The upstream lists no such tool, or the method is none that can be called.",
                "List the tools again. A tool that is listed and cannot be called is named by `tipstaff doctor`.",
            ),
            Stage::Quarantined => (
                "What the upstream says of the tool is new, changed or refused, and nobody has accepted it.",
                "`tipstaff upstream diff UPSTREAM/TOOL` shows it; `tipstaff upstream accept` and `refuse` settle it.",
            ),
            Stage::Schema => (
                "An argument is missing, of another type, or not declared by the tool.",
                "The text names the argument and the type: mend the call. `undeclared_arguments = \"allow\"` lets undeclared ones through.",
            ),
            Stage::Canonical => (
                "An argument that is a path or a URL is not in canonical form.",
                "Send the form that the text names. `noncanonical_arguments = \"allow\"` lets others through.",
            ),
            Stage::Policy => (
                "A policy forbids it, or none permits it.",
                "The text has the policy's `@reason`. `tipstaff trace LOG/INDEX` names the permits that came nearest and the condition that failed.",
            ),
            Stage::Error => (
                "A policy that covers the call could not be evaluated, so it may not be escaped.",
                "Ask with `has` before reading what is optional; `tipstaff trace LOG/INDEX` has the error.",
            ),
            Stage::Approval => (
                "A policy permits it only if people approve it. The effect is `hold`.",
                "People were asked if `approval` is there, and `approval.url` says where they answer. Once they approved, send exactly the same call again.",
            ),
        };
        page.push_str(&row(&[&code(stage.as_str()), means, act]));
    }
    page.push_str("\nWhy an instance may not act, in `--json`, in traces and in metrics:\n\n");
    page.push_str(&head(&["word", "means"]));
    for why in Why::ALL {
        page.push_str(&row(&[&code(why.as_str()), &format!("{why}.")]));
    }
}

fn json(fault: JsonFault) -> FrameError {
    FrameError::Json(JsonError { at: 17, fault })
}

fn protocol(page: &mut String, sources: &Sources) -> Result<()> {
    page.push_str("\n## MCP\n\nCodes of JSON-RPC errors. What an upstream answers with passes as it is, but for code 7403, which\nis only ours to say.\n\n");
    page.push_str(&head(&["code", "means"]));
    let text = sources.text("mcp/src/error.rs")?;
    let (_, codes) = text.split_once("pub mod code {").context("no codes")?;
    let (codes, _) = codes.split_once("\n}").context("no end of the codes")?;
    let mut doc = String::new();
    for line in codes.lines().map(str::trim) {
        if let Some(said) = line.strip_prefix("/// ") {
            said.clone_into(&mut doc);
        } else if let Some((_, number)) = line.split_once(": i64 = ") {
            page.push_str(&row(&[number.trim_end_matches(';'), &doc]));
        }
    }
    page.push_str(
        "\nRequests that are refused before there is a call, by era (legacy, modern):\n\n",
    );
    page.push_str(&head(&["status", "code", "text", "what to do"]));
    let all = every! { ProtocolError:
        ProtocolError::Frame(FrameError::Json(_)) => json(JsonFault::Duplicate).into(), "Send one JSON document; the text says what is wrong at which byte. Member names must differ.";
        ProtocolError::Frame(_) => FrameError::Batch.into(), "Send one JSON-RPC 2.0 message, as the text says.";
        ProtocolError::BodyTooLong { .. } => ProtocolError::BodyTooLong { max: vocab::limits::BODY_BYTES_MAX }, "Send less.";
        ProtocolError::UnexpectedResponse => ProtocolError::UnexpectedResponse, "Answer only what was asked, in the session in which it was.";
        ProtocolError::Header(_) => HeaderError { header: "Mcp-Name".to_owned(), fault: HeaderFault::Mismatch }.into(), "Let the headers say what the body says.";
        ProtocolError::MissingMeta { .. } => ProtocolError::MissingMeta { key: mcp::meta::CLIENT_CAPABILITIES }, "A request of this revision carries it.";
        ProtocolError::UnsupportedVersion { .. } => ProtocolError::UnsupportedVersion { requested: "2024-11-05".to_owned() }, "Use a revision that `error.data.supported` names.";
        ProtocolError::MissingCapability { .. } => ProtocolError::MissingCapability { required: serde_json::Value::Null }, "Declare the capabilities that `error.data` names, or do without the call.";
        ProtocolError::MethodNotFound { .. } => ProtocolError::MethodNotFound { method: "METHOD".to_owned() }, "The revision has no such method, or not from a client.";
        ProtocolError::InvalidParams { .. } => ProtocolError::InvalidParams { message: "…".to_owned() }, "The text says what is wrong with the parameters.";
        ProtocolError::NotAcceptable => ProtocolError::NotAcceptable, "Accept both.";
        ProtocolError::UnsupportedMediaType => ProtocolError::UnsupportedMediaType, "Say that it is JSON, and send it in UTF-8.";
        ProtocolError::UnsupportedEncoding => ProtocolError::UnsupportedEncoding, "Do not compress requests.";
        ProtocolError::UnknownSession => ProtocolError::UnknownSession, "Initialize a new session.";
        ProtocolError::MissingSession => ProtocolError::MissingSession, "Send the session's id, or initialize.";
        ProtocolError::Unavailable { .. } => ProtocolError::Unavailable { message: "…" }, "The upstream does not answer, or the node cannot record. Try again later; `tipstaff doctor` says which.";
        ProtocolError::Internal => ProtocolError::Internal, "Our fault: the node's log has the cause.";
    };
    for (error, act) in all {
        let (old, new) = (error.reply(Era::Legacy), error.reply(Era::Modern));
        let status = if old.status == new.status {
            old.status.as_u16().to_string()
        } else {
            format!("{}, {}", old.status.as_u16(), new.status.as_u16())
        };
        page.push_str(&row(&[&status, &new.code.to_string(), &new.message, act]));
    }
    Ok(())
}

fn token_endpoint(page: &mut String) -> Result<()> {
    page.push_str("\n## `POST /oauth/token`, `POST /oauth/revoke` and `POST /oauth/introspect`\n\nA token that is none, and an instance that has ended, can be revoked without an error (RFC 7009 §2.2).\nA token that is none, not good now or another agent's is introspected as `{\"active\":false}` (RFC 7662 §2.2).\nThe answer to what is refused is `{error, error_description}` (RFC 6749 §5.2). The cause is counted and put on record as\nthe word in the third column. Whether an agent does not exist or has another key, the answer is one.\n\n");
    page.push_str(&head(&[
        "status",
        "`error`",
        "cause",
        "`error_description`, for example",
        "what to do",
    ]));
    let agent: vocab::AgentId = "triage".parse()?;
    let refused = |refusal| TokenError::from(CommandError::Refused(refusal));
    let requests = every! { RequestError:
        RequestError::ContentType => RequestError::ContentType, "Send a form.";
        RequestError::Form(_) => FormError::Repeated.into(), "Mend the form as the text says.";
        RequestError::Missing(_) => RequestError::Missing("purpose"), "Give the parameter.";
        RequestError::GrantType => RequestError::GrantType, "Ask for one of them; `/.well-known/oauth-authorization-server` lists those that this node takes.";
        RequestError::TokenType(_) => RequestError::TokenType("subject_token_type"), "Only access tokens are exchanged.";
        RequestError::ActorToken => RequestError::ActorToken, "Leave it out.";
        RequestError::Audience => RequestError::Audience, "Give `resource`.";
        RequestError::Number(_) => RequestError::Number("max_calls"), "Give a number, or leave it out.";
        RequestError::NoAssertion => RequestError::NoAssertion, "Authenticate with `private_key_jwt`.";
        RequestError::SecondAuthentication => RequestError::SecondAuthentication, "Authenticate in one way.";
        RequestError::Purpose(_) => RequestError::Purpose(vocab::IdError::Empty { what: "purpose" }), "Give an id path, `triage/refunds` for example.";
        RequestError::Instance(_) => RequestError::Instance(vocab::IdError::Empty { what: "instance" }), "Give the instance's id, as the answer with its last token did, or leave it out to start one.";
        RequestError::ProofHeader => RequestError::ProofHeader, "Send one `DPoP` header.";
        RequestError::NoProof => RequestError::NoProof, "Prove a key, or register the client without `dpop_bound_access_tokens`.";
        RequestError::Bound(_) => RequestError::Bound("max_calls"), "Leave it out, or exchange the token.";
        RequestError::Details => RequestError::Details, "Leave it out, and exchange the token for one that permits less.";
    };
    let clients = every! { AssertionError:
        AssertionError::Jws(_) => AssertionError::Jws(JwsError::Algorithm), "Make the assertion as RFC 7523 says, signed with EdDSA or ES256.";
        AssertionError::Claims(_) => AssertionError::Claims(tokens::JsonError::Missing("jti")), "Give the claim.";
        AssertionError::Foreign(_) => AssertionError::Foreign(ForeignError::Signature), "Sign with a key of the client's own description.";
        AssertionError::Client => AssertionError::Client, "`iss` and `sub` are the agent's id.";
        AssertionError::Unproven(_) => AssertionError::Unproven(Unproven::Agent(agent.clone())), "Use the key that `tipstaff agent add` or `rotate-key` wrote last. The node's log says which of the two it was.";
        AssertionError::Kid => AssertionError::Kid, "Name the key's thumbprint in `kid`, or leave it out.";
        AssertionError::Audience { .. } => AssertionError::Audience { issuer: "http://127.0.0.1:7420".into() }, "`aud` is the issuer; the text names it.";
        AssertionError::Stale(_) => Stale::Old { seconds: 400, max: 300 }.into(), "Make a new one for each request; set the clock.";
        AssertionError::Expired { .. } => AssertionError::Expired { seconds: 3 }, "Make a new one; set the clock.";
        AssertionError::Lifetime => AssertionError::Lifetime, "Let `exp` be sooner.";
        AssertionError::Jti => AssertionError::Jti, "Give a short random `jti`.";
        AssertionError::Replayed => AssertionError::Replayed, "Make a new one for each request.";
        AssertionError::Full => AssertionError::Full, "Try again in a minute.";
    };
    let proofs = proofs();
    let exchanges = every! { ExchangeError:
        ExchangeError::Subject(_) => ExchangeError::Subject(VerifyError::Expired { seconds: 3 }), "Exchange a token of an instance that may act, while it is valid.";
        ExchangeError::NoProof => ExchangeError::NoProof, "Have the instance that delegates sign what it hands on: `tipstaff token --from`.";
        ExchangeError::Unproven => ExchangeError::Unproven, "Authenticate with `private_key_jwt`.";
        ExchangeError::Anothers => ExchangeError::Anothers, "Delegate from an instance that proves a key.";
        ExchangeError::Client => ExchangeError::Client, "Leave `client_id` out, or authenticate as that agent.";
        ExchangeError::Details(_) => vocab::authority::AuthorityError::Type.into(), "Mend the details as the text says.";
    };
    let registered = [
        (
            refused(Refusal::PurposeNotRegistered {
                agent: agent.clone(),
                purpose: "billing".parse()?,
                registered: vec!["triage".parse()?],
            }),
            "State a purpose at or below one that the agent is registered for.",
        ),
        (
            refused(Refusal::InstancesReached {
                agent: agent.clone(),
                live: 3,
                max: 3,
            }),
            "Wait for an instance to end, or end one: `tipstaff instance revoke`.",
        ),
        (
            refused(Refusal::BearerNotAllowed {
                agent: agent.clone(),
            }),
            "Prove possession of a key (DPoP).",
        ),
        (
            refused(Refusal::AgentSuspended {
                agent: agent.clone(),
                since: Time::from_secs(1_795_254_662),
            }),
            "`tipstaff agent resume`.",
        ),
        (
            refused(Refusal::AgentRetired {
                agent: agent.clone(),
                since: Time::from_secs(1_795_254_662),
            }),
            "Register another agent.",
        ),
        (
            refused(Refusal::InstanceEnded {
                instance: "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse()?,
                since: Time::from_secs(1_795_254_662),
                reason: register::EndReason::Revoked,
            }),
            "`instance` names one that was ended. Leave it out to start another.",
        ),
        (
            refused(Refusal::OtherInstance {
                instance: "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse()?,
            }),
            "`instance` goes on with its own key and purpose. Leave it out to start another.",
        ),
        (
            refused(Refusal::Beyond(vocab::authority::NotWithin {
                part: "authorization_details[0].arguments.path".to_owned(),
                outer: "what was handed on to the instance that delegates",
            })),
            "Ask for no more than the one above may do.",
        ),
        (
            refused(Refusal::NotOneCall),
            "One detail, with `arguments_sha256` and an exact `identifier`.",
        ),
        (
            refused(Refusal::SharedKey),
            "Make a key for the new instance.",
        ),
        (
            refused(Refusal::DelegatedKey {
                instance: "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse()?,
            }),
            "`tipstaff token --instance`, or another `--dpop-key`.",
        ),
        (
            refused(Refusal::TooDeep {
                agent: agent.clone(),
                depth: 5,
                max: 4,
            }),
            "Register another agent with `tipstaff agent add --max-depth`.",
        ),
        (
            refused(Refusal::AgentWithoutSponsor { agent }),
            "`tipstaff sponsor show` says who stopped them; `tipstaff sponsor resume`, or `agent transfer`.",
        ),
        (
            CommandError::Ledger(AppendError::Busy).into(),
            "The ledger cannot record it now: `tipstaff doctor`, then try again.",
        ),
    ];
    let all = every! { TokenError:
        TokenError::Request(_) => RequestError::GrantType.into(), "";
        TokenError::Client(_) => AssertionError::Kid.into(), "";
        TokenError::Proof(_) => ProofError::Method.into(), "";
        TokenError::Exchange(_) => ExchangeError::NoProof.into(), "";
        TokenError::Workload(_) => WorkloadError::Issuer.into(), "";
        TokenError::Code(_) => CodeError::Unknown.into(), "A code is good once, for a minute, for the client, redirect URI, verifier, resource and key that it was asked for with. The node's log says which it was. One that is used twice ends what it gave.";
        TokenError::Refresh(_) => RefreshError::Reused.into(), "";
        TokenError::McpClient(_) => McpClientError::Unknown.into(), "Register the client again, or see to the document at its `client_id`; the node's log says what is wrong with it.";
        TokenError::IdJag(_) => IdJagError::Client.into(), "";
        TokenError::Person(_) => NoPerson::Unknown.into(), "`tipstaff sponsor link`, or let the directory provision them. Whoever is suspended starts nothing.";
        TokenError::Resource => TokenError::Resource, "`resource` is `{public_url}/mcp/NAME`, with a name that the configuration has.";
        TokenError::NotYours => TokenError::NotYours, "Revoke tokens of this agent's only.";
        TokenError::TooMany { .. } => TokenError::TooMany { most: 60 }, "Let instances end by themselves, or end fewer.";
        TokenError::Register(_) => CommandError::Ledger(AppendError::Busy).into(), "";
        TokenError::Impossible(_) => TokenError::Impossible("…"), "Our fault: the node's log has the cause.";
        TokenError::Random(_) => TokenError::Random(vocab::rng::RngError("…".to_owned())), "The system gives no randomness: try again.";
        TokenError::Sign(_) => TokenError::Sign(tokens::SignError("…".to_owned())), "The key that signs cannot be used: the log of the node says why; `tipstaff keys list` says which it is.";
    };
    let workloads = every! { WorkloadError:
        WorkloadError::Form(_) => ForeignError::Form.into(), "Send a signed JWT.";
        WorkloadError::Issuer => WorkloadError::Issuer, "Name the issuer in `[workload.NAME]`.";
        WorkloadError::Provider { .. } => WorkloadError::Provider { issuer: "github".parse()?, cause: ForeignError::Audience("http://127.0.0.1:7420".into()).into() }, "Have the token issued for this node. If the issuer's keys cannot be read, the node's log says why.";
        WorkloadError::SpiffeId => WorkloadError::SpiffeId, "Have a token issued with a SPIFFE ID as SPIFFE has it.";
        WorkloadError::Rule { .. } => WorkloadError::Rule { issuer: "github".parse()? }, "Add a rule to `[workload.NAME]`, or ask for a purpose of the rule's.";
        WorkloadError::Replayed => WorkloadError::Replayed, "Prove the same key each time, or have a new token issued.";
        WorkloadError::BeforeStart => WorkloadError::BeforeStart, "Prove a key (DPoP), or have a new token issued.";
        WorkloadError::Full => WorkloadError::Full, "Try again later.";
    };
    let refreshes = every! { RefreshError:
        RefreshError::Unknown => RefreshError::Unknown, "Sign in again.";
        RefreshError::Reused => RefreshError::Reused, "Sign in again. A client that does not keep the newest refresh token looks like a thief.";
        RefreshError::Key => RefreshError::Key, "Prove the key that the first token was bound to; none if it was bound to none.";
        RefreshError::Resource => RefreshError::Resource, "Leave `resource` out, or sign in for the other one.";
    };
    let assertions = every! { IdJagError:
        IdJagError::Off => IdJagError::Off, "Set it.";
        IdJagError::Provider(_) => IdJagError::Provider(ForeignError::Expired(9).into()), "Have the provider make a new one for this node. If its keys cannot be read, the node's log says why.";
        IdJagError::Client => IdJagError::Client, "The agent's id is what the provider knows the client as.";
        IdJagError::Stale(_) => IdJagError::Stale(Stale::BeforeStart), "Have the provider make a new one.";
        IdJagError::Jti => IdJagError::Jti, "Let the provider give it a short random `jti`.";
        IdJagError::Replayed => IdJagError::Replayed, "Have the provider make a new one for each request.";
        IdJagError::Full => IdJagError::Full, "Try again in a minute.";
        IdJagError::Resource => IdJagError::Resource, "Ask for the resource that the assertion is for.";
    };
    let rows = requests.into_iter().map(|(it, act)| (it.into(), act));
    let rows = rows.chain(workloads.into_iter().map(|(it, act)| (it.into(), act)));
    let rows = rows.chain(refreshes.into_iter().map(|(it, act)| (it.into(), act)));
    let rows = rows.chain(assertions.into_iter().map(|(it, act)| (it.into(), act)));
    let rows = rows.chain(clients.into_iter().map(|(it, act)| (it.into(), act)));
    let rows = rows.chain(proofs.into_iter().map(|(it, act)| (it.into(), act)));
    let rows = rows.chain(exchanges.into_iter().map(|(it, act)| (it.into(), act)));
    let rows = rows.chain(registered);
    // Those without a word here are told apart above.
    let rows = rows.chain(all.into_iter().filter(|(_, act)| !act.is_empty()));
    for (error, act) in rows {
        page.push_str(&row(&[
            error.status().as_str(),
            &code(error.oauth_code()),
            &code(error.word()),
            &error.description(),
            act,
        ]));
    }
    Ok(())
}

fn proofs() -> Vec<(ProofError, &'static str)> {
    every! { ProofError:
        ProofError::Jws(_) => ProofError::Jws(JwsError::Typ("dpop+jwt")), "Make the proof as RFC 9449 §4.2 says.";
        ProofError::Key(_) => ProofError::Key(tokens::JwkError::Private("d")), "Put the public key, and only that, into `jwk`.";
        ProofError::Claims(_) => ProofError::Claims(tokens::JsonError::Missing("htu")), "Give the claim.";
        ProofError::Jti => ProofError::Jti, "Give a short random `jti`.";
        ProofError::Method => ProofError::Method, "`htm` is the request's method.";
        ProofError::Uri { .. } => ProofError::Uri { expected: "http://127.0.0.1:7420/mcp/files".into() }, "`htu` is the URL under `public_url`, whatever address was used.";
        ProofError::Stale(_) => ProofError::Stale(Stale::BeforeStart), "Make a new one for each request; set the clock.";
        ProofError::Token => ProofError::Token, "`ath` is the SHA-256 of the access token (RFC 9449 §4.2).";
        ProofError::Delegation => ProofError::Delegation, "Sign exactly what the request asks for.";
        ProofError::OtherKey => ProofError::OtherKey, "Prove with the key that the token was got with.";
        ProofError::Replayed => ProofError::Replayed, "Make a new one for each request.";
        ProofError::Full => ProofError::Full, "Try again in a minute.";
    }
}

fn challenges(page: &mut String) {
    page.push_str("\n## Requests to `/mcp/{upstream}` that are not authenticated\n\nThe answer has a `WWW-Authenticate` header (RFC 6750 §3, RFC 9449 §7.1) that names the resource's\nmetadata, and no word about whether anything exists.\n\n");
    page.push_str(&head(&["status", "`error`", "cause", "text", "what to do"]));
    let all = every! { VerifyError:
        VerifyError::Missing => VerifyError::Missing, "Get a token: `tipstaff token`, or `POST /oauth/token`.";
        VerifyError::Authorization => VerifyError::Authorization, "Send one `Authorization` header.";
        VerifyError::ProofHeader => VerifyError::ProofHeader, "Send one `DPoP` header.";
        VerifyError::Token(_) => JwsError::Signature.into(), "Get a new token from this node.";
        VerifyError::Key => VerifyError::Key, "Get a new token from this node.";
        VerifyError::Claims(_) => ClaimsError::Issuer.into(), "Get a new token from this node.";
        VerifyError::Expired { .. } => VerifyError::Expired { seconds: 12 }, "Get a new one; the same agent and DPoP key continue the instance.";
        VerifyError::NotYet => VerifyError::NotYet, "Set the node's clock.";
        VerifyError::Audience { .. } => VerifyError::Audience { expected: "http://127.0.0.1:7420/mcp/files".to_owned() }, "A token is for one upstream.";
        VerifyError::BoundAsBearer => VerifyError::BoundAsBearer, "Prove possession of the key.";
        VerifyError::BearerAsBound => VerifyError::BearerAsBound, "Present it as it was given.";
        VerifyError::NoProof => VerifyError::NoProof, "Send a proof with each request.";
        VerifyError::Proof(_) => ProofError::Replayed.into(), "As for the same text at `POST /oauth/token`.";
        VerifyError::Narrowed(_) => VerifyError::Narrowed(Why::InstanceExpired), "As for the stage `standing`.";
    };
    for (error, act) in all {
        let (attribute, status) = error.code_and_status();
        page.push_str(&row(&[
            status.as_str(),
            &attribute.map_or_else(|| "–".to_owned(), code),
            &code(error.as_str()),
            &error.to_string(),
            act,
        ]));
    }
    let (_, status) = VerifyError::from(ProofError::Full).code_and_status();
    add(
        page,
        format_args!(
            "\nWith too many proofs in use (`replay-memory-full`), or a register that failed\n(`register-failed`), the status is {}.\n",
            status.as_u16()
        ),
    );
}

/// What the words mean that stand in the code where a refusal is counted.
const CAUSES: &[(&str, &str)] = &[
    (
        "host-or-origin",
        "The request called the node by a name that it does not have, or came from a browser page that may not call. See `allowed_hosts` and `allowed_origins`.",
    ),
    ("no-such-upstream", "The path names no upstream."),
    (
        "bad-message",
        "The body was not one message that is accepted, or contradicted its headers.",
    ),
    (
        "bad-tool-name",
        "The tool's name is none that a tool can have.",
    ),
    (
        "narrowed",
        "The instance was suspended or forgotten while its call was being decided, so that there was nobody left to decide on.",
    ),
    (
        "approval-gone",
        "The approval of a call was used up by another like it, or ended, between its decision and its use. Nothing was sent; the decision that held the call is on record.",
    ),
    (
        "repeated-denial",
        "An instance went on asking for what it had been told to stop asking for. The denial that told it so is on record in full.",
    ),
    (
        "repeated-hold",
        "A call that people were asked about already, sent again before they approved it. The first is on record, and its answer names that.",
    ),
    (
        "unknown-asker",
        "A decision was asked for without the token of a policy enforcement point.",
    ),
    (
        "asker-not-trusted",
        "A policy enforcement point named an instance, and is not trusted to; it presents the access token.",
    ),
    (
        "not-for-asker",
        "A policy enforcement point asked about something that it does not stand in front of, or that is not there.",
    ),
    (
        "bad-evaluation",
        "The request for a decision lacks something, or contradicts itself.",
    ),
    (
        "bad-access-request",
        "An access request was for nothing that the enforcement point may request, or no task of its own.",
    ),
    (
        "unknown-subject",
        "The subject of a request for a decision is no agent's instance.",
    ),
    (
        "bad-check",
        "What a proxy asked about over gRPC could not be looked at whole, or was no question.",
    ),
    (
        "not-serving",
        "Somebody came to sign in while the node did not serve.",
    ),
    (
        "bad-code-request",
        "A client sent a person here with a request that is none, or for a client, a redirect URI or a resource that is not known.",
    ),
    (
        "bad-consent",
        "A form of a page came without the session, or without the number, that it was made for.",
    ),
    (
        "bad-registration",
        "A client described itself as no client may be.",
    ),
    (
        "bad-login",
        "A sign-in did not begin here, was not taken, or its ticket is used up.",
    ),
    (
        "no-provider",
        "Somebody came to sign in, and the identity provider could not be asked, or there is none.",
    ),
    (
        "unknown-person",
        "The identity provider knows somebody who is no active sponsor here.",
    ),
    (
        "not-the-sponsor",
        "Somebody opened the acceptance page of an agent that is not theirs, or is none.",
    ),
    (
        "refused-acceptance",
        "A sponsor accepted an agent that cannot be accepted.",
    ),
    (
        "not-an-approver",
        "Somebody opened the page of an approval that is not theirs to give, is over, or is none.",
    ),
    (
        "refused-approval",
        "Somebody's answer to an approval did not count.",
    ),
    (
        "bad-directory-token",
        "A request of the directory's came without the directory's token. `tipstaff scim list` shows those that are good.",
    ),
    (
        "directory-rate",
        "The directory sent more requests than it may in a minute.",
    ),
    (
        "bad-transmitter",
        "A security event was pushed without what was agreed on in `Authorization`. See `[ssf.NAME]`.",
    ),
    (
        "not-an-auditor",
        "Entries were asked for without an auditor's token.",
    ),
    (
        "admin-credential",
        "An administrator's credential did not hold.",
    ),
    (
        "admin-peer",
        "Another local user than an administrator used the administration socket.",
    ),
    (
        "admin-cookie",
        "The administration socket was used without the cookie beside it.",
    ),
];
const PLACES: &[(&str, &str)] = &[
    ("mcp", "`/mcp/{upstream}`"),
    ("call", "`/mcp/{upstream}`, by a known instance"),
    ("access", "`/access/v1/…`"),
    ("ext-authz", "gRPC `ext_authz`"),
    ("http", "another route"),
    (
        "token",
        "`/oauth/token`, `/oauth/revoke`, `/oauth/introspect`",
    ),
    ("people", "a page for people, `/oauth/register`"),
    ("scim", "`/scim/v2/…`"),
    ("ssf", "`/ssf/NAME`"),
    ("ledger", "`/ledger/…`"),
    ("admin", "the administration socket"),
];

fn refused_counts(page: &mut String, sources: &Sources) -> Result<()> {
    page.push_str("\n## Refused before there was a call\n\nSuch requests are counted and put on record in bunches (`refused` in `calls`), so that strangers\ncannot fill the disk. `cause` is a word of the tables above, or:\n\n");
    let mut noted: BTreeMap<String, String> = BTreeMap::new();
    for path in ["gateway/src", "server/src"] {
        for text in sources.tree(path)? {
            for call in text.split(".note(").skip(1) {
                let arguments = call.split(')').next().unwrap_or_default();
                let words: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
                match *words.as_slice() {
                    [cause, at] => drop(noted.insert(cause.to_owned(), at.to_owned())),
                    [at] => drop(noted.insert(String::new(), at.to_owned())),
                    _ => {}
                }
            }
        }
    }
    page.push_str(&head(&["cause", "means"]));
    for cause in noted.keys().filter(|cause| !cause.is_empty()) {
        page.push_str(&row(&[&code(cause), meaning(CAUSES, cause)?]));
    }
    for (cause, _) in CAUSES {
        anyhow::ensure!(
            noted.contains_key(*cause),
            "nothing is refused as `{cause}` any more"
        );
    }
    page.push_str(&row(&[
        "`other`",
        "There were more kinds of refusals than are counted apart.",
    ]));
    page.push_str("\nand `at` is one of:\n\n");
    page.push_str(&head(&["at", "is"]));
    for at in noted.values() {
        meaning(PLACES, at)?;
    }
    for (at, is) in PLACES {
        page.push_str(&row(&[&code(at), is]));
    }
    page.push_str(&row(&["`other`", "as for `cause`"]));
    Ok(())
}

fn meaning(table: &[(&str, &'static str)], word: &str) -> Result<&'static str> {
    let found = table.iter().find(|(name, _)| *name == word);
    found
        .map(|(_, meaning)| *meaning)
        .with_context(|| format!("no meaning of `{word}`"))
}

/// How a failure of a permitted call is made.
const CALLED: [&str; 2] = ["Failure::not_sent(", "Failure::unknown("];
/// What the words mean that stand there.
const FAILURES: &[(&str, &str)] = &[
    (
        "unreachable",
        "The upstream could not be reached or started.",
    ),
    (
        "not-carried",
        "The message cannot be carried into the upstream's era, or its answer back.",
    ),
    (
        "not-masked",
        "Something in the request has to be masked, and no mask can be put there, or what it is then is not permitted.",
    ),
    (
        "input-denied",
        "The upstream's answer asks the client for something that is denied, so it is withheld.",
    ),
    (
        "record-timeout",
        "The decision's record took longer than `[ledger] timeout`, so the call was refused.",
    ),
    (
        "withheld",
        "A question of the upstream's was permitted, and not put to the client because the answer that it came in is withheld.",
    ),
    (
        "not-sent",
        "The connection failed before anything was written.",
    ),
    (
        "cut",
        "The instance was narrowed while the call was under way.",
    ),
    (
        "instance-expired",
        "The instance's time ended while the call was under way.",
    ),
    ("cancelled", "The client cancelled it, or went away."),
    (
        "node-ended",
        "The node ended while the call was under way; its next start wrote this.",
    ),
    (
        "client-gone",
        "The upstream asked something of a client that was gone.",
    ),
    (
        "node-stopped",
        "The node stopped while the call was under way.",
    ),
    (
        "session-over",
        "The instance was narrowed, and its session with the upstream was closed.",
    ),
    (
        "session-closed",
        "The client closed the session in which it asked.",
    ),
    ("timeout", "No answer within `timeout_s`."),
    ("answer-too-long", "The answer was longer than is read."),
    (
        "malformed-answer",
        "The answer was not a message that is accepted.",
    ),
    ("broken", "The upstream closed the connection or ended."),
    ("http-error", "The upstream answered with an HTTP error."),
];

fn outcomes(page: &mut String, sources: &Sources) -> Result<()> {
    page.push_str("\n## Permitted calls that did not complete\n\nThe `cause` of an `outcome` entry. What was *not sent* had no effect; of what is *unknown* nobody here\ncan say whether it had, and the agent is told so.\n\n");
    page.push_str(&head(&["cause", "means"]));
    let mut found: BTreeSet<String> = BTreeSet::new();
    let node = sources.text("server/src/node/resume.rs")?;
    for text in sources.tree("gateway/src")?.iter().chain([&node]) {
        for mark in CALLED {
            for call in text.split(mark).skip(1) {
                let first = call
                    .trim_start()
                    .split([',', ')'])
                    .next()
                    .unwrap_or_default();
                if let Some(word) = first.strip_prefix('"').and_then(|it| it.strip_suffix('"')) {
                    found.insert(word.to_owned());
                }
            }
        }
        let mut before = "";
        for line in text.lines().map(str::trim) {
            // `Ended::Cut => ("cut", …),`, `abandon(…, "session-over").await;`,
            // `cause: Some("node-ended"…`, and `Some("client-gone"),` behind what came of it.
            let inside = line
                .strip_prefix("Ended::")
                .and_then(|it| it.split_once(" => (\""))
                .or_else(|| line.split_once("abandon(")?.1.split_once(", \""))
                .or_else(|| Some(("", line.strip_prefix("cause: Some(\"")?)))
                .or_else(|| Some(("", line.strip_prefix("Some(\"")?)))
                .filter(|_| !line.starts_with("Some(") || before.starts_with("Came::"));
            before = line;
            if let Some((word, _)) = inside.and_then(|(_, it)| it.split_once('"')) {
                found.insert(word.to_owned());
            }
        }
    }
    for cause in &found {
        page.push_str(&row(&[&code(cause), meaning(FAILURES, cause)?]));
    }
    for (cause, _) in FAILURES {
        anyhow::ensure!(
            found.contains(*cause),
            "nothing fails as `{cause}` any more"
        );
    }
    Ok(())
}

fn ledger_errors(page: &mut String) {
    page.push_str("\n## What cannot be recorded does not happen\n\nWhy an append was not acknowledged. A call is then refused with a text that says no more than that\nit could not be recorded; the node's log has this one.\n\n");
    page.push_str(&head(&["text", "what to do"]));
    let all = every! { AppendError:
        AppendError::Narrowed => AppendError::Narrowed, "Nothing: the instance was narrowed in the same moment, and the call is denied.";
        AppendError::TooLarge { .. } => AppendError::TooLarge { what: "entry", length: 70_000, max: vocab::limits::ENTRY_BYTES_MAX }, "Send less: an entry is under 64 KiB, what is sealed beside it has a limit too.";
        AppendError::Malformed(_) => AppendError::Malformed(EntryError::Body), "Our fault: report it.";
        AppendError::WrongLog { .. } => AppendError::WrongLog { kind: Kind::Decision, log: LogName::Control }, "Our fault: report it.";
        AppendError::Busy => AppendError::Busy, "Try again. If it stays: the disk is slow (`tipstaff_ledger_queue`).";
        AppendError::Clock { .. } => AppendError::Clock { behind: Duration::from_mins(1) }, "Set the node's clock: a log's time never goes back.";
        AppendError::Unwritable { .. } => AppendError::Unwritable { cause: "no space left on device".to_owned() }, "Make the disk writable, or make room. The node tries again by itself.";
        AppendError::Closed => AppendError::Closed, "The node is stopping.";
    };
    for (error, act) in all {
        page.push_str(&row(&[&error.to_string(), act]));
    }
}

fn administration(page: &mut String, sources: &Sources) -> Result<()> {
    page.push_str("\n## Refused administration\n\nThe command says why and what to do, and exits with 1. With `--json` it prints `{error, help, code}`, of\nwhich `help` and `code` may be missing; `code` is `unknown`, `exists` or `refused` for what the register\nrefuses:\n\n");
    errors_of(page, &sources.items("register/src/refusal.rs")?, "Refusal")?;
    page.push_str("\nand what could not be done although it may be:\n\n");
    errors_of(
        page,
        &sources.items("register/src/command.rs")?,
        "CommandError",
    )
}

fn opening(page: &mut String, sources: &Sources) -> Result<()> {
    page.push_str("\n## A log that is not opened\n\nA node that cannot tell what its log says does not serve. All of these are fatal at the start; compare\nwith an anchor or a backup before anything else, and keep the folder as it is.\n\n");
    errors_of(page, &sources.items("store/src/error.rs")?, "OpenError")
}

fn errors_of(page: &mut String, items: &crate::source::Items, name: &str) -> Result<()> {
    page.push_str(&head(&["text", "when"]));
    for variant in &items.get(name)?.members {
        if !variant.message.is_empty() {
            page.push_str(&row(&[&variant.message, &variant.docs]));
        }
    }
    Ok(())
}
