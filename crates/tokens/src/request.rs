//! A token request (RFC 6749 §4.1.3, §4.4.2 and §6, RFC 7523, RFC 8693) and a revocation (RFC 7009),
//! parsed.

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use vocab::{IdError, InstanceId, PurposePath, Secret};

use crate::exchange::{ACCESS_TOKEN, Exchange, TOKEN_EXCHANGE};
use crate::form::{Form, FormError};

/// The grant of whoever brings a token of somebody's whom the node trusts (RFC 7523 §2.1).
pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The header of a DPoP proof.
pub const DPOP: http::HeaderName = http::HeaderName::from_static("dpop");

/// Why a request is not one for a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Another media type.
    #[error("the request's `Content-Type` is not `application/x-www-form-urlencoded`")]
    ContentType,
    /// Not a form.
    #[error(transparent)]
    Form(#[from] FormError),
    /// A parameter that must be there is not.
    #[error("the parameter `{0}` is missing")]
    Missing(&'static str),
    /// Another grant.
    #[error(
        "`grant_type` is not one of `client_credentials`, `authorization_code`, `refresh_token`, \
         `{JWT_BEARER}` and `{TOKEN_EXCHANGE}`"
    )]
    GrantType,
    /// Another type of token.
    #[error("`{0}` is not `{ACCESS_TOKEN}`")]
    TokenType(&'static str),
    /// Where nothing is handed on.
    #[error(
        "`authorization_details` is taken with the grant `{TOKEN_EXCHANGE}` alone: get a token, and hand \
         on a part of what it permits"
    )]
    Details,
    /// A bound on a part, where nothing is handed on.
    #[error(
        "`{0}` is taken with the grant `{TOKEN_EXCHANGE}` alone, where it bounds what is handed on; leave it \
         out, or hand on a part"
    )]
    Bound(&'static str),
    /// A second token, which would say who acts.
    #[error("`actor_token` is not taken: who acts is the instance that is started")]
    ActorToken,
    /// A name in place of a URI.
    #[error("`audience` is not taken; name the upstream by its URI, in `resource`")]
    Audience,
    /// Not a number.
    #[error("`{0}` is not a number, 1 or more")]
    Number(&'static str),
    /// No client authentication, or of another sort.
    #[error(
        "the client did not authenticate; use `private_key_jwt`: `client_assertion_type` \
             `{ASSERTION_TYPE}` and `client_assertion`"
    )]
    NoAssertion,
    /// Client authentication of two sorts.
    #[error("the client authenticated in a second way; send only `client_assertion`")]
    SecondAuthentication,
    /// A bearer token, for a client that said that it wants none.
    #[error(
        "the client said of itself `dpop_bound_access_tokens`, and the request has no `DPoP` header"
    )]
    NoProof,
    /// `purpose` is not an id path.
    #[error("`purpose`: {0}")]
    Purpose(IdError),
    /// `instance` is not an instance's id.
    #[error("`instance`: {0}")]
    Instance(IdError),
    /// More than one DPoP proof, or one that is not text.
    #[error("there is not exactly one readable `DPoP` header")]
    ProofHeader,
}

/// A request of the right form. Nothing in it is verified.
pub struct TokenRequest {
    pub(crate) grant: Grant,
    /// Why the instance is to act; none where that is known already, or the agent is for one thing.
    pub(crate) purpose: Option<PurposePath>,
    pub(crate) resource: Option<String>,
    pub(crate) proof: Option<String>,
}

/// What a token is asked for on the strength of.
pub(crate) enum Grant {
    /// An agent's own key (RFC 6749 §4.4).
    Agent {
        client: ClaimedClient,
        /// The instance that is to go on.
        instance: Option<InstanceId>,
    },
    /// The token of an instance that delegates (RFC 8693).
    Exchange(Box<Exchange>),
    /// A workload's own token, or, by an agent that authenticates itself, an assertion about a
    /// person (RFC 7523 §2.1).
    Assertion {
        assertion: Secret<String>,
        client: Option<ClaimedClient>,
    },
    /// A person's consent (RFC 6749 §4.1.3).
    Code {
        code: Secret<String>,
        redirect_uri: Option<String>,
        verifier: Secret<String>,
        client: PersonsClient,
    },
    /// A refresh token (RFC 6749 §6).
    Refresh {
        token: Secret<String>,
        client: PersonsClient,
    },
}

/// A person's client: by its name alone, or with an assertion.
pub(crate) struct PersonsClient {
    pub(crate) id: String,
    pub(crate) assertion: Option<String>,
}

impl TokenRequest {
    /// Reads the headers and the body of `POST /oauth/token`.
    ///
    /// Parameters that are not known are ignored (RFC 6749 §3.2), `scope` among them: what an
    /// instance may do does not come from the token.
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, RequestError> {
        let form = form(headers, body)?;
        let grant_type = form
            .get("grant_type")
            .ok_or(RequestError::Missing("grant_type"))?;
        let secret = |name: &'static str| {
            let value = form.get(name).ok_or(RequestError::Missing(name))?;
            Ok::<_, RequestError>(Secret::new(value.to_owned()))
        };
        let grant = match grant_type {
            "client_credentials" => Grant::Agent {
                client: client(headers, &form)?,
                instance: form
                    .get("instance")
                    .map(str::parse)
                    .transpose()
                    .map_err(RequestError::Instance)?,
            },
            //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
            //# grant_type REQUIRED. The value "urn:ietf:params:oauth:grant-type:token- exchange"
            //# indicates that a token exchange is being performed.
            TOKEN_EXCHANGE => {
                let client = match client(headers, &form) {
                    Ok(client) => Some(client),
                    Err(RequestError::NoAssertion) if form.get("client_assertion").is_none() => {
                        None
                    }
                    Err(error) => return Err(error),
                };
                Grant::Exchange(Box::new(Exchange::parse(&form, client)?))
            }
            JWT_BEARER => Grant::Assertion {
                assertion: secret("assertion")?,
                client: match client(headers, &form) {
                    Ok(client) => Some(client),
                    Err(RequestError::NoAssertion) => None,
                    Err(error) => return Err(error),
                },
            },
            "authorization_code" => Grant::Code {
                code: secret("code")?,
                redirect_uri: form.get("redirect_uri").map(str::to_owned),
                verifier: secret("code_verifier")?,
                client: persons_client(headers, &form)?,
            },
            "refresh_token" => Grant::Refresh {
                token: secret("refresh_token")?,
                client: persons_client(headers, &form)?,
            },
            _ => return Err(RequestError::GrantType),
        };
        //= https://www.rfc-editor.org/rfc/rfc9396#section-5
        //# The AS MUST refuse to process any unknown authorization details type or authorization
        //# details not conforming to the respective type definition.
        // What is asked for as a part is never given whole.
        let is_exchange = matches!(grant, Grant::Exchange(_));
        if form.get("authorization_details").is_some() && !is_exchange {
            return Err(RequestError::Details);
        }
        // Whoever asks for a bound would believe that it holds.
        for bound in ["max_calls", "requested_expiry"] {
            if form.get(bound).is_some() && !is_exchange {
                return Err(RequestError::Bound(bound));
            }
        }
        let purpose = form.get("purpose").map(str::parse).transpose();
        let purpose = purpose.map_err(RequestError::Purpose)?;
        Ok(Self {
            grant,
            purpose,
            resource: form.get("resource").map(str::to_owned),
            proof: proof(headers)
                .map_err(|_| RequestError::ProofHeader)?
                .map(str::to_owned),
        })
    }
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenRequest")
            .field("purpose", &self.purpose)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// A request of the right form about a token of the client's: to end its instance (RFC 7009 §2.1), or
/// to say whether it is good (RFC 7662 §2.1). Nothing in it is verified.
pub struct OwnTokenRequest {
    pub(crate) client: OwnClient,
    pub(crate) token: Secret<String>,
}

/// Whose token it is said to be.
pub(crate) enum OwnClient {
    Agent(ClaimedClient),
    Person(PersonsClient),
}

impl OwnTokenRequest {
    /// Reads the headers and the body of `POST /oauth/revoke` or `/oauth/introspect`.
    pub fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Self, RequestError> {
        let form = form(headers, body)?;
        // An agent always sends an assertion, and its id is no URL.
        let is_agent = form.get("client_assertion").is_some();
        let client = match form.get("client_id") {
            Some(id) if id.contains("://") || !is_agent => {
                OwnClient::Person(persons_client(headers, &form)?)
            }
            Some(_) | None => OwnClient::Agent(client(headers, &form)?),
        };
        //= https://www.rfc-editor.org/rfc/rfc7009#section-2.1
        //# If the server is unable to locate the token using the given hint, it MUST extend its
        //# search across all of its supported token types.
        //= https://www.rfc-editor.org/rfc/rfc7662#section-2.1
        //# If the server is unable to locate the token using the given hint, it MUST extend its
        //# search across all of its supported token types.
        // `token_type_hint` is not looked at: each sort of token is told by what it looks like.
        //= https://www.rfc-editor.org/rfc/rfc7009#section-2.1
        //# token REQUIRED. The token that the client wants to get revoked.
        //= https://www.rfc-editor.org/rfc/rfc7662#section-2.1
        //# token REQUIRED. The string value of the token.
        let token = form.get("token").ok_or(RequestError::Missing("token"))?;
        Ok(Self {
            client,
            token: Secret::new(token.to_owned()),
        })
    }
}

impl std::fmt::Debug for OwnTokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnTokenRequest").finish_non_exhaustive()
    }
}

/// Who a request says that it comes from, and its proof.
pub(crate) struct ClaimedClient {
    pub(crate) assertion: String,
    pub(crate) client_id: Option<String>,
}

fn form<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Form<'a>, RequestError> {
    let media_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or_default();
    if !media_type
        .trim()
        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
    {
        return Err(RequestError::ContentType);
    }
    Ok(Form::parse(body)?)
}

fn client(headers: &HeaderMap, form: &Form<'_>) -> Result<ClaimedClient, RequestError> {
    if headers.contains_key(AUTHORIZATION) || form.get("client_secret").is_some() {
        return Err(RequestError::SecondAuthentication);
    }
    let assertion = form
        .get("client_assertion")
        .filter(|_| form.get("client_assertion_type") == Some(ASSERTION_TYPE))
        .ok_or(RequestError::NoAssertion)?;
    Ok(ClaimedClient {
        assertion: assertion.to_owned(),
        client_id: form.get("client_id").map(str::to_owned),
    })
}

fn persons_client(headers: &HeaderMap, form: &Form<'_>) -> Result<PersonsClient, RequestError> {
    let assertion = match client(headers, form) {
        Ok(claimed) => Some(claimed.assertion),
        Err(RequestError::NoAssertion) if form.get("client_assertion").is_none() => None,
        Err(error) => return Err(error),
    };
    let id = form.get("client_id");
    Ok(PersonsClient {
        id: id.ok_or(RequestError::Missing("client_id"))?.to_owned(),
        assertion,
    })
}

/// More than one header where one is allowed, or one that is not visible ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderError;

/// The request's DPoP proof, if it has one.
pub(crate) fn proof(headers: &HeaderMap) -> Result<Option<&str>, HeaderError> {
    //= https://www.rfc-editor.org/rfc/rfc9449#section-4.3
    //# There is not more than one DPoP HTTP request header field.
    one(headers, &DPOP)
}

/// The one value of a header that may be there once.
pub(crate) fn one<'a>(
    headers: &'a HeaderMap,
    name: &http::HeaderName,
) -> Result<Option<&'a str>, HeaderError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(HeaderError);
    }
    first
        .map(|value| value.to_str().map_err(|_| HeaderError))
        .transpose()
}
