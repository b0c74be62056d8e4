//! How an OpenBao or HashiCorp Vault server is reached.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use broker::{Bao, BaoAnswering, BaoRequest, BaoServer, Baos};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use vocab::Secret;

use crate::config::BaoConfig;
use crate::outbound;

/// Both programs know these by Vault's names.
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// What the servers' own agents ask for, so that nobody is led to them by a browser.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

struct Server {
    address: String,
    namespace: Option<HeaderValue>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({})", self.address)
    }
}

impl BaoServer for Server {
    fn send<'a>(&'a self, request: BaoRequest<'a>) -> BaoAnswering<'a> {
        Box::pin(async move {
            let url = format!("{}/v1/{}", self.address, request.path);
            let method = match request.body {
                Some(_) => http::Method::POST,
                None => http::Method::GET,
            };
            let mut made = Request::builder().method(method).uri(url);
            made = made.header(REQUEST, HeaderValue::from_static("true"));
            if let Some(namespace) = &self.namespace {
                made = made.header(NAMESPACE, namespace);
            }
            let unusable = |_| "no request can be made of what it is asked with".to_owned();
            if let Some(token) = request.token {
                let mut value = HeaderValue::from_str(token.expose()).map_err(unusable)?;
                value.set_sensitive(true);
                made = made.header(TOKEN, value);
            }
            let body = request.body.map(|it| it.expose().clone());
            let made = made.body(Full::new(Bytes::from(body.unwrap_or_default())));
            let made = made.map_err(|_| "no request can be made of its address".to_owned())?;
            let answer = outbound::send(made, ANSWER_BYTES_MAX).await?;
            let status = answer.status().as_u16();
            Ok((status, Secret::new(answer.into_body().to_vec())))
        })
    }
}

/// The servers that the configuration names.
pub fn servers(config: &BTreeMap<String, BaoConfig>) -> Baos {
    let server = |it: &BaoConfig| Server {
        address: it.address.as_str().trim_end_matches('/').to_owned(),
        namespace: it.namespace.as_deref().and_then(|it| it.parse().ok()),
    };
    let all = config.iter().map(|(name, it)| {
        let bao = Bao::new(Arc::new(server(it)), it.auth.clone());
        (name.clone(), Arc::new(bao))
    });
    all.collect()
}

/// Gives up who the node is there.
pub async fn end(baos: &Baos) {
    for (name, bao) in baos {
        if let Err(error) = bao.end().await {
            tracing::warn!(openbao.name = name, error = %error, "The token for openbao.{name} was not revoked, and is good until it expires");
        }
    }
}
