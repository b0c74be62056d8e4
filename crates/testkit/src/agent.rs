//! Agents with their keys, and the tokens they get.

use std::sync::Arc;

use serde_json::Value;
use tokens::{AgentKey, DpopKey, HandingOn, PublicUrl, Resource};
use vocab::{Clock as _, Time};

use crate::client::{Legacy, Modern};
use crate::wire::{Answer, Ask, Wire};

/// A registered agent and the key that starts its instances.
#[derive(Debug, Clone)]
pub struct Agent {
    wire: Arc<Wire>,
    key: Arc<AgentKey>,
    purpose: String,
}

impl Agent {
    pub(crate) fn new(wire: &Arc<Wire>, key: AgentKey, purpose: &str) -> Self {
        Self {
            wire: Arc::clone(wire),
            key: Arc::new(key),
            purpose: purpose.to_owned(),
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        self.key.agent.as_str()
    }

    /// Its key.
    pub fn key(&self) -> &AgentKey {
        &self.key
    }

    /// The same agent, acting for another purpose.
    #[must_use]
    pub fn acting_for(&self, purpose: &str) -> Self {
        Self {
            purpose: purpose.to_owned(),
            ..self.clone()
        }
    }

    /// A fresh key to prove possession of.
    pub fn fresh_key(&self) -> Arc<DpopKey> {
        Arc::new(DpopKey::generate(&*self.wire.rng).unwrap())
    }

    /// The request for a token; a bearer token without a key.
    pub fn token_request(&self, upstream: &str, key: Option<&DpopKey>) -> Ask {
        let (now, rng) = (self.wire.clock.now(), &*self.wire.rng);
        let url: PublicUrl = self.wire.public_url.parse().unwrap();
        let resource = Resource::new(&url, upstream.parse().unwrap());
        let form = self
            .key
            .token_form(&self.purpose.parse().unwrap(), &resource, now, rng);
        let ask = Ask::new(&self.wire, "POST", "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.unwrap());
        match key {
            None => ask,
            Some(key) => {
                let proof = key.proof("POST", &url.token_endpoint(), None, now, rng);
                ask.header("dpop", proof.unwrap())
            }
        }
    }

    /// A request to the token endpoint with these parameters, encoded as they must be.
    pub fn form(&self, parameters: &[(&str, &str)]) -> Ask {
        let encode = |text: &str| {
            let byte = |byte: u8| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    char::from(byte).to_string()
                }
                _ => format!("%{byte:02X}"),
            };
            text.bytes().map(byte).collect::<String>()
        };
        let pairs: Vec<_> = parameters
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        Ask::new(&self.wire, "POST", "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(pairs.join("&"))
    }

    /// A client assertion made now.
    pub fn assertion(&self) -> String {
        self.assertion_at(self.wire.clock.now())
    }

    /// A client assertion made at another time.
    pub fn assertion_at(&self, now: Time) -> String {
        self.key.assertion(now, &*self.wire.rng).unwrap()
    }

    /// A token bound to `key`; the instance that proved that key before goes on.
    pub async fn token_by(&self, upstream: &str, key: &Arc<DpopKey>) -> Token {
        self.take(upstream, Some(Arc::clone(key))).await
    }

    /// A token bound to a fresh key: a new instance.
    pub async fn token(&self, upstream: &str) -> Token {
        self.take(upstream, Some(self.fresh_key())).await
    }

    /// A bearer token: a new instance.
    pub async fn bearer(&self, upstream: &str) -> Token {
        self.take(upstream, None).await
    }

    async fn take(&self, upstream: &str, key: Option<Arc<DpopKey>>) -> Token {
        let answer = self.token_request(upstream, key.as_deref()).send().await;
        Token::of(&self.wire, upstream, key, &answer)
    }

    /// The request by which the holder of `parent` starts an instance of this agent below it, with
    /// a key of its own. With the parent's key it is one for a credential for one call.
    pub fn exchange(&self, parent: &Token, key: &DpopKey, asked: &Below<'_>) -> Ask {
        let (now, rng) = (self.wire.clock.now(), &*self.wire.rng);
        let url: PublicUrl = self.wire.public_url.parse().unwrap();
        let holder = parent.key.as_deref().filter(|own| own.jkt() != key.jkt());
        let handing_on = HandingOn {
            issuer: &url,
            agent: &self.key.agent,
            jkt: Some(key.jkt()),
            details: asked.details,
            max_calls: asked.max_calls,
            purpose: asked.purpose.map(|it| it.parse().unwrap()).as_ref(),
            resource: &Resource::new(&url, asked.upstream.unwrap_or("files").parse().unwrap()),
            lifetime_seconds: None,
        }
        .form(&parent.text, holder, now, rng)
        .unwrap();
        let form = self.key.authenticated(&handing_on, now, rng).unwrap();
        let proof = key.proof("POST", &url.token_endpoint(), None, now, rng);
        Ask::new(&self.wire, "POST", "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("dpop", proof.unwrap())
            .body(form.expose().clone())
    }

    /// An instance of this agent below that of `parent`.
    pub async fn below(&self, parent: &Token, asked: &Below<'_>) -> Token {
        let key = self.fresh_key();
        let answer = self.exchange(parent, &key, asked).send().await;
        Token::of(
            &self.wire,
            asked.upstream.unwrap_or("files"),
            Some(key),
            &answer,
        )
    }

    /// A credential of the holder of `parent` for one call of a tool of `files`.
    pub async fn once(&self, parent: &Token, tool: &str, arguments: &str) -> Token {
        let digest = vocab::Digest::of(arguments.as_bytes());
        let details = format!(
            r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"{tool}","arguments_sha256":"{digest}"}}]"#
        );
        let asked = Below {
            details: Some(&details),
            ..Below::default()
        };
        let key = Arc::clone(parent.key.as_ref().expect("a bound token"));
        let answer = self.exchange(parent, &key, &asked).send().await;
        Token::of(&self.wire, "files", Some(key), &answer)
    }
}

/// What an instance hands on; by default everything, for `files`.
#[derive(Debug, Default, Clone, Copy)]
pub struct Below<'a> {
    /// `authorization_details`.
    pub details: Option<&'a str>,
    /// Calls that it and all below it may make.
    pub max_calls: Option<u64>,
    /// Why it acts.
    pub purpose: Option<&'a str>,
    /// The upstream that its token is for.
    pub upstream: Option<&'a str>,
}

/// An access token of one instance for one upstream.
#[derive(Debug, Clone)]
pub struct Token {
    wire: Arc<Wire>,
    key: Option<Arc<DpopKey>>,
    upstream: String,
    /// The access token.
    pub text: String,
    /// The instance.
    pub instance: String,
    /// All that the token endpoint said.
    pub response: Value,
}

impl Token {
    /// A bearer token that a client got by itself.
    pub(crate) fn bearer_of(wire: &Arc<Wire>, upstream: &str, text: &str) -> Self {
        Self {
            wire: Arc::clone(wire),
            key: None,
            upstream: upstream.to_owned(),
            text: text.to_owned(),
            instance: String::new(),
            response: Value::Null,
        }
    }

    fn of(wire: &Arc<Wire>, upstream: &str, key: Option<Arc<DpopKey>>, answer: &Answer) -> Self {
        assert_eq!(answer.status, 200, "no token: {}", answer.text());
        let response = answer.json();
        let text = |name: &str| response[name].as_str().unwrap().to_owned();
        Self {
            wire: Arc::clone(wire),
            key,
            upstream: upstream.to_owned(),
            text: text("access_token"),
            instance: text("instance"),
            response,
        }
    }

    /// The key that it is bound to.
    pub fn key(&self) -> Option<&Arc<DpopKey>> {
        self.key.as_ref()
    }

    /// The upstream's path.
    pub fn path(&self) -> String {
        format!("/mcp/{}", self.upstream)
    }

    /// What a proof for the upstream names.
    pub fn uri(&self) -> String {
        format!("{}{}", self.wire.public_url, self.path())
    }

    /// A fresh proof for a request to the upstream.
    pub fn proof(&self, method: &str) -> String {
        let key = self.key.as_ref().expect("a bound token");
        let token = Some(self.text.as_str());
        self.proof_by(key, method, &self.uri(), token, self.wire.clock.now())
    }

    /// A proof of anything.
    pub fn proof_by(
        &self,
        key: &DpopKey,
        method: &str,
        uri: &str,
        token: Option<&str>,
        now: Time,
    ) -> String {
        key.proof(method, uri, token, now, &*self.wire.rng).unwrap()
    }

    /// A request to the upstream with good credentials.
    pub fn ask(&self, method: &str) -> Ask {
        let ask = Ask::new(&self.wire, method, &self.path());
        match &self.key {
            None => ask.header("authorization", format!("Bearer {}", self.text)),
            Some(_) => ask
                .header("authorization", format!("DPoP {}", self.text))
                .header("dpop", self.proof(method)),
        }
    }

    /// A client of 2026-07-28.
    pub fn modern(&self) -> Modern {
        Modern::new(self.clone())
    }

    /// A client of 2025-11-25 with a session.
    pub async fn legacy(&self) -> Legacy {
        Legacy::open(self.clone(), "2025-11-25").await
    }

    /// A client of an older revision with a session.
    pub async fn legacy_of(&self, version: &str) -> Legacy {
        Legacy::open(self.clone(), version).await
    }
}
