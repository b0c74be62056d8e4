//! Tokens that upstreams are reached with: how a token endpoint is asked for one.

use std::fmt;
use std::sync::Arc;

use broker::{Asking, TokenEndpoint};
use tokens::{Fetch, FetchError};
use vocab::Secret;

use crate::config::{ClientAuth, OAuthConfig};

/// The errors that a token endpoint may have (RFC 6749 §5.2, RFC 8707 §2). Another word of its
/// answer is not told: it could be what it was sent.
const ERRORS: [&str; 7] = [
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "unauthorized_client",
    "unsupported_grant_type",
];

/// A client of one token endpoint.
pub struct Endpoint {
    config: OAuthConfig,
    fetch: Arc<dyn Fetch>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.config.token_url)
    }
}

impl Endpoint {
    /// The client that the configuration describes.
    pub const fn new(config: OAuthConfig, fetch: Arc<dyn Fetch>) -> Self {
        Self { config, fetch }
    }
}

impl TokenEndpoint for Endpoint {
    fn ask<'a>(&'a self, client_secret: &'a Secret<String>) -> Asking<'a> {
        let it = &self.config;
        let mut parameters = vec![("grant_type", "client_credentials")];
        parameters.extend(it.scope.as_deref().map(|it| ("scope", it)));
        parameters.extend(it.resource.as_deref().map(|it| ("resource", it)));
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
        Box::pin(async move {
            let answer = self.fetch.post(&it.token_url, form, basic).await;
            match answer {
                Ok(document) => Ok(Secret::new(document.body)),
                Err(error) => Err(told(&error)),
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
