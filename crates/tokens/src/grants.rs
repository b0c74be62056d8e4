//! Tokens on somebody else's word than a registered key's: a workload's issuer, a person who
//! consented, the company's provider.

use ledger::{Actor, ActorKind};
use register::{
    Binding, Command, CommandError, EndReason, Identity, Instance, Origin, Refusal, SignedIn,
    State, Via, Word,
};
use vocab::limits::{CLOCK_LEEWAY_SECONDS, ID_JAG_SECONDS_MAX, JTI_BYTES_MAX};
use vocab::rng::RngError;
use vocab::{AgentId, Handle, PurposePath, Time};

use crate::assertion::check_client_assertion;
use crate::authorize::{Asked, CodeError, Consent, NotSentBack, Parameters, Redemption};
use crate::foreign::{Claims, Foreign, ForeignError, ForeignTyp};
use crate::fresh::{Moment, Stale};
use crate::issuer::{Granted, Issuer, TokenError, actor, binding};
use crate::jwk::PublicKey;
use crate::login::{Login, PersonClaim};
use crate::mcp_client::{McpClient, McpClientError, McpClients, Proves};
use crate::provider::ProviderError;
use crate::refresh::Refresh;
use crate::replay::Claim;
use crate::request::{ClaimedClient, PersonsClient, RequestError, TokenRequest};
use crate::workload;

/// Nobody here is the person of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPerson {
    /// Not known, by none of the claims that say who a person is.
    #[error(
        "you are not known here: no sponsor has what your provider says of you as external id or id"
    )]
    Unknown,
    /// Known, and suspended or erased.
    #[error("you are suspended here, so nothing acts for you")]
    NotActive,
}

/// Why a refresh token gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// Not one that was given here to this client.
    #[error("the refresh token was not given to this client, or not by this node")]
    Unknown,
    /// It was used before.
    #[error(
        "the refresh token was used before, so somebody has a copy; its instance is ended: sign in \
         again"
    )]
    Reused,
    /// The instance proves a key, and the request proves another or none; or the other way round.
    #[error("the refresh token is bound to a key, and the request does not prove that key")]
    Key,
    /// For another upstream.
    #[error("the refresh token is for another `resource`")]
    Resource,
}

/// Why an assertion about a person (ID-JAG) started nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdJagError {
    /// The configuration does not say that such assertions are taken.
    #[error(
        "this node takes no identity assertions; `identity_assertions = true` in `[login]` says that \
         it does"
    )]
    Off,
    /// It is not good, or that cannot be told.
    #[error("the identity assertion is not accepted: {0}")]
    Provider(#[from] ProviderError),
    /// Made for another client.
    #[error("the identity assertion's `client_id` is not the client that authenticated itself")]
    Client,
    /// Made at the wrong time.
    #[error("the identity assertion is not fresh: {0}")]
    Stale(#[from] Stale),
    /// `jti` is missing, empty or too long.
    #[error("the identity assertion's `jti` is empty or longer than {JTI_BYTES_MAX} bytes")]
    Jti,
    /// Used before.
    #[error("the identity assertion was used before; have the provider make a new one")]
    Replayed,
    /// Too many are remembered.
    #[error("too many identity assertions are in use to tell whether this one is new")]
    Full,
    /// For another upstream.
    #[error("the identity assertion's `resource` is not the one that is asked for")]
    Resource,
}

impl From<ForeignError> for IdJagError {
    fn from(error: ForeignError) -> Self {
        Self::Provider(error.into())
    }
}

/// An agent that a person may have a client be, and what for.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The agent.
    pub agent: AgentId,
    /// What it is registered for.
    pub purposes: Vec<PurposePath>,
    /// Whether the client has to prove a key, which most clients of people do not do yet.
    pub proves: bool,
}

impl Issuer {
    /// The clients of people.
    pub const fn mcp_clients(&self) -> &McpClients {
        &self.mcp_clients
    }

    /// The provider at which people sign in; none if none is configured.
    pub const fn login(&self) -> Option<&Login> {
        self.trust().login.as_ref()
    }

    /// Reads `GET /oauth/authorize`: who asks, where they are to be sent back to, and what for.
    pub async fn asked(&self, query: &str) -> Result<Asked, NotSentBack> {
        let parameters = Parameters::parse(query)?;
        let client = self.mcp_clients.find(parameters.client_id()?).await?;
        parameters.check(client, self.public_url(), |name| self.serves(name))
    }

    /// Who a provider's claims are about. Addresses are never looked at: they change hands.
    pub fn person(&self, login: &Login, claims: &Claims) -> Result<Handle, NoPerson> {
        self.control().view(|state| {
            let found = login.person_claims().iter().find_map(|claim| match claim {
                PersonClaim::ExternalId(name) => {
                    let id = claims.any_text(name)?.parse().ok()?;
                    state.sponsor_by_external_id(&id)
                }
                PersonClaim::Id(name) => {
                    let id = claims.any_text(name)?.parse().ok()?;
                    state.sponsor_by_id(&id)
                }
            });
            let found = found.ok_or(NoPerson::Unknown)?;
            active(state, &found.handle)?;
            Ok(found.handle.clone())
        })
    }

    /// Whether a person may act here now, and how they are called.
    pub fn active_person(&self, person: &Handle) -> Result<String, NoPerson> {
        self.control().view(|state| active(state, person))
    }

    /// How many entries there are: what somebody begins now is over when they are suspended or their
    /// sessions revoked from here on.
    pub fn moment_of_signing_in(&self) -> u64 {
        self.control().view(State::size)
    }

    /// Whether a person was signed out since there were so many entries.
    pub fn is_signed_out(&self, person: &Handle, since: u64) -> bool {
        self.control().view(|state| {
            let person = state.sponsor(person);
            person.is_none_or(|person| person.is_signed_out(SignedIn::Here(since)))
        })
    }

    /// The agents that a person may start.
    pub fn choices(&self, person: &Handle) -> Vec<Choice> {
        let now = self.moment().now;
        self.control().view(|state| {
            state
                .startable(person, now)
                .map(|agent| Choice {
                    agent: agent.id.clone(),
                    purposes: agent.purposes.clone(),
                    proves: !agent.allow_bearer,
                })
                .collect()
        })
    }

    /// A code for what a person consented to.
    pub fn consented(&self, consent: Consent) -> Result<Result<String, CodeError>, RngError> {
        self.codes.give(consent, self.moment().now, self.rng())
    }

    /// A workload's own token starts an instance of the agent that the rules say it is.
    pub(crate) async fn by_workload(
        &self,
        request: &TokenRequest,
        assertion: &str,
        moment: Moment,
    ) -> Result<Granted, TokenError> {
        let upstream = self.upstream(request)?;
        let key = self.possession(request, moment)?;
        let purpose = request.purpose.as_ref();
        let workload = workload::read(&self.trust().workloads, assertion, purpose).await?;
        let jkt = key.as_ref().map(PublicKey::thumbprint);
        self.tied.tie(&workload, jkt, moment.now, moment.boot)?;
        let actor = Actor {
            kind: ActorKind::Instance,
            id: workload.agent.to_string(),
            credential: format!("workload:{}", workload.issuer.as_str()),
            verified: true,
        };
        let command = Command::StartFor {
            agent: workload.agent,
            person: None,
            via: Via::Workload {
                issuer: workload.issuer,
                subject: workload.subject,
            },
            purpose: workload.purpose,
            binding: binding(key.as_ref())?,
            upstream: upstream.clone(),
            signed_in: None,
        };
        self.start(actor, command, upstream, key).await
    }

    /// A code starts an instance of the agent that a person chose, with them as its sponsor.
    pub(crate) async fn by_code(
        &self,
        request: &TokenRequest,
        code: &str,
        redirect_uri: Option<&str>,
        verifier: &str,
        client: &PersonsClient,
        moment: Moment,
    ) -> Result<Granted, TokenError> {
        let known = self
            .prove_client(client, self.token_endpoint(), moment)
            .await?;
        let upstream = match &request.resource {
            Some(_) => Some(self.upstream(request)?),
            None => None,
        };
        let key = self.client_key(request, &known, moment)?;
        let redemption = Redemption {
            code,
            client_id: &client.id,
            proven: matches!(known.proves, Proves::Key(_)),
            redirect_uri,
            verifier,
            upstream: upstream.as_ref(),
            jkt: key.as_ref().map(|key| &**key.thumbprint()),
        };
        let consent = match self.codes.redeem(&redemption, moment.now) {
            Ok(consent) => consent,
            //= https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2
            //# If an authorization code is used more than
            //# once, the authorization server MUST deny the request and SHOULD
            //# revoke (when possible) all tokens previously issued based on
            //# that authorization code.
            Err(error) => return Err(self.forfeit(error).await?.into()),
        };
        let actor = Actor {
            kind: ActorKind::Person,
            id: consent.person.to_string(),
            credential: consent.sign_in.as_str().to_owned(),
            verified: true,
        };
        let upstream = consent.request.upstream;
        let command = Command::StartFor {
            agent: consent.agent,
            person: Some(consent.person),
            via: Via::Person {
                client: known.digest(),
                sign_in: consent.sign_in,
            },
            purpose: consent.purpose,
            binding: binding(key.as_ref())?,
            upstream: upstream.clone(),
            signed_in: Some(SignedIn::Here(consent.signed_in)),
        };
        let mut granted = self.start(actor, command, upstream, key).await?;
        if let Err(error) = self.codes.gave(code, &granted.instance.id) {
            return Err(self.forfeit(error).await?.into());
        }
        granted.refresh_token = Some(self.refresh_token(&granted, 0, &client.id));
        Ok(granted)
    }

    /// Ends what a code gave that was used twice.
    async fn forfeit(&self, error: CodeError) -> Result<CodeError, TokenError> {
        if let CodeError::Used(Some(instance)) = &error {
            self.end(instance, EndReason::Reused).await?;
        }
        Ok(error)
    }

    async fn end(
        &self,
        instance: &vocab::InstanceId,
        reason: EndReason,
    ) -> Result<(), CommandError> {
        let command = Command::EndInstance {
            id: instance.clone(),
            reason,
        };
        let done = self.control().execute(self.node().clone(), command).await;
        done.map(drop)
    }

    fn refresh_token(&self, granted: &Granted, serial: u64, client: &str) -> String {
        let refresh = Refresh {
            instance: granted.instance.id.clone(),
            serial,
        };
        let token = refresh.write(&self.refresh_mac, client);
        token.expose().clone()
    }

    /// A refresh token gives the next access token of its instance, and its own successor.
    pub(crate) async fn by_refresh(
        &self,
        request: &TokenRequest,
        token: &str,
        client: &PersonsClient,
        moment: Moment,
    ) -> Result<Granted, TokenError> {
        let known = self
            .prove_client(client, self.token_endpoint(), moment)
            .await?;
        let refresh = Refresh::read(token, &self.refresh_mac, &client.id);
        let refresh = refresh.ok_or(RefreshError::Unknown)?;
        let instance = self
            .control()
            .view(|state| state.instance(&refresh.instance).cloned());
        let instance = instance.ok_or(RefreshError::Unknown)?;
        if !was_started_by(&instance, &known) {
            return Err(RefreshError::Unknown.into());
        }
        if request.resource.is_some() && self.upstream(request)? != instance.upstream {
            return Err(RefreshError::Resource.into());
        }
        let key = self.client_key(request, &known, moment)?;
        //= https://www.rfc-editor.org/rfc/rfc9449#section-5
        //# When an authorization server supporting DPoP issues a refresh token to a public client
        //# that presents a valid DPoP proof at the token endpoint, the refresh token MUST be bound
        //# to the respective public key.
        //= https://www.rfc-editor.org/rfc/rfc9449#section-5
        //# The binding MUST be validated when the refresh token is later presented to get new
        //# access tokens.
        if binding(key.as_ref())? != instance.binding {
            return Err(RefreshError::Key.into());
        }
        let actor = Actor {
            kind: ActorKind::Instance,
            id: instance.id.to_string(),
            credential: "refresh-token".to_owned(),
            verified: matches!(instance.binding, Binding::Dpop { .. }),
        };
        let command = Command::RefreshToken {
            instance: refresh.instance.clone(),
            serial: refresh.serial,
        };
        match self.control().execute(actor, command).await {
            Ok(_) => {}
            //= https://www.rfc-editor.org/rfc/rfc9700#section-4.14.2
            //# If a refresh
            //# token is compromised and subsequently used by both the attacker
            //# and the legitimate client, one of them will present an
            //# invalidated refresh token, which will inform the authorization
            //# server of the breach.
            Err(CommandError::Refused(Refusal::RefreshReused { .. })) => {
                self.end(&refresh.instance, EndReason::Reused).await?;
                return Err(RefreshError::Reused.into());
            }
            Err(error) => return Err(error.into()),
        }
        let mut granted = Granted {
            upstream: instance.upstream.clone(),
            instance,
            key,
            refresh_token: None,
        };
        granted.refresh_token = Some(self.refresh_token(&granted, refresh.serial + 1, &client.id));
        Ok(granted)
    }

    /// What `POST /oauth/revoke` comes to for a person's client: it ends the instance of its refresh
    /// token or of its access token, of whatever age.
    pub(crate) async fn revocation_by_client(
        &self,
        claimed: &PersonsClient,
        token: &str,
        moment: Moment,
    ) -> Result<Option<(Actor, Command)>, TokenError> {
        let known = self
            .prove_client(claimed, self.revocation_endpoint(), moment)
            .await?;
        //= https://www.rfc-editor.org/rfc/rfc7009#section-2
        //# Implementations MUST support the revocation of refresh tokens and SHOULD support the
        //# revocation of access tokens (see Implementation Note).
        let refresh = Refresh::read(token, &self.refresh_mac, &claimed.id);
        let (instance, credential) = match (refresh, self.signed(token, moment.now)) {
            (Some(refresh), _) => (refresh.instance, "refresh-token"),
            (None, Ok((claims, _))) => (claims.instance, "access-token"),
            (None, Err(_)) => return Ok(None),
        };
        let Some(instance) = self
            .control()
            .view(|state| state.instance(&instance).cloned())
        else {
            return Ok(None);
        };
        if !was_started_by(&instance, &known) {
            return Err(TokenError::NotYours);
        }
        self.count_revocation(&instance.agent, moment.now)?;
        let actor = Actor {
            kind: ActorKind::Instance,
            id: instance.id.to_string(),
            credential: credential.to_owned(),
            verified: matches!(known.proves, Proves::Key(_)),
        };
        let command = Command::EndInstance {
            id: instance.id.clone(),
            reason: EndReason::Closed,
        };
        Ok(Some((actor, command)))
    }

    /// The key whose possession the request of a person's client proves.
    fn client_key(
        &self,
        request: &TokenRequest,
        client: &McpClient,
        moment: Moment,
    ) -> Result<Option<PublicKey>, TokenError> {
        let key = self.possession(request, moment)?;
        //= https://www.rfc-editor.org/rfc/rfc9449#section-5.2
        //# If the value is true, the authorization server MUST reject token requests from the
        //# client that do not contain the DPoP header.
        if client.bound && key.is_none() {
            return Err(RequestError::NoProof.into());
        }
        Ok(key)
    }

    /// The client of a person, if it shows what its description says that it shows.
    async fn prove_client(
        &self,
        claimed: &PersonsClient,
        endpoint: &str,
        moment: Moment,
    ) -> Result<McpClient, TokenError> {
        let known = self.mcp_clients.find(&claimed.id).await?;
        match (&known.proves, &claimed.assertion) {
            (Proves::Nothing, None) => {}
            (Proves::Nothing, Some(_)) => {
                let why = "it says that it proves nothing, and sent an assertion";
                return Err(McpClientError::Description(why).into());
            }
            (Proves::Key(_), None) => return Err(RequestError::NoAssertion.into()),
            (Proves::Key(keys), Some(assertion)) => {
                let keys = self.mcp_clients.keys(keys).await?;
                let audiences = [self.public_url().as_str(), endpoint];
                let used = self.used();
                check_client_assertion(assertion, &known.id, &keys, audiences, moment, used)?;
            }
        }
        Ok(known)
    }

    /// An assertion of the company's provider about a person starts an instance for them, of the
    /// agent that authenticates itself (enterprise-managed authorization, ID-JAG).
    pub(crate) async fn by_id_jag(
        &self,
        request: &TokenRequest,
        assertion: &str,
        client: &ClaimedClient,
        moment: Moment,
    ) -> Result<Granted, TokenError> {
        let client = self.authenticate(client, self.token_endpoint(), moment)?;
        let login = self.login().filter(|_| self.trust().assertions);
        let login = login.ok_or(IdJagError::Off)?;
        let token = Foreign::parse(assertion, ForeignTyp::IdJag).map_err(IdJagError::from)?;
        let ours = [self.public_url().as_str()];
        let provider = login.provider();
        let claims = provider
            .verify(&token, &ours, ID_JAG_SECONDS_MAX)
            .await
            .map_err(IdJagError::from)?;
        // One audience, which is this node: a provider's word for several is for nobody.
        if claims.audiences().map_err(IdJagError::from)? != ours {
            let error = ForeignError::Audience(self.public_url().as_str().to_owned());
            return Err(IdJagError::from(error).into());
        }
        if claims.text("client_id").map_err(IdJagError::from)? != client.agent.as_str() {
            return Err(IdJagError::Client.into());
        }
        let upstream = match (claims.any_text("resource"), &request.resource) {
            (Some(named), None) => self.resource_named(named).ok_or(TokenError::Resource)?,
            (Some(named), Some(_)) => {
                let asked = self.upstream(request)?;
                if self.resource_named(named).as_ref() != Some(&asked) {
                    return Err(IdJagError::Resource.into());
                }
                asked
            }
            (None, _) => self.upstream(request)?,
        };
        let key = self.possession(request, moment)?;
        let purpose = self.purpose(request, &client.agent)?;
        let made = self.use_up(&claims, moment)?;
        let person = self.person(login, &claims)?;
        let command = Command::StartFor {
            agent: client.agent.clone(),
            person: Some(person),
            via: Via::IdentityAssertion {
                issuer: word("login")?,
                key: client.kid.clone(),
            },
            purpose,
            binding: binding(key.as_ref())?,
            upstream: upstream.clone(),
            // What the provider said of them before they were cut off here says nothing now.
            signed_in: Some(SignedIn::There(made)),
        };
        self.start(actor(&client), command, upstream, key).await
    }

    /// Uses an assertion up: when it was made.
    fn use_up(&self, claims: &Claims, moment: Moment) -> Result<Time, IdJagError> {
        let made = claims
            .0
            .required_seconds("iat")
            .map_err(ForeignError::from)?;
        moment.check(made, ID_JAG_SECONDS_MAX)?;
        let jti = claims.text("jti")?;
        if jti.is_empty() || jti.len() > JTI_BYTES_MAX {
            return Err(IdJagError::Jti);
        }
        let issuer = claims.text("iss")?;
        let life = made..=claims.expires_at()? + CLOCK_LEEWAY_SECONDS;
        let name = ("id-jag", issuer, jti);
        match self.used().claim(&name, life, moment.now) {
            Claim::First => Ok(Time::from_secs(made)),
            Claim::Again => Err(IdJagError::Replayed),
            Claim::Full => Err(IdJagError::Full),
        }
    }
}

/// Whether a person had an instance started by this client.
fn was_started_by(instance: &Instance, client: &McpClient) -> bool {
    match &instance.origin {
        Origin::Via(Via::Person { client: by, .. }) => *by == client.digest(),
        Origin::Via(_) | Origin::AgentKey(_) => false,
    }
}

fn active(state: &State, person: &Handle) -> Result<String, NoPerson> {
    let sponsor = state.sponsor(person).ok_or(NoPerson::Unknown)?;
    match (&sponsor.identity, state.sponsor_acts(person)) {
        (Identity::Named(known), true) => Ok(known.name.as_str().to_owned()),
        (Identity::Named(_) | Identity::Erased | Identity::Sealed, _) => Err(NoPerson::NotActive),
    }
}

fn word(text: &str) -> Result<Word, TokenError> {
    text.parse()
        .map_err(|_| TokenError::Impossible("an issuer's name is no word"))
}
