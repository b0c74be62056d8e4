//! The authorization server: from a request to an access token of a started instance.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ledger::{Actor, ActorKind};
use register::{
    Binding, Command, CommandError, Control, Done, EndReason, Instance, KeyId, PublicJwk, Refusal,
    SigningLife,
};
use ring::hmac;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use vocab::limits::{
    ACCESS_TOKEN_SECONDS, REPLAY_CACHE_MAX, REVOCATIONS_PER_MINUTE_MIN, TOKEN_CACHE_MAX,
};
use vocab::rng::{self, RngError};
use vocab::{AgentId, Clock, IdError, InstanceId, PurposePath, Rng, Secret, Time, UpstreamName};

use crate::access::Claims;
use crate::assertion::{Assertion, AssertionError, Client};
use crate::authorize::{CodeError, Codes};
use crate::cache::TokenCache;
use crate::dpop::{self, ProofError};
use crate::exchange::{ACCESS_TOKEN, ExchangeError};
use crate::fetch::Fetch;
use crate::fresh::Moment;
use crate::grants::{IdJagError, NoPerson, RefreshError};
use crate::issued::Issued;
use crate::jwk::{PublicKey, b64};
use crate::login::Login;
use crate::mcp_client::{McpClientError, McpClients};
use crate::replay::ReplayCache;
use crate::request::{
    ClaimedClient, Grant, OwnClient, OwnTokenRequest, RequestError, TokenRequest,
};
use crate::signer::{SignError, TokenSigner};
use crate::uri::{PublicUrl, Resource};
use crate::workload::{Tied, WorkloadError, Workloads};

/// Asks whether the node has an upstream of that name.
pub type UpstreamExists = Box<dyn Fn(&UpstreamName) -> bool + Send + Sync>;

/// What an [`Issuer`] is made of.
pub struct IssuerConfig {
    /// The address under which agents reach the node.
    pub public_url: PublicUrl,
    /// The key that signs access tokens.
    pub token_key: Arc<dyn TokenSigner>,
    /// Who says so in the control log: the node.
    pub actor: Actor,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The random source.
    pub rng: Arc<dyn Rng>,
    /// The register.
    pub control: Arc<Control>,
    /// When this node started. Proofs and assertions made in or before that second are refused,
    /// since the memory of which were used is gone with the process before: take the time once
    /// the data folder is locked, and do not serve within the same second. If that process did not
    /// stop by itself ([`Issuer::settled`]), it is later by the leeway for clocks.
    pub boot: Time,
    /// Which upstreams there are.
    pub upstreams: UpstreamExists,
    /// Whose word is taken beside that of registered keys.
    pub trust: Trust,
}

/// Whose word is taken beside that of registered keys, and what fetches what they say.
#[derive(Debug)]
pub struct Trust {
    /// Gets documents.
    pub fetch: Arc<dyn Fetch>,
    /// What authenticates to this node what it gave to people's clients: their ids, their refresh
    /// tokens. Whoever has it can make some up.
    pub secret: Secret<[u8; 32]>,
    /// Issuers of workloads' tokens.
    pub workloads: Vec<Workloads>,
    /// The company's provider, at which people sign in.
    pub login: Option<Login>,
    /// Whether that provider's assertions about people (ID-JAG) start instances.
    pub assertions: bool,
    /// Whether people can sign in at all: at the provider, or by the node's own login.
    pub people: bool,
    /// Whether people's clients may describe themselves on this machine: for development.
    pub loopback_clients: bool,
}

impl fmt::Debug for IssuerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerConfig")
            .field("public_url", &self.public_url)
            .finish_non_exhaustive()
    }
}

/// The node's authority on tokens: it issues them to agents that authenticate themselves, and
/// says of each request who sent it ([`Issuer::verify`]).
pub struct Issuer {
    config: IssuerConfig,
    token_endpoint: String,
    revocation_endpoint: String,
    /// The keys that sign, or are to.
    signers: RwLock<Vec<Arc<dyn TokenSigner>>>,
    /// Keys of the register that were read; whether they verify is looked up each time.
    keys: RwLock<HashMap<KeyId, PublicKey>>,
    used: ReplayCache,
    revocations: PerMinute,
    issued: Issued,
    pub(crate) known: TokenCache,
    pub(crate) tied: Tied,
    pub(crate) codes: Codes,
    pub(crate) mcp_clients: McpClients,
    pub(crate) refresh_mac: hmac::Key,
}

impl Issuer {
    /// An issuer with no memory of what was used before. Its key is on record before it signs
    /// anything, and the keys before it verify for as long as a token of theirs can be valid.
    pub async fn new(config: IssuerConfig) -> Result<Self, IssuerError> {
        let present = config.token_key.public();
        let add = Command::AddTokenKey {
            kid: present.thumbprint().parse()?,
            jwk: present.to_registered()?,
        };
        config.control.execute(config.actor.clone(), add).await?;
        let signers = RwLock::new(vec![Arc::clone(&config.token_key)]);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, config.trust.secret.expose());
        let mac = |usage: &str| {
            let derived = hmac::sign(&secret, usage.as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        let mcp_clients = McpClients::new(
            mac("tipstaff client_id v1"),
            Arc::clone(&config.trust.fetch),
            Arc::clone(&config.clock),
            config.trust.loopback_clients,
        );
        Ok(Self {
            tied: Tied::default(),
            codes: Codes::default(),
            mcp_clients,
            refresh_mac: mac("tipstaff refresh_token v1"),
            token_endpoint: config.public_url.token_endpoint(),
            revocation_endpoint: config.public_url.revocation_endpoint(),
            signers,
            keys: RwLock::default(),
            used: ReplayCache::new(REPLAY_CACHE_MAX),
            revocations: PerMinute::default(),
            issued: Issued::default(),
            known: TokenCache::new(TOKEN_CACHE_MAX),
            config,
        })
    }

    /// Gives it a key that is to sign, once the register says that it does.
    pub fn hold(&self, signer: Arc<dyn TokenSigner>) {
        let mut signers = self.signers.write().unwrap_or_else(PoisonError::into_inner);
        signers.retain(|held| held.public() != signer.public());
        signers.push(signer);
    }

    /// Forgets the keys that will sign nothing any more.
    pub fn forget(&self) {
        let signs = |signer: &Arc<dyn TokenSigner>| {
            let kid = signer.public().thumbprint();
            self.config.control.view(|state| {
                let mut keys = state.token_keys().iter();
                keys.any(|key| {
                    key.kid.as_str() == &**kid
                        && matches!(
                            key.life,
                            SigningLife::Announced { .. } | SigningLife::Current { .. }
                        )
                })
            })
        };
        let mut signers = self.signers.write().unwrap_or_else(PoisonError::into_inner);
        signers.retain(signs);
    }

    /// The signer of the key that the register says is to sign.
    pub(crate) fn signer(&self) -> Result<Arc<dyn TokenSigner>, SignError> {
        let kid = self.config.control.view(|state| {
            let keys = state.token_keys().iter();
            let mut current = keys.filter(|key| matches!(key.life, SigningLife::Current { .. }));
            current.next().map(|key| key.kid.clone())
        });
        let signers = self.signers.read().unwrap_or_else(PoisonError::into_inner);
        let is = |kid: &KeyId, signer: &Arc<dyn TokenSigner>| {
            &**signer.public().thumbprint() == kid.as_str()
        };
        kid.and_then(|kid| signers.iter().find(|signer| is(&kid, signer)).cloned())
            .ok_or_else(|| SignError("the key that is to sign is not at hand".to_owned()))
    }

    /// The node's public address, which is the issuer's identifier.
    pub const fn public_url(&self) -> &PublicUrl {
        &self.config.public_url
    }

    /// An upstream as a protected resource of this node, whether or not it exists.
    pub fn resource(&self, upstream: UpstreamName) -> Resource {
        Resource::new(&self.config.public_url, upstream)
    }

    pub(crate) fn serves(&self, upstream: &UpstreamName) -> bool {
        (self.config.upstreams)(upstream)
    }

    pub(crate) fn rng(&self) -> &dyn Rng {
        &*self.config.rng
    }

    pub(crate) fn token_endpoint(&self) -> &str {
        &self.token_endpoint
    }

    pub(crate) fn revocation_endpoint(&self) -> &str {
        &self.revocation_endpoint
    }

    pub(crate) const fn trust(&self) -> &Trust {
        &self.config.trust
    }

    /// Who says so in the control log where nobody else does.
    pub(crate) const fn node(&self) -> &Actor {
        &self.config.actor
    }

    pub(crate) const fn control(&self) -> &Arc<Control> {
        &self.config.control
    }

    pub(crate) const fn used(&self) -> &ReplayCache {
        &self.used
    }

    /// When nothing that was used is dated ahead any more. A process that follows refuses all that
    /// this one took if it starts at that time or later: so wait for it before stopping.
    pub fn settled(&self) -> Time {
        self.used.latest()
    }

    /// The ids of tokens that this process issued to an instance and that had not expired at `at`,
    /// and when they do.
    pub fn issued(&self, instance: &InstanceId, at: Time) -> Vec<(Arc<str>, Time)> {
        self.issued.of(instance, at)
    }

    pub(crate) fn moment(&self) -> Moment {
        Moment {
            now: self.config.clock.now(),
            boot: self.config.boot,
        }
    }

    /// The keys that are published at `now`: the one that signs, the one that is to sign next, and
    /// those before as long as they verify.
    pub(crate) fn published_keys(&self, now: Time) -> Vec<PublicKey> {
        let keys = self.config.control.view(|state| {
            let keys = state.token_keys().iter().rev();
            let mut keys: Vec<_> = keys.filter(|key| key.is_published(now)).collect();
            // Who looks at one only should find that one.
            keys.sort_by_key(|key| !matches!(key.life, SigningLife::Current { .. }));
            let keys = keys.into_iter();
            keys.map(|key| (key.kid.clone(), key.jwk.clone()))
                .collect::<Vec<_>>()
        });
        let read = keys
            .into_iter()
            .filter_map(|(kid, jwk)| self.read(kid, &jwk));
        read.collect()
    }

    /// The key of that id, if tokens that it signed are believed at `now`.
    pub(crate) fn verifying_key(&self, kid: &str, now: Time) -> Option<PublicKey> {
        let (kid, jwk) = self.config.control.view(|state| {
            let key = state
                .token_keys()
                .iter()
                .find(|key| key.kid.as_str() == kid)?;
            key.verifies(now)
                .then(|| (key.kid.clone(), key.jwk.clone()))
        })?;
        self.read(kid, &jwk)
    }

    /// A key of the register, read once.
    fn read(&self, kid: KeyId, jwk: &PublicJwk) -> Option<PublicKey> {
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = known.get(&kid) {
            return Some(key.clone());
        }
        drop(known);
        let key = PublicKey::from_registered(jwk).ok()?;
        let mut known = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(kid, key.clone());
        Some(key)
    }

    /// Answers `POST /oauth/token`: finds out on whose word an instance is to start or go on, and
    /// signs a token for it. The server adds `Cache-Control: no-store`.
    pub async fn token(&self, request: &TokenRequest) -> Result<TokenResponse, TokenError> {
        let moment = self.moment();
        let granted = match &request.grant {
            Grant::Agent { client, instance } => {
                self.by_agent(request, client, instance.as_ref(), moment)
                    .await?
            }
            Grant::Assertion { assertion, client } => {
                let assertion = assertion.expose();
                match client {
                    Some(client) => self.by_id_jag(request, assertion, client, moment).await?,
                    None => self.by_workload(request, assertion, moment).await?,
                }
            }
            Grant::Code {
                code,
                redirect_uri,
                verifier,
                client,
            } => {
                let redirect_uri = redirect_uri.as_deref();
                let (code, verifier) = (code.expose(), verifier.expose());
                self.by_code(request, code, redirect_uri, verifier, client, moment)
                    .await?
            }
            Grant::Refresh { token, client } => {
                self.by_refresh(request, token.expose(), client, moment)
                    .await?
            }
            Grant::Exchange(exchange) => self.by_exchange(request, exchange, moment).await?,
        };
        let Granted {
            instance,
            upstream,
            key,
            refresh_token,
        } = granted;
        // What is handed on may live for a shorter time than a token.
        let left = instance.expires_at.since(moment.now).as_secs();
        let (issued_token_type, expires_in) = match request.grant {
            Grant::Exchange(_) => (Some(ACCESS_TOKEN), ACCESS_TOKEN_SECONDS.min(left)),
            Grant::Agent { .. }
            | Grant::Assertion { .. }
            | Grant::Code { .. }
            | Grant::Refresh { .. } => (None, ACCESS_TOKEN_SECONDS),
        };
        //= https://www.rfc-editor.org/rfc/rfc9449#section-5
        //# A token_type of DPoP MUST be included in the access token response
        let token_type = if key.is_some() { "DPoP" } else { "Bearer" };
        let jkt = key.map(|key| Arc::clone(key.thumbprint()));
        Ok(TokenResponse {
            access_token: self.sign(&instance, upstream, jkt, expires_in).await?,
            issued_token_type,
            token_type,
            expires_in,
            authorization_details: self.details(&instance),
            refresh_token,
            instance: instance.id.clone(),
            purpose: instance.purpose.clone(),
        })
    }

    /// What was handed on to an instance, as `authorization_details`: locations are URIs.
    pub(crate) fn details(&self, instance: &Instance) -> Option<Box<RawValue>> {
        let authority = instance.bound()?;
        Some(authority.to_json(|name| self.resource(name.clone()).uri().to_owned()))
    }

    async fn by_agent(
        &self,
        request: &TokenRequest,
        client: &ClaimedClient,
        continues: Option<&InstanceId>,
        moment: Moment,
    ) -> Result<Granted, TokenError> {
        let client = self.authenticate(client, &self.token_endpoint, moment)?;
        let purpose = self.purpose(request, &client.agent)?;
        let upstream = self.upstream(request)?;
        let key = self.possession(request, moment)?;
        let actor = actor(&client);
        let command = Command::StartInstance {
            agent: client.agent,
            kid: client.kid,
            purpose,
            binding: binding(key.as_ref())?,
            upstream: upstream.clone(),
            continues: continues.cloned(),
        };
        self.start(actor, command, upstream, key).await
    }

    /// Why an instance of an agent is to act: what the request says. Clients that know OAuth and not
    /// this node say nothing, and need not where the agent is registered for one purpose only.
    pub(crate) fn purpose(
        &self,
        request: &TokenRequest,
        agent: &AgentId,
    ) -> Result<PurposePath, RequestError> {
        if let Some(purpose) = &request.purpose {
            return Ok(purpose.clone());
        }
        self.config.control.view(|state| {
            match state.agent(agent).map(|agent| agent.purposes.as_slice()) {
                Some([only]) => Ok(only.clone()),
                Some(_) | None => Err(RequestError::Missing("purpose")),
            }
        })
    }

    /// Has the register start an instance, or let one go on.
    pub(crate) async fn start(
        &self,
        actor: Actor,
        command: Command,
        upstream: UpstreamName,
        key: Option<PublicKey>,
    ) -> Result<Granted, TokenError> {
        match self.config.control.execute(actor, command).await? {
            Done::Started { instance, .. } | Done::Continued { instance } => Ok(Granted {
                instance,
                upstream,
                key,
                refresh_token: None,
            }),
            Done::Changed { .. } | Done::Unchanged { .. } => {
                Err(TokenError::Impossible("the register gave no instance"))
            }
        }
    }

    /// What `POST /oauth/revoke` (RFC 7009) comes to: authenticates the agent or the person's client,
    /// and gives the command that ends the instance of its token, expired or not. None if the token is
    /// none of this node's, which is no error. Whoever carries it out sees to it that the instance does
    /// nothing more.
    pub async fn revocation(
        &self,
        request: &OwnTokenRequest,
    ) -> Result<Option<(Actor, Command)>, TokenError> {
        let moment = self.moment();
        let token = request.token.expose();
        match &request.client {
            OwnClient::Agent(client) => self.revocation_by_agent(client, token, moment),
            OwnClient::Person(client) => self.revocation_by_client(client, token, moment).await,
        }
    }

    fn revocation_by_agent(
        &self,
        client: &ClaimedClient,
        token: &str,
        moment: Moment,
    ) -> Result<Option<(Actor, Command)>, TokenError> {
        //= https://www.rfc-editor.org/rfc/rfc7009#section-5
        //# Appropriate countermeasures, which should be in place for the token endpoint as well,
        //# MUST be applied to the revocation endpoint
        let client = self.authenticate(client, &self.revocation_endpoint, moment)?;
        let Ok((claims, _)) = self.signed(token, moment.now) else {
            return Ok(None);
        };
        //= https://www.rfc-editor.org/rfc/rfc7009#section-2.1
        //# The authorization server first validates the client credentials (in
        //# case of a confidential client) and then verifies whether the token
        //# was issued to the client making the revocation request.
        // Who holds the token can read whose it is, so this tells nothing.
        if claims.agent != client.agent {
            return Err(TokenError::NotYours);
        }
        let agent = self.config.control.view(|state| {
            let _known = state.instance(&claims.instance)?;
            state.agent(&client.agent).cloned()
        });
        let Some(agent) = agent else {
            return Ok(None);
        };
        agent
            .holds(&client.kid, moment.now)
            .map_err(CommandError::Refused)?;
        self.count_revocation(&agent.id, moment.now)?;
        let command = Command::EndInstance {
            id: claims.instance,
            reason: EndReason::Closed,
        };
        Ok(Some((actor(&client), command)))
    }

    //= https://www.rfc-editor.org/rfc/rfc7009#section-5
    //# Care MUST be taken to prevent malicious clients from exploiting this feature to launch
    //# denial-of-service attacks.
    pub(crate) fn count_revocation(&self, agent: &AgentId, now: Time) -> Result<(), TokenError> {
        let instances = |agent: &Arc<register::Agent>| agent.max_instances;
        let most = self
            .config
            .control
            .view(|state| state.agent(agent).map_or(0, instances))
            .max(REVOCATIONS_PER_MINUTE_MIN);
        if self.revocations.take(agent, most, now) {
            Ok(())
        } else {
            Err(TokenError::TooMany { most })
        }
    }

    pub(crate) fn authenticate(
        &self,
        claimed: &ClaimedClient,
        endpoint: &str,
        moment: Moment,
    ) -> Result<Client, TokenError> {
        let assertion = Assertion::parse(&claimed.assertion, claimed.client_id.as_deref())?;
        let agent = assertion.claimed_agent();
        let agent = self
            .config
            .control
            .view(|state| state.agent(agent).cloned());
        let audiences = [self.config.public_url.as_str(), endpoint];
        Ok(assertion.accept(agent.as_deref(), audiences, moment, &self.used)?)
    }

    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
    //# The value of the "resource" parameter MUST be an absolute URI, as specified by Section
    //# 4.3 of [RFC3986], that MAY include a query component and MUST NOT include a fragment
    //# component.
    pub(crate) fn upstream(&self, request: &TokenRequest) -> Result<UpstreamName, TokenError> {
        request
            .resource
            .as_deref()
            .and_then(|resource| self.resource_named(resource))
            .ok_or(TokenError::Resource)
    }

    /// The upstream that a resource indicator names, if there is one.
    pub(crate) fn resource_named(&self, resource: &str) -> Option<UpstreamName> {
        self.config
            .public_url
            .upstream_of(resource)
            .filter(|upstream| self.serves(upstream))
    }

    /// The key whose possession the request proves; none if it asks for a bearer token.
    pub(crate) fn possession(
        &self,
        request: &TokenRequest,
        moment: Moment,
    ) -> Result<Option<PublicKey>, TokenError> {
        let Some(proof) = &request.proof else {
            return Ok(None);
        };
        let expected = dpop::Expected {
            method: "POST",
            uri: &self.token_endpoint,
            token: None,
            delegation: None,
            moment,
        };
        let key = dpop::accept(proof, None, &expected, &self.used)?;
        Ok(key.map(dpop::ProofKey::into_key))
    }

    async fn sign(
        &self,
        instance: &Instance,
        upstream: UpstreamName,
        jkt: Option<Arc<str>>,
        seconds: u64,
    ) -> Result<String, TokenError> {
        let now = self.config.clock.now().as_secs();
        let delegated_by = self.config.control.view(|state| {
            let above = state.ancestors(instance);
            above.map(|it| it.id.clone()).collect()
        });
        let claims = Claims {
            audience: self.resource(upstream).uri().to_owned(),
            sponsor: instance.sponsor.clone(),
            agent: instance.agent.clone(),
            instance: instance.id.clone(),
            delegated_by,
            purpose: instance.purpose.clone(),
            jkt,
            token_id: b64(&rng::bytes::<16>(&*self.config.rng)?).into(),
            issued_at: now,
            expires_at: now + seconds,
        };
        self.issued
            .note(&claims.instance, &claims.token_id, now, claims.expires_at);
        let claims = claims.to_json(self.config.public_url.as_str());
        Ok(self.signed_as("at+jwt", &claims).await?)
    }
}

/// How the tokens of an instance are bound that proves this key.
pub(crate) fn binding(key: Option<&PublicKey>) -> Result<Binding, TokenError> {
    let Some(key) = key else {
        return Ok(Binding::Bearer);
    };
    let jkt = key.thumbprint().parse();
    let jkt = jkt.map_err(|_| TokenError::Impossible("a thumbprint is not one"))?;
    Ok(Binding::Dpop { jkt })
}

/// What a grant came to.
pub(crate) struct Granted {
    pub(crate) instance: Arc<Instance>,
    pub(crate) upstream: UpstreamName,
    pub(crate) key: Option<PublicKey>,
    pub(crate) refresh_token: Option<String>,
}

/// How often something happened for each agent in the present minute.
#[derive(Default)]
struct PerMinute(Mutex<(u64, HashMap<AgentId, u32>)>);

impl PerMinute {
    fn take(&self, agent: &AgentId, most: u32, now: Time) -> bool {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.as_secs() / 60;
        if counted.0 != minute {
            *counted = (minute, HashMap::new());
        }
        let count = counted.1.entry(agent.clone()).or_default();
        let may = *count < most;
        *count += u32::from(may);
        may
    }
}

/// Whoever holds the agent's key acts for its instances.
pub(crate) fn actor(client: &Client) -> Actor {
    Actor {
        kind: ActorKind::Instance,
        id: client.agent.to_string(),
        credential: client.kid.to_string(),
        verified: true,
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("public_url", &self.config.public_url)
            .field("token_key", &self.config.token_key)
            .finish_non_exhaustive()
    }
}

/// The token endpoint's answer (RFC 6749 §5.1), with the instance that the token is of.
#[derive(Serialize)]
pub struct TokenResponse {
    /// The token. A secret.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    //# access_token REQUIRED. The security token issued by the authorization server in response
    //# to the token exchange request.
    pub access_token: String,
    /// What was given for another token (RFC 8693 §2.2.1): an access token.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    //# issued_token_type REQUIRED. An identifier, as described in Section 3, for the
    //# representation of the issued security token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_token_type: Option<&'static str>,
    /// `DPoP` or `Bearer`.
    //= https://www.rfc-editor.org/rfc/rfc8693#section-2.2.1
    //# token_type REQUIRED. A case-insensitive value specifying the method of using the access
    //# token issued, as specified in Section 7.1 of [RFC6749].
    pub token_type: &'static str,
    /// In seconds.
    pub expires_in: u64,
    /// What was handed on to the instance (RFC 9396 §7), where that was less than everything.
    //= https://www.rfc-editor.org/rfc/rfc9396#section-7
    //# In addition to the token response parameters as defined in [RFC6749], the AS MUST also
    //# return the authorization_details as granted by the resource owner and assigned to the
    //# respective access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_details: Option<Box<RawValue>>,
    /// What the next token can be had for, of people's clients. A secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    /// The instance that was started or continued.
    pub instance: InstanceId,
    /// Why it acts.
    pub purpose: PurposePath,
}

impl fmt::Debug for TokenResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenResponse")
            .field("access_token", &"[redacted]")
            .field("token_type", &self.token_type)
            .field("instance", &self.instance)
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

/// Why there is no issuer.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The register did not take the token key.
    #[error("the token key could not be put on record")]
    Register(#[from] CommandError),
    /// The register does not take keys of this sort.
    #[error("the register does not take the token key: {0}")]
    Key(#[from] register::jwk::JwkError),
    /// The register does not take thumbprints for ids.
    #[error("the register does not take the token key's id: {0}")]
    KeyId(#[from] IdError),
}

/// Why a request got no token. `Display` is the cause, for the log; the client gets
/// [`TokenError::body`].
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is not one for a token.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The client did not authenticate itself.
    #[error(transparent)]
    Client(#[from] AssertionError),
    /// The DPoP proof proves nothing.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// An exchange gave nothing.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// A workload's token started nothing.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A code gave nothing.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// A refresh token gave nothing.
    #[error(transparent)]
    Refresh(#[from] RefreshError),
    /// A person's client is not known, or did not show that it is itself.
    #[error(transparent)]
    McpClient(#[from] McpClientError),
    /// An assertion about a person started nothing.
    #[error(transparent)]
    IdJag(#[from] IdJagError),
    /// Nobody here is the person.
    #[error(transparent)]
    Person(#[from] NoPerson),
    /// `resource` does not name an upstream.
    #[error("`resource` is not the URI of one of this node's upstreams")]
    Resource,
    /// The token to revoke is another agent's.
    #[error("the token was not issued to this agent")]
    NotYours,
    /// Each is an entry in both logs.
    #[error(
        "the agent ended {most} instances in this minute, which is the most; others end by themselves \
         when they are idle"
    )]
    TooMany {
        /// The most.
        most: u32,
    },
    /// The register refused or could not record it.
    #[error(transparent)]
    Register(#[from] CommandError),
    /// Something that cannot be.
    #[error("what cannot be: {0}")]
    Impossible(&'static str),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RngError),
    /// The key that signs did not.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// The part of the answer that depends on why: the RFC 6749 §5.2 code, the status, and what the
/// client may be told.
struct Answer {
    code: &'static str,
    status: http::StatusCode,
    description: String,
}

const BAD: http::StatusCode = http::StatusCode::BAD_REQUEST;

impl TokenError {
    /// The `error` of RFC 6749 §5.2, RFC 8707 §2 or RFC 9449 §5.
    pub fn oauth_code(&self) -> &'static str {
        self.answer().code
    }

    /// The status of the answer.
    pub fn status(&self) -> http::StatusCode {
        self.answer().status
    }

    /// The cause as a word, for metrics and counts of refusals.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Request(_) => "bad-token-request",
            Self::Client(AssertionError::Unproven(_)) | Self::McpClient(_) => "unproven-client",
            Self::Client(AssertionError::Replayed) => "replayed-assertion",
            Self::Client(AssertionError::Full) | Self::Proof(ProofError::Full) => {
                "replay-memory-full"
            }
            Self::Client(_) => "bad-assertion",
            Self::Proof(ProofError::Replayed) => "replayed-proof",
            Self::Proof(_) => "bad-proof",
            Self::Exchange(ExchangeError::Subject(_)) => "bad-subject-token",
            Self::Exchange(ExchangeError::Details(_)) => "bad-authorization-details",
            Self::Exchange(_) => "unproven-subject",
            Self::Workload(WorkloadError::Replayed) => "replayed-workload-token",
            Self::Workload(_) => "bad-workload-token",
            Self::Code(CodeError::Used(_)) => "replayed-code",
            Self::Code(_) => "bad-code",
            Self::Refresh(RefreshError::Reused) => "replayed-refresh-token",
            Self::Refresh(_) => "bad-refresh-token",
            Self::IdJag(IdJagError::Replayed) => "replayed-identity-assertion",
            Self::IdJag(_) => "bad-identity-assertion",
            Self::Person(_) => "unknown-person",
            Self::Resource => "unknown-resource",
            Self::NotYours => "another-agents-token",
            Self::TooMany { .. } => "too-many-revocations",
            Self::Register(CommandError::Refused(_)) => "refused-instance",
            Self::Register(_) | Self::Impossible(_) | Self::Random(_) | Self::Sign(_) => {
                "cannot-issue"
            }
        }
    }

    /// What the client may be told: all that was proven to be its own business, and of the rest
    /// only what it can see itself.
    pub fn description(&self) -> String {
        self.answer().description
    }

    /// The answer's JSON.
    pub fn body(&self) -> serde_json::Value {
        let Answer {
            code, description, ..
        } = self.answer();
        json!({ "error": code, "error_description": description })
    }

    fn answer(&self) -> Answer {
        let (code, status) = self.code_and_status();
        let description = match self {
            // One text, whether there is no such agent, or it has another key.
            Self::Client(AssertionError::Unproven(_)) => {
                "the client assertion is not by the current key of a registered agent".to_owned()
            }
            Self::Register(CommandError::Unproven(_)) => {
                "the instance has ended, but that could not be proven: no barrier is on record"
                    .to_owned()
            }
            Self::Register(error) if !matches!(error, CommandError::Refused(_)) => {
                "the node cannot record the start or end of an instance now".to_owned()
            }
            Self::Impossible(_) | Self::Random(_) | Self::Sign(_) => {
                "the node cannot issue tokens now".to_owned()
            }
            // What lies at an address is nothing that whoever names it is told.
            Self::Workload(WorkloadError::Provider { cause, .. })
            | Self::IdJag(IdJagError::Provider(cause))
                if !cause.is_about_the_token() =>
            {
                "the keys of the assertion's issuer cannot be read now".to_owned()
            }
            Self::McpClient(McpClientError::Fetch(_) | McpClientError::Keys(_)) => {
                "the client's description or keys cannot be read".to_owned()
            }
            Self::Code(_) => "the code is not valid, or was given for something else".to_owned(),
            Self::Request(_)
            | Self::Client(_)
            | Self::Proof(_)
            | Self::Exchange(_)
            | Self::Resource
            | Self::Workload(_)
            | Self::Refresh(_)
            | Self::McpClient(_)
            | Self::IdJag(_)
            | Self::Person(_)
            | Self::NotYours
            | Self::TooMany { .. }
            | Self::Register(_) => quotable(&self.to_string()),
        };
        Answer {
            code,
            status,
            description,
        }
    }

    const fn code_and_status(&self) -> (&'static str, http::StatusCode) {
        const UNAVAILABLE: (&str, http::StatusCode) = (
            "temporarily_unavailable",
            http::StatusCode::SERVICE_UNAVAILABLE,
        );
        const CLIENT: (&str, http::StatusCode) = ("invalid_client", http::StatusCode::UNAUTHORIZED);
        match self {
            Self::Request(RequestError::GrantType) => ("unsupported_grant_type", BAD),
            Self::Request(
                RequestError::ContentType
                | RequestError::Form(_)
                | RequestError::Missing(_)
                | RequestError::SecondAuthentication
                | RequestError::TokenType(_)
                | RequestError::Bound(_)
                | RequestError::ActorToken
                | RequestError::Number(_)
                | RequestError::Purpose(_)
                | RequestError::Instance(_),
            ) => ("invalid_request", BAD),
            Self::Client(AssertionError::Full)
            | Self::Proof(ProofError::Full)
            | Self::Workload(WorkloadError::Full)
            | Self::Code(CodeError::Full)
            | Self::IdJag(IdJagError::Full)
            | Self::TooMany { .. } => UNAVAILABLE,
            Self::Request(RequestError::NoAssertion)
            | Self::Client(_)
            | Self::McpClient(_)
            | Self::Exchange(ExchangeError::Unproven) => CLIENT,
            Self::Request(RequestError::ProofHeader | RequestError::NoProof) | Self::Proof(_) => {
                ("invalid_dpop_proof", BAD)
            }
            //= https://www.rfc-editor.org/rfc/rfc9396#section-8
            //# The Token Error Response MUST conform to the rules given in Section 5.
            Self::Request(RequestError::Details) => ("invalid_authorization_details", BAD),
            Self::Exchange(error) => (error.oauth_code(), BAD),
            Self::Resource | Self::Request(RequestError::Audience) => ("invalid_target", BAD),
            Self::Workload(_)
            | Self::Code(_)
            | Self::Refresh(_)
            | Self::IdJag(_)
            | Self::Person(_)
            | Self::NotYours => ("invalid_grant", BAD),
            Self::Register(CommandError::Refused(refusal)) => match refusal {
                // The key is the credential, and it is no good.
                Refusal::KeyNotCurrent { .. }
                | Refusal::KeyNotYet { .. }
                | Refusal::KeyExpired { .. } => CLIENT,
                Refusal::BearerNotAllowed { .. } | Refusal::SharedKey => {
                    ("invalid_dpop_proof", BAD)
                }
                Refusal::UnknownUpstream { .. } | Refusal::NothingHandedOn { .. } => {
                    ("invalid_target", BAD)
                }
                Refusal::Beyond(_) | Refusal::NotOneCall => ("invalid_authorization_details", BAD),
                Refusal::OnceDelegates { .. } => ("invalid_request", BAD),
                Refusal::InstanceEnded { .. }
                | Refusal::OtherInstance { .. }
                | Refusal::ParentNarrowed { .. }
                | Refusal::StandsNoMore { .. }
                | Refusal::DelegatedKey { .. }
                | Refusal::RefreshReused { .. }
                // What was begun before is no good any more, the code or the consent.
                | Refusal::SignedOut
                | Refusal::UnknownInstance { .. } => ("invalid_grant", BAD),
                Refusal::PurposeNotRegistered { .. }
                | Refusal::PurposeWider { .. }
                | Refusal::MoreCalls { .. }
                | Refusal::TooDeep { .. }
                | Refusal::TooManyChildren { .. }
                | Refusal::NotForThisPerson { .. }
                | Refusal::PersonNotActive
                | Refusal::InstancesReached { .. } => ("access_denied", BAD),
                _ => ("unauthorized_client", BAD),
            },
            Self::Register(_) | Self::Impossible(_) | Self::Random(_) | Self::Sign(_) => {
                UNAVAILABLE
            }
        }
    }
}

/// The characters that `error_description` may have (RFC 6749 §5.2), the others replaced.
pub(crate) fn quotable(text: &str) -> String {
    let allowed = |c| match c {
        '"' | '\\' => '\'',
        ' '..='~' => c,
        _ => '?',
    };
    text.replace('\u{2026}', "...")
        .chars()
        .map(allowed)
        .collect()
}
