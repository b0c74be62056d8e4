//! Tokens that upstreams are reached with: how a token endpoint is asked for one.

use std::fmt;
use std::sync::Arc;

use broker::{Asking, RevokeError, Revoking, TokenEndpoint};
use tokens::{Document, Fetch, FetchError, Issuer, Vouched, WebUrl};
use vocab::{InstanceId, Secret, UpstreamName};

use crate::config::{ClientAuth, ExchangeConfig, OAuthConfig};

/// The errors that a token endpoint may have (RFC 6749 §5.2, RFC 8707 §2, RFC 7009 §2.2.1). Another
/// word of its answer is not told: it could be what it was sent.
const ERRORS: [&str; 8] = [
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_token_type",
];

/// Where tokens are exchanged (RFC 8693 §2.1), and what ours are (§3).
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A client of one token endpoint.
pub struct Endpoint {
    config: OAuthConfig,
    fetch: Arc<dyn Fetch>,
    /// Who vouches for instances that may call the upstream.
    vouching: Option<(UpstreamName, Arc<Issuer>)>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.config.token_url)
    }
}

impl Endpoint {
    /// The client that the configuration describes.
    pub const fn new(config: OAuthConfig, fetch: Arc<dyn Fetch>) -> Self {
        Self {
            config,
            fetch,
            vouching: None,
        }
    }

    /// The same, where `issuer` vouches for instances that may call the upstream.
    #[must_use]
    pub fn vouched_for(self, upstream: UpstreamName, issuer: Arc<Issuer>) -> Self {
        Self {
            vouching: Some((upstream, issuer)),
            ..self
        }
    }

    /// Posts a form as the client.
    async fn post(
        &self,
        url: &WebUrl,
        mut parameters: Vec<(&str, &str)>,
        client_secret: &Secret<String>,
    ) -> Result<Document, FetchError> {
        let it = &self.config;
        //= https://www.rfc-editor.org/rfc/rfc6749#section-4.4.2
        //# The client MUST authenticate with the authorization server as described in Section 3.2.1.
        let basic = match it.client_auth {
            ClientAuth::Basic => Some(tokens::client_basic(&it.client_id, client_secret)),
            //= https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
            //# The parameters can only be transmitted in the request-body and MUST NOT be included
            //# in the request URI.
            ClientAuth::Post => {
                parameters.push(("client_id", &it.client_id));
                parameters.push(("client_secret", client_secret.expose()));
                None
            }
        };
        let form = Secret::new(tokens::write_form(&parameters));
        self.fetch.post(url, form, basic).await
    }

    /// How the exchange is configured, and tokens about whoever the instance acts for and about itself.
    async fn vouched(&self, whom: &InstanceId) -> Result<(&ExchangeConfig, Vouched), String> {
        let (Some(exchange), Some((upstream, issuer))) = (&self.config.exchange, &self.vouching)
        else {
            return Err("tokens are not exchanged here".to_owned());
        };
        let vouching = issuer.vouch(whom, upstream, exchange.subject, &exchange.issuer);
        let vouched = vouching.await.map_err(|error| error.to_string())?;
        Ok((exchange, vouched))
    }
}

impl TokenEndpoint for Endpoint {
    fn ask<'a>(
        &'a self,
        whom: Option<&'a InstanceId>,
        client_secret: &'a Secret<String>,
    ) -> Asking<'a> {
        Box::pin(async move {
            let it = &self.config;
            let vouched = match whom {
                None => None,
                Some(whom) => Some(self.vouched(whom).await?),
            };
            let mut parameters = match &vouched {
                None => vec![("grant_type", "client_credentials")],
                Some((exchange, vouched)) => {
                    let mut parameters = vec![
                        ("grant_type", EXCHANGE),
                        ("subject_token", vouched.subject.expose()),
                        ("subject_token_type", JWT),
                        ("actor_token", vouched.actor.expose()),
                        //= https://www.rfc-editor.org/rfc/rfc8693#section-2.1
                        //# This is REQUIRED when the "actor_token" parameter is present in the
                        //# request but MUST NOT be included otherwise.
                        ("actor_token_type", JWT),
                        ("requested_token_type", ACCESS_TOKEN),
                    ];
                    parameters.extend(exchange.audience.as_deref().map(|it| ("audience", it)));
                    parameters
                }
            };
            parameters.extend(it.scope.as_deref().map(|it| ("scope", it)));
            parameters.extend(it.resource.as_deref().map(|it| ("resource", it)));
            match self.post(&it.token_url, parameters, client_secret).await {
                Ok(document) => Ok(Secret::new(document.body)),
                Err(error) => Err(told(&error)),
            }
        })
    }

    fn scope(&self) -> Option<&str> {
        self.config.scope.as_deref()
    }

    fn revoke<'a>(
        &'a self,
        token: &'a Secret<String>,
        client_secret: &'a Secret<String>,
    ) -> Revoking<'a> {
        Box::pin(async move {
            let exchange = self.config.exchange.as_ref();
            let Some(url) = exchange.and_then(|it| it.revocation_url.as_ref()) else {
                return Ok(false);
            };
            let parameters = vec![
                ("token", token.expose().as_str()),
                ("token_type_hint", "access_token"),
            ];
            match self.post(url, parameters, client_secret).await {
                //= https://www.rfc-editor.org/rfc/rfc7009#section-2.2
                //# The content of the response body is ignored by the client as all necessary
                //# information is conveyed in the response code.
                Ok(_) | Err(FetchError::MediaType { .. }) => Ok(true),
                Err(error) => Err(RevokeError {
                    why: told(&error),
                    again: match &error {
                        //= https://www.rfc-editor.org/rfc/rfc7009#section-2.2.1
                        //# If the server responds with HTTP status code 503, the client must assume
                        //# the token still exists and may retry after a reasonable delay.
                        FetchError::Status { status, .. } => matches!(status, 429 | 500..),
                        FetchError::Unreachable { .. } => true,
                        FetchError::Refused { .. } | FetchError::MediaType { .. } => false,
                    },
                }),
            }
        })
    }
}

fn told(error: &FetchError) -> String {
    match error {
        FetchError::Status {
            error: Some(word), ..
        } if ERRORS.contains(&word.as_str()) => format!("{error}: `{word}`"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
