//! A person's MCP client asks for a code (RFC 6749 §4.1 with PKCE, RFC 7636), and redeems it.
//!
//! A code is a random number of this process: nothing about it is on disk, since it lives for a
//! minute. What it stands for was chosen by a person who signed in and consented, and is fixed.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use register::SignIn;
use vocab::limits::{CODE_SECONDS, CODE_USED_SECONDS, CODES_MAX};
use vocab::rng::{self, RngError};
use vocab::{AgentId, Digest, Handle, InstanceId, PurposePath, Rng, Time, UpstreamName};

use crate::form::{Form, FormError};
use crate::jwk::{b64, unb64};
use crate::mcp_client::{McpClient, Proves};
use crate::redirect::RedirectUri;
use crate::uri::PublicUrl;

/// Longest `state`, in bytes: it comes back in an address.
const STATE_BYTES_MAX: usize = 2048;

/// Why nobody is sent back anywhere: whoever asks may not be who the client is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSentBack {
    /// The query is not one.
    #[error("the request cannot be read: {0}")]
    Form(#[from] FormError),
    /// No client, or nowhere to go.
    #[error("the parameter `{0}` is missing")]
    Missing(&'static str),
    /// The client is not known, or cannot be asked who it is.
    #[error(transparent)]
    Client(#[from] crate::mcp_client::McpClientError),
    /// Not one of the client's.
    #[error(
        "`redirect_uri` is not one that the client registered, letter by letter; nobody is sent \
         there"
    )]
    Redirect,
}

/// Why a client is sent back without a code (RFC 6749 §4.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SentBack {
    /// Another flow.
    #[error("response_type is not code")]
    ResponseType,
    /// Answers come in the query alone.
    #[error("response_mode is not query")]
    ResponseMode,
    /// Request objects are not read.
    #[error("request and request_uri are not supported")]
    RequestObject,
    /// No PKCE, or the plain one.
    #[error("code_challenge with code_challenge_method S256 is required (PKCE)")]
    Challenge,
    /// `resource` names none of ours.
    #[error("resource is not the URI of one of this node's upstreams")]
    Resource,
    /// `state` is too long.
    #[error("state is too long")]
    State,
    /// `dpop_jkt` is no thumbprint.
    #[error("dpop_jkt is not a SHA-256 thumbprint in base64url")]
    Thumbprint,
    /// What is to be handed on is not asked of a person.
    #[error(
        "authorization_details is not taken here; a token permits all that its agent may do, and a \
         part of that is handed on by token exchange"
    )]
    Details,
    /// The person said no.
    #[error("the person did not agree")]
    Denied,
    /// The node cannot say now.
    #[error("the node cannot answer now")]
    Unavailable,
}

impl SentBack {
    /// The `error` of RFC 6749 §4.1.2.1 and RFC 8707 §2.
    pub const fn oauth_code(self) -> &'static str {
        match self {
            Self::ResponseType => "unsupported_response_type",
            Self::ResponseMode | Self::Challenge | Self::State | Self::Thumbprint => {
                "invalid_request"
            }
            Self::RequestObject => "request_not_supported",
            Self::Resource => "invalid_target",
            Self::Details => "invalid_authorization_details",
            Self::Denied => "access_denied",
            Self::Unavailable => "temporarily_unavailable",
        }
    }
}

/// A request for a code, all of it held against what the client registered.
#[derive(Debug, Clone)]
pub struct CodeRequest {
    /// Who asks.
    pub client: McpClient,
    /// Where the person is sent back to.
    pub redirect: RedirectUri,
    state: Option<String>,
    challenge: String,
    /// What the token is to be for.
    pub upstream: UpstreamName,
    /// The key that the token is to be bound to (RFC 9449 §10), if the client names it.
    jkt: Option<Arc<str>>,
}

/// Where a request came to.
#[derive(Debug)]
pub enum Asked {
    /// A person is to be asked.
    Person(Box<CodeRequest>),
    /// The client is told at once: the address to send the browser to.
    Back(String, SentBack),
}

/// The parameters of a request, and the client that they name.
#[derive(Debug)]
pub(crate) struct Parameters<'a>(Form<'a>);

impl<'a> Parameters<'a> {
    pub(crate) fn parse(query: &'a str) -> Result<Self, NotSentBack> {
        Ok(Self(Form::parse(query.as_bytes())?))
    }

    pub(crate) fn client_id(&self) -> Result<&str, NotSentBack> {
        self.0
            .get("client_id")
            .ok_or(NotSentBack::Missing("client_id"))
    }

    /// Holds the rest against the client.
    pub(crate) fn check(
        &self,
        client: McpClient,
        url: &PublicUrl,
        serves: impl Fn(&UpstreamName) -> bool,
    ) -> Result<Asked, NotSentBack> {
        //= https://www.rfc-editor.org/rfc/rfc9700#section-4.1.3
        //# authorization servers MUST ensure that the two URIs are equal; see
        //# Section 6.2.1 of [RFC3986], Simple String Comparison, for details.
        let redirect = self
            .0
            .get("redirect_uri")
            .ok_or(NotSentBack::Missing("redirect_uri"))?;
        let redirect: RedirectUri = redirect.parse().map_err(|_| NotSentBack::Redirect)?;
        if !client.redirects.iter().any(|one| redirect.is(one)) {
            return Err(NotSentBack::Redirect);
        }
        let state = self.0.get("state");
        let back = |why: SentBack| {
            let state = state.filter(|state| state.len() <= STATE_BYTES_MAX);
            Ok(Asked::Back(error_to(url, &redirect, state, why), why))
        };
        let get = |name| self.0.get(name);
        if get("response_type") != Some("code") {
            return back(SentBack::ResponseType);
        }
        if get("response_mode").is_some_and(|mode| mode != "query") {
            return back(SentBack::ResponseMode);
        }
        if get("request").is_some() || get("request_uri").is_some() {
            return back(SentBack::RequestObject);
        }
        if state.is_some_and(|state| state.len() > STATE_BYTES_MAX) {
            return back(SentBack::State);
        }
        //= https://www.rfc-editor.org/rfc/rfc9700#section-2.1.1
        //# Authorization servers MUST support PKCE [RFC7636].
        let digest = |text: &&str| unb64(text).is_some_and(|bytes| bytes.len() == 32);
        let challenge = get("code_challenge").filter(digest);
        let (Some(challenge), Some("S256")) = (challenge, get("code_challenge_method")) else {
            return back(SentBack::Challenge);
        };
        let upstream = get("resource").and_then(|resource| url.upstream_of(resource));
        let Some(upstream) = upstream.filter(serves) else {
            return back(SentBack::Resource);
        };
        //= https://www.rfc-editor.org/rfc/rfc9396#section-5
        //# The AS MUST refuse to process any unknown authorization details type or authorization
        //# details not conforming to the respective type definition.
        if get("authorization_details").is_some() {
            return back(SentBack::Details);
        }
        let jkt = get("dpop_jkt");
        if !jkt.as_ref().is_none_or(digest) {
            return back(SentBack::Thumbprint);
        }
        let challenge = challenge.to_owned();
        let state = state.map(str::to_owned);
        Ok(Asked::Person(Box::new(CodeRequest {
            jkt: jkt.map(Arc::from),
            client,
            redirect,
            state,
            challenge,
            upstream,
        })))
    }
}

impl CodeRequest {
    /// Where the browser goes with an error.
    pub fn back(&self, url: &PublicUrl, why: SentBack) -> String {
        error_to(url, &self.redirect, self.state.as_deref(), why)
    }

    /// Where the browser goes with a code.
    pub fn back_with(&self, url: &PublicUrl, code: &str) -> String {
        back_to(
            url,
            &self.redirect,
            self.state.as_deref(),
            &[("code", code)],
        )
    }
}

fn error_to(url: &PublicUrl, to: &RedirectUri, state: Option<&str>, why: SentBack) -> String {
    let description = why.to_string();
    let error = [
        ("error", why.oauth_code()),
        ("error_description", &description),
    ];
    back_to(url, to, state, &error)
}

//= https://www.rfc-editor.org/rfc/rfc9207#section-2
//# In authorization responses to the client, including error responses,
//# an authorization server supporting this specification MUST indicate
//# its identity by including the iss parameter in the response.
fn back_to(
    url: &PublicUrl,
    to: &RedirectUri,
    state: Option<&str>,
    more: &[(&str, &str)],
) -> String {
    let mut parameters = more.to_vec();
    parameters.extend(state.map(|state| ("state", state)));
    parameters.push(("iss", url.as_str()));
    let joined = match to.as_str().find('?') {
        None => "?",
        Some(at) if to.as_str().len() == at + 1 => "",
        Some(_) => "&",
    };
    format!("{to}{joined}{}", crate::form::encode(&parameters))
}

/// What a person consented to.
#[derive(Debug, Clone)]
pub struct Consent {
    /// What was asked.
    pub request: CodeRequest,
    /// Who consented.
    pub person: Handle,
    /// How they signed in.
    pub sign_in: SignIn,
    /// How many entries there were when they began to.
    pub signed_in: u64,
    /// The agent that the client is to be.
    pub agent: AgentId,
    /// Why it acts.
    pub purpose: PurposePath,
}

/// Why a code was not redeemed. The client learns only that it was not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Not known, or its minute is over.
    #[error("the code is not one of this node's, or is not valid any more")]
    Unknown,
    /// Used before. What it gave is to end.
    #[error("the code was used before, so somebody has a copy; what it gave is ended")]
    Used(Option<InstanceId>),
    /// Another client's.
    #[error("the code was given to another client")]
    Client,
    /// `redirect_uri` is another than the one the code went to.
    #[error("`redirect_uri` is not the one that the code went to")]
    Redirect,
    /// `resource` is another.
    #[error("`resource` is not the one that was consented to")]
    Resource,
    /// `code_verifier` is not what the challenge was made of.
    #[error("`code_verifier` is not what `code_challenge` was made of")]
    Verifier,
    /// The key proven is another than the one named before.
    #[error("the DPoP key is not the one that `dpop_jkt` named")]
    Key,
    /// Too many are out.
    #[error("too many codes are in use")]
    Full,
}

/// A code and what it is for.
enum Entry {
    Given(Box<Consent>, Time),
    /// It was redeemed, and gave this; or it is about to, and meanwhile was used again.
    Used(Gave, Time),
}

/// What a code that was used gave.
#[derive(Debug)]
enum Gave {
    /// Nothing, or not yet.
    Nothing,
    Instance(InstanceId),
    /// It was used a second time: whatever it gives is to end.
    Forfeit,
}

/// The codes that are out.
#[derive(Default)]
pub(crate) struct Codes(Mutex<HashMap<Digest, Entry>>);

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Codes")
    }
}

/// What a client sends to redeem a code.
#[derive(Debug)]
pub(crate) struct Redemption<'a> {
    pub(crate) code: &'a str,
    pub(crate) client_id: &'a str,
    /// Whether it showed a key of its own.
    pub(crate) proven: bool,
    pub(crate) redirect_uri: Option<&'a str>,
    pub(crate) verifier: &'a str,
    pub(crate) upstream: Option<&'a UpstreamName>,
    pub(crate) jkt: Option<&'a str>,
}

impl Codes {
    /// A code for what a person consented to.
    pub(crate) fn give(
        &self,
        consent: Consent,
        now: Time,
        rng: &dyn Rng,
    ) -> Result<Result<String, CodeError>, RngError> {
        let code = b64(&rng::bytes::<32>(rng)?);
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.len() >= CODES_MAX {
            codes.retain(|_, entry| match entry {
                Entry::Given(_, until) | Entry::Used(_, until) => now < *until,
            });
            if codes.len() >= CODES_MAX {
                return Ok(Err(CodeError::Full));
            }
        }
        let until = now.plus(std::time::Duration::from_secs(CODE_SECONDS));
        let entry = Entry::Given(Box::new(consent), until);
        codes.insert(Digest::of(code.as_bytes()), entry);
        Ok(Ok(code))
    }

    /// Takes a code for what it stands for. It is used up by that, whatever comes of it: whoever
    /// has it and not the verifier has stolen it.
    pub(crate) fn redeem(
        &self,
        redemption: &Redemption<'_>,
        now: Time,
    ) -> Result<Consent, CodeError> {
        let key = Digest::of(redemption.code.as_bytes());
        let until = now.plus(std::time::Duration::from_secs(CODE_USED_SECONDS));
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let consent = match codes.get_mut(&key) {
            None => return Err(CodeError::Unknown),
            Some(Entry::Used(gave, _)) => {
                return Err(CodeError::Used(
                    match std::mem::replace(gave, Gave::Forfeit) {
                        Gave::Instance(instance) => Some(instance),
                        Gave::Nothing | Gave::Forfeit => None,
                    },
                ));
            }
            Some(given) => match std::mem::replace(given, Entry::Used(Gave::Nothing, until)) {
                Entry::Given(consent, valid) if now < valid => consent,
                Entry::Given(..) | Entry::Used(..) => return Err(CodeError::Unknown),
            },
        };
        drop(codes);
        let request = &consent.request;
        if *request.client.id != *redemption.client_id {
            return Err(CodeError::Client);
        }
        // What the client said of itself when the person agreed holds, whatever its document says
        // by now: else whoever can change that could redeem without the client's keys.
        if matches!(request.client.proves, Proves::Key(_)) && !redemption.proven {
            return Err(CodeError::Client);
        }
        let redirect = redemption.redirect_uri;
        if redirect.is_some_and(|uri| uri != request.redirect.as_str()) {
            return Err(CodeError::Redirect);
        }
        if redemption
            .upstream
            .is_some_and(|upstream| *upstream != request.upstream)
        {
            return Err(CodeError::Resource);
        }
        if !verifies(redemption.verifier, &request.challenge) {
            return Err(CodeError::Verifier);
        }
        //= https://www.rfc-editor.org/rfc/rfc9449#section-10
        //# If they do not match, it MUST reject the request.
        if request.jkt.is_some() && request.jkt.as_deref() != redemption.jkt {
            return Err(CodeError::Key);
        }
        Ok(*consent)
    }

    /// Keeps what a code gave, for whoever uses it again; an error if somebody did meanwhile.
    pub(crate) fn gave(&self, code: &str, instance: &InstanceId) -> Result<(), CodeError> {
        let mut codes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match codes.get_mut(&Digest::of(code.as_bytes())) {
            Some(Entry::Used(Gave::Forfeit, _)) => Err(CodeError::Used(Some(instance.clone()))),
            Some(Entry::Used(gave, _)) => {
                *gave = Gave::Instance(instance.clone());
                Ok(())
            }
            Some(Entry::Given(..)) | None => Ok(()),
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc7636#section-4.6
//# If the values are not equal, an error response indicating
//# "invalid_grant" as described in Section 5.2 of [RFC6749] MUST be
//# returned.
fn verifies(verifier: &str, challenge: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    (43..=128).contains(&verifier.len())
        && verifier.bytes().all(unreserved)
        && vocab::secret::same_bytes(
            b64(Digest::of(verifier.as_bytes()).as_bytes()).as_bytes(),
            challenge.as_bytes(),
        )
}
