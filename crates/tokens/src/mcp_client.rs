//! People's MCP clients: programs that nobody registered here by hand.
//!
//! A client is known by what it says of itself, and is trusted with nothing but to be sent back to
//! where that says. It says so in one of two ways:
//!
//! * at an `https` address that is its `client_id` (client ID metadata document), which is read when
//!   it is needed;
//! * at `/oauth/register` (RFC 7591). What it says there is not stored: it is in the `client_id`
//!   that it gets, under an authentication code of the node's. Whoever registers a million clients
//!   has filled nothing here but their own disk, and no clean-up can take a client that is in use.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use vocab::id::invisible;
use vocab::{Clock, Digest, Time};

use crate::fetch::{Fetch, FetchError, NamedBy, WebUrl};
use crate::foreign::{KeySet, KeySetError};
use crate::jwk::{b64, unb64};
use crate::redirect::{RedirectError, RedirectUri};

/// Redirect URIs of one client.
const REDIRECTS_MAX: usize = 10;
/// Longest name of a client, in characters. It is shown to people.
const NAME_CHARS_MAX: usize = 80;
/// Longest `client_id`, in bytes: it goes into addresses.
const ID_BYTES_MAX: usize = 2048;
/// Descriptions that are kept.
const KEPT_MAX: usize = 256;
/// How long a description holds if its server does not say, and the most that is believed.
const FRESH: Duration = Duration::from_mins(5);
const FRESH_MAX: Duration = Duration::from_hours(1);

/// Why nobody is known by a `client_id`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum McpClientError {
    /// Neither an address nor one that was given here.
    #[error(
        "`client_id` is neither the `https` address of a client's description nor one that this node \
         gave; register the client again"
    )]
    Unknown,
    /// The address is not one that a client can be known by.
    #[error(
        "a client's address is `https://`, a host and a path, without user, query, fragment and `.` \
         or `..` in it"
    )]
    Address,
    /// The description could not be had.
    #[error("the client's description cannot be read: {0}")]
    Fetch(#[from] FetchError),
    /// The description is not one, or somebody else's.
    #[error("the client's description cannot be used: {0}")]
    Description(&'static str),
    /// A redirect URI that nobody may have.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The client's keys are no keys.
    #[error("the client's keys cannot be used: {0}")]
    Keys(#[from] KeySetError),
}

/// How a client shows that it is itself when it redeems a code.
#[derive(Debug, Clone)]
pub enum Proves {
    /// By the code and its verifier alone: it is a program that people have.
    Nothing,
    /// By a signed assertion (`private_key_jwt`).
    Key(ClientKeys),
}

/// Where a client's keys are.
#[derive(Debug, Clone)]
pub enum ClientKeys {
    /// In its description.
    Given(KeySet),
    /// At an address that its description names.
    At(WebUrl),
}

/// A client, as it describes itself.
#[derive(Debug, Clone)]
pub struct McpClient {
    /// Its `client_id`.
    pub id: Arc<str>,
    /// What it calls itself. Anybody can call themselves anything.
    pub name: String,
    /// The host that vouches for the description; none if nobody does.
    pub host: Option<String>,
    /// Where people may be sent back to.
    pub redirects: Vec<RedirectUri>,
    /// How it shows that it is itself.
    pub proves: Proves,
    /// Whether its tokens have to be bound to a key (`dpop_bound_access_tokens`).
    pub bound: bool,
}

impl McpClient {
    /// Names it in records.
    pub fn digest(&self) -> Digest {
        Digest::of(self.id.as_bytes())
    }
}

/// What a client says when it registers (RFC 7591 §2). All else that it says is not looked at.
#[derive(Deserialize)]
struct Registration {
    redirect_uris: Vec<String>,
    #[serde(default)]
    client_name: Option<String>,
    #[serde(default)]
    grant_types: Option<Vec<String>>,
    #[serde(default)]
    response_types: Option<Vec<String>>,
    #[serde(default)]
    dpop_bound_access_tokens: bool,
}

/// What a `client_id` that was given here holds.
#[derive(Serialize, Deserialize)]
struct Sealed {
    n: String,
    r: Vec<String>,
    /// When it was given, in seconds.
    t: u64,
    /// Whether its tokens have to be bound to a key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    d: bool,
}

/// Knows clients by their `client_id`.
pub struct McpClients {
    mac: hmac::Key,
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    /// Whether a client may describe itself on this machine: for development.
    loopback: bool,
    kept: Mutex<HashMap<WebUrl, (McpClient, Time)>>,
}

impl fmt::Debug for McpClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("McpClients").finish_non_exhaustive()
    }
}

impl McpClients {
    pub(crate) fn new(
        mac: hmac::Key,
        fetch: Arc<dyn Fetch>,
        clock: Arc<dyn Clock>,
        loopback: bool,
    ) -> Self {
        Self {
            mac,
            fetch,
            clock,
            loopback,
            kept: Mutex::default(),
        }
    }

    /// Answers `POST /oauth/register` (RFC 7591 §3.2.1).
    pub fn register(&self, body: &[u8]) -> Result<Value, McpClientError> {
        let asked: Registration = serde_json::from_slice(body).map_err(|_| {
            McpClientError::Description("it is not JSON with a list of `redirect_uris`")
        })?;
        let redirects = redirects(&asked.redirect_uris)?;
        let offers = |asked: &Option<Vec<String>>, ours: &str| {
            asked
                .as_ref()
                .is_none_or(|asked| asked.iter().any(|one| one == ours))
        };
        if !offers(&asked.grant_types, "authorization_code")
            || !offers(&asked.response_types, "code")
        {
            return Err(McpClientError::Description(
                "clients that register here use `authorization_code` with `code`",
            ));
        }
        let name = match asked.client_name {
            Some(name) => name_of(&name)?,
            None => redirects
                .first()
                .map_or_else(String::new, |uri| uri.shown().to_owned()),
        };
        let given = self.clock.now().as_secs();
        let sealed = Sealed {
            n: name.clone(),
            r: redirects.iter().map(ToString::to_string).collect(),
            t: given,
            d: asked.dpop_bound_access_tokens,
        };
        let sealed = serde_json::to_vec(&sealed)
            .map_err(|_| McpClientError::Description("it cannot be written"))?;
        let mac = hmac::sign(&self.mac, &sealed);
        let id = format!("{GIVEN}{}.{}", b64(&sealed), b64(mac.as_ref()));
        if id.len() > ID_BYTES_MAX {
            return Err(McpClientError::Description(
                "its name and redirect URIs are too long together",
            ));
        }
        Ok(json!({
            "client_id": id,
            "client_id_issued_at": given,
            "client_name": name,
            "redirect_uris": asked.redirect_uris,
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            // Whatever it asked for: nobody keeps a secret for it.
            "token_endpoint_auth_method": "none",
            "dpop_bound_access_tokens": asked.dpop_bound_access_tokens,
        }))
    }

    /// The client that is known by `id`.
    pub async fn find(&self, id: &str) -> Result<McpClient, McpClientError> {
        if id.len() > ID_BYTES_MAX {
            return Err(McpClientError::Unknown);
        }
        match id.strip_prefix(GIVEN) {
            Some(given) => self.given(id, given),
            None if id.contains("://") => self.described(id).await,
            None => Err(McpClientError::Unknown),
        }
    }

    fn given(&self, id: &str, given: &str) -> Result<McpClient, McpClientError> {
        let (sealed, mac) = given.split_once('.').ok_or(McpClientError::Unknown)?;
        let sealed = unb64(sealed).ok_or(McpClientError::Unknown)?;
        let mac = unb64(mac).ok_or(McpClientError::Unknown)?;
        hmac::verify(&self.mac, &sealed, &mac).map_err(|_| McpClientError::Unknown)?;
        let sealed: Sealed =
            serde_json::from_slice(&sealed).map_err(|_| McpClientError::Unknown)?;
        Ok(McpClient {
            id: id.into(),
            name: sealed.n,
            host: None,
            redirects: redirects(&sealed.r)?,
            proves: Proves::Nothing,
            bound: sealed.d,
        })
    }

    async fn described(&self, id: &str) -> Result<McpClient, McpClientError> {
        let url = address(id, self.loopback)?;
        let now = self.clock.now();
        if let Some((client, until)) = self.kept().get(&url)
            && now < *until
        {
            return Ok(client.clone());
        }
        let document = self.fetch.get(&url, NamedBy::Stranger).await?;
        let client = describe(&url, &document.body, self.loopback)?;
        // Only what was understood is kept; an error is asked for again.
        let fresh = document.fresh.unwrap_or(FRESH).min(FRESH_MAX);
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.retain(|_, (_, until)| now < *until);
        }
        if kept.len() < KEPT_MAX {
            kept.insert(url, (client.clone(), now.plus(fresh)));
        }
        drop(kept);
        Ok(client)
    }

    /// A client's keys.
    pub(crate) async fn keys(&self, keys: &ClientKeys) -> Result<KeySet, McpClientError> {
        match keys {
            ClientKeys::Given(keys) => Ok(keys.clone()),
            ClientKeys::At(url) => {
                let document = self.fetch.get(url, NamedBy::Stranger).await?;
                Ok(KeySet::parse(&document.body)?)
            }
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<WebUrl, (McpClient, Time)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a `client_id` that was given here begins with.
const GIVEN: &str = "tipstaff.";

fn address(id: &str, loopback: bool) -> Result<WebUrl, McpClientError> {
    let url: WebUrl = id.parse().map_err(|_| McpClientError::Address)?;
    let path = url.path_and_query();
    let dots = path.split('/').any(|part| {
        matches!(
            part.to_ascii_lowercase().as_str(),
            "." | ".." | "%2e" | "%2e%2e" | ".%2e" | "%2e."
        )
    });
    let secure = url.is_https() || loopback;
    if !secure || dots || path.contains('?') || !path.starts_with('/') || path == "/" {
        return Err(McpClientError::Address);
    }
    Ok(url)
}

/// Reads a client ID metadata document.
fn describe(url: &WebUrl, bytes: &[u8], loopback: bool) -> Result<McpClient, McpClientError> {
    use McpClientError::Description as Wrong;
    let document: Value = serde_json::from_slice(bytes).map_err(|_| Wrong("it is not JSON"))?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    if text("client_id") != Some(url.as_str()) {
        return Err(Wrong("its `client_id` is not the address at which it lies"));
    }
    if ["client_secret", "client_secret_expires_at"]
        .iter()
        .any(|name| document.get(name).is_some())
    {
        return Err(Wrong("it has a secret, and everybody can read it"));
    }
    let uris = document.get("redirect_uris").and_then(Value::as_array);
    let uris = uris.ok_or(Wrong("it has no list `redirect_uris`"))?;
    let uris: Option<Vec<String>> = uris
        .iter()
        .map(|uri| uri.as_str().map(str::to_owned))
        .collect();
    let uris = uris.ok_or(Wrong("one of its `redirect_uris` is not a string"))?;
    let proves = match text("token_endpoint_auth_method") {
        None | Some("none") => Proves::Nothing,
        Some("private_key_jwt") => Proves::Key(match (document.get("jwks"), text("jwks_uri")) {
            (Some(keys), None) => ClientKeys::Given(KeySet::parse(keys.to_string().as_bytes())?),
            (None, Some(uri)) => {
                let uri: WebUrl = uri
                    .parse()
                    .map_err(|_| Wrong("its `jwks_uri` is not a URL"))?;
                if !uri.is_https() && !loopback {
                    return Err(Wrong("its `jwks_uri` is not `https`"));
                }
                ClientKeys::At(uri)
            }
            _ => return Err(Wrong("it needs either `jwks` or `jwks_uri`")),
        }),
        Some(_) => {
            return Err(Wrong(
                "its `token_endpoint_auth_method` is neither `none` nor `private_key_jwt`",
            ));
        }
    };
    let bound = match document.get("dpop_bound_access_tokens") {
        None => false,
        Some(Value::Bool(bound)) => *bound,
        Some(_) => {
            return Err(Wrong(
                "its `dpop_bound_access_tokens` is neither true nor false",
            ));
        }
    };
    Ok(McpClient {
        bound,
        id: url.as_str().into(),
        name: name_of(text("client_name").ok_or(Wrong("it has no `client_name`"))?)?,
        host: Some(url.authority().to_owned()),
        redirects: redirects(&uris)?,
        proves,
    })
}

fn redirects(uris: &[String]) -> Result<Vec<RedirectUri>, McpClientError> {
    if uris.is_empty() || uris.len() > REDIRECTS_MAX {
        return Err(McpClientError::Description(
            "it has no redirect URI, or more than ten",
        ));
    }
    Ok(uris
        .iter()
        .map(|uri| uri.parse())
        .collect::<Result<_, _>>()?)
}

/// A name that people can be shown: nothing in it hides, turns or breaks a line.
fn name_of(name: &str) -> Result<String, McpClientError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.contains(invisible) {
        return Err(McpClientError::Description(
            "its `client_name` is empty, too long or holds invisible characters",
        ));
    }
    Ok(name.to_owned())
}

/// Reads bytes as a description and as a registration; whether they are either. For property tests
/// and fuzz targets.
#[doc(hidden)]
pub fn read_client(bytes: &[u8]) -> bool {
    let url: Option<WebUrl> = serde_json::from_slice::<Value>(bytes)
        .ok()
        .and_then(|document| address(document.get("client_id")?.as_str()?, false).ok());
    let described = url.is_some_and(|url| match describe(&url, bytes, false) {
        Ok(client) => {
            assert_eq!(&*client.id, url.as_str());
            assert!(client.redirects.iter().all(|uri| !uri.shown().is_empty()));
            true
        }
        Err(_) => false,
    });
    let registered = serde_json::from_slice::<Registration>(bytes)
        .is_ok_and(|asked| redirects(&asked.redirect_uris).is_ok());
    described || registered
}
