//! `[upstream.NAME.oauth]`: where tokens for an upstream are had, as which client.

use std::path::Path;

use serde::Deserialize;
use tokens::{SubjectName, WebUrl};

use super::{Reference, sign_in};

/// `[upstream.NAME.oauth]`.
#[derive(Debug, Clone)]
pub struct OAuthConfig {
    /// Where tokens are had.
    pub token_url: WebUrl,
    /// What the node is known as there.
    pub client_id: String,
    /// The secret that goes with it.
    pub client_secret: Reference,
    /// What is asked for.
    pub scope: Option<String>,
    /// What the token is for (RFC 8707).
    pub resource: Option<String>,
    /// Where the client says who it is.
    pub client_auth: ClientAuth,
    /// How each instance has a token of its own; none: one of the client's is for all.
    pub exchange: Option<ExchangeConfig>,
}

/// How the sponsor and the instance of a call are told to an authorization server (RFC 8693).
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// What the server calls itself: whom our tokens are for.
    pub issuer: String,
    /// What the token is to be for, by a name that the server knows.
    pub audience: Option<String>,
    /// What the server knows sponsors by.
    pub subject: SubjectName,
    /// Where tokens are given back (RFC 7009).
    pub revocation_url: Option<WebUrl>,
}

/// How a token is had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum GrantKind {
    #[default]
    ClientCredentials,
    TokenExchange,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Subject {
    ExternalId,
    Id,
}

/// Where a client says who it is (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientAuth {
    /// In the header `Authorization`.
    #[default]
    Basic,
    /// In the form.
    Post,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawOAuth {
    token_url: String,
    client_id: String,
    client_secret: String,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    resource: Option<String>,
    #[serde(default)]
    client_auth: ClientAuth,
    #[serde(default)]
    grant: GrantKind,
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    audience: Option<String>,
    #[serde(default)]
    subject: Option<Subject>,
    #[serde(default)]
    revocation_url: Option<String>,
}

pub(super) fn oauth(raw: RawOAuth, base: &Path) -> Result<OAuthConfig, (&'static str, String)> {
    let token_url = sign_in::secure("oauth.token_url", &raw.token_url);
    let token_url = token_url.map_err(|(_, message)| ("oauth.token_url", message))?;
    let exchange = exchange(&raw, &token_url)?;
    let id_is_one = raw.client_id.bytes().all(|b| matches!(b, b' '..=b'~'));
    if raw.client_id.is_empty() || !id_is_one {
        let message = "is what the token endpoint knows this node as, in visible ASCII characters";
        return Err(("oauth.client_id", message.to_owned()));
    }
    let client_secret = Reference::parse(&raw.client_secret, base);
    let client_secret = client_secret.map_err(|why| ("oauth.client_secret", why.to_string()))?;
    if !client_secret.is_secret() {
        let message = "is a secret: `env:NAME`, `file:PATH` or `vault:NAME`, not `plain:`";
        return Err(("oauth.client_secret", message.to_owned()));
    }
    // RFC 6749 §3.3.
    let word = |word: &str| {
        let letter = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        !word.is_empty() && word.bytes().all(letter)
    };
    if let Some(scope) = &raw.scope
        && !scope.split(' ').all(word)
    {
        let message = format!("`{scope}` is no scope: words with one space between two of them");
        return Err(("oauth.scope", message));
    }
    if let Some(resource) = &raw.resource
        && !is_resource(resource)
    {
        let message = format!(
            "`{resource}` is no absolute URI without fragment, as in `https://mcp.acme.example`"
        );
        return Err(("oauth.resource", message));
    }
    Ok(OAuthConfig {
        token_url,
        client_id: raw.client_id,
        client_secret,
        scope: raw.scope,
        resource: raw.resource,
        client_auth: raw.client_auth,
        exchange,
    })
}

fn exchange(
    raw: &RawOAuth,
    token_url: &WebUrl,
) -> Result<Option<ExchangeConfig>, (&'static str, String)> {
    if raw.grant == GrantKind::ClientCredentials {
        let beside = [
            ("oauth.issuer", raw.issuer.is_some()),
            ("oauth.audience", raw.audience.is_some()),
            ("oauth.subject", raw.subject.is_some()),
            ("oauth.revocation_url", raw.revocation_url.is_some()),
        ];
        return match beside.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err((key, "belongs to `grant = \"token-exchange\"`".to_owned())),
            None => Ok(None),
        };
    }
    for (key, text) in [
        ("oauth.issuer", &raw.issuer),
        ("oauth.audience", &raw.audience),
    ] {
        let is_one = |it: &String| !it.is_empty() && it.bytes().all(|b| b.is_ascii_graphic());
        if text.as_ref().is_some_and(|it| !is_one(it)) {
            let message = "is a name or a URI: visible ASCII characters without a space";
            return Err((key, message.to_owned()));
        }
    }
    let revocation_url = raw.revocation_url.as_deref();
    let revocation_url = revocation_url.map(|url| {
        let read = sign_in::secure("oauth.revocation_url", url);
        read.map_err(|(_, message)| ("oauth.revocation_url", message))
    });
    let issuer = raw.issuer.as_deref().unwrap_or(token_url.as_str());
    Ok(Some(ExchangeConfig {
        issuer: issuer.to_owned(),
        audience: raw.audience.clone(),
        subject: match raw.subject {
            None | Some(Subject::ExternalId) => SubjectName::ExternalId,
            Some(Subject::Id) => SubjectName::Id,
        },
        revocation_url: revocation_url.transpose()?,
    }))
}

//= https://www.rfc-editor.org/rfc/rfc8707#section-2
//# The URI MUST NOT include a fragment component.
fn is_resource(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let is_scheme = |it: &str| it.starts_with(|c: char| c.is_ascii_alphabetic());
    text.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
        && text.split_once(':').is_some_and(|(scheme, rest)| {
            is_scheme(scheme) && scheme.bytes().all(letter) && !rest.is_empty()
        })
}
