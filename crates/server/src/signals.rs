//! The receivers of security events: put together from the configuration, and polling.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use directory::ssf::poll::{Post, Posting, round};
use directory::ssf::{Keys, Receiver, SetError, Stream, Turns, Verifying};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use register::{Control, Word};
use tokens::{Fetch, Foreign, ForeignTyp, KeySet, Provider, ProviderError, Source, WebUrl};
use tokio_util::sync::CancellationToken;
use vocab::limits::RESPONSE_BYTES_MAX;
use vocab::{Clock, Digest, Secret};

use crate::config::{Config, Jwks, Signals};
use crate::outbound;

/// How long a transmitter that is polled may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The receivers, by name.
pub type Receivers = BTreeMap<Word, Arc<Receiver>>;

/// Makes the receivers that the configuration asks for; or says what is wrong with it.
pub(crate) fn receivers(
    config: &Config,
    url: &str,
    control: &Arc<Control>,
    clock: &Arc<dyn Clock>,
    fetch: &Arc<dyn Fetch>,
) -> Result<Receivers, String> {
    let mut all = BTreeMap::new();
    let turns = Arc::new(Turns::default());
    for (name, it) in &config.signals {
        let wrong = |why: String| format!("`ssf.{name}`: {why}");
        let issuer = it.issuer.as_str().to_owned();
        let provider = Provider::new(
            Some(issuer.clone()),
            source(it).map_err(wrong)?,
            Arc::clone(fetch),
            Arc::clone(clock),
        );
        let authorization = it.authorization.as_ref().map(|it| config.secret(it));
        let authorization = authorization.transpose().map_err(wrong)?;
        let poll_token = it.poll.as_ref().and_then(|poll| poll.token.as_ref());
        if let Some(Err(why)) = poll_token.map(|it| config.secret(it)) {
            return Err(wrong(format!("`poll_token`: {why}")));
        }
        let own = format!("{}/ssf/{name}", url.trim_end_matches('/'));
        let stream = Stream {
            name: name.to_string(),
            subject_issuer: it.subject_issuer.clone().unwrap_or_else(|| issuer.clone()),
            issuer,
            audience: it.audience.clone().unwrap_or(own),
            formats: it.formats,
            push_token: authorization.map(|text| Digest::of(text.expose().as_bytes())),
            state: it.state.clone(),
        };
        let receiver = Receiver::new(
            Arc::clone(control),
            Arc::clone(clock),
            stream,
            config.reactions,
            Arc::new(Transmitter { provider }),
            Arc::clone(&turns),
        );
        all.insert(name.clone(), Arc::new(receiver));
    }
    Ok(all)
}

fn source(it: &Signals) -> Result<Source, String> {
    match &it.jwks {
        Some(Jwks::Url(url)) => Ok(Source::Address(url.clone())),
        Some(Jwks::File(path)) => {
            let shown = path.display();
            let bytes =
                std::fs::read(path).map_err(|cause| format!("cannot read `{shown}`: {cause}"))?;
            let keys = KeySet::parse(&bytes).map_err(|cause| format!("`{shown}`: {cause}"))?;
            Ok(Source::Given(keys))
        }
        None => well_known(&it.issuer).map(Source::Discovery),
    }
}

/// Where a transmitter's configuration is: its name goes between host and path (SSF 1.0 §7.2.1).
fn well_known(issuer: &WebUrl) -> Result<WebUrl, String> {
    let (scheme, _) = issuer.as_str().split_once("://").unwrap_or_default();
    let (host, path) = (issuer.authority(), issuer.path_and_query());
    let path = path.trim_end_matches('/');
    format!("{scheme}://{host}/.well-known/ssf-configuration{path}")
        .parse()
        .map_err(|error| format!("{error}"))
}

/// A transmitter's keys.
#[derive(Debug)]
struct Transmitter {
    provider: Provider,
}

impl Keys for Transmitter {
    fn verify<'a>(&'a self, set: &'a str) -> Verifying<'a> {
        Box::pin(async move {
            let token = Foreign::parse(set, ForeignTyp::SecurityEvent);
            let token = token.map_err(|_| {
                SetError::Request("it is no JWT of the type `secevent+jwt` with a known `alg`")
            })?;
            match self.provider.verify_event(&token).await {
                Ok(claims) => Ok(claims),
                Err(ProviderError::Token(_)) => Err(SetError::Key),
                Err(error) => {
                    tracing::error!(error = %error, "The keys of a transmitter cannot be had");
                    Err(SetError::Unavailable)
                }
            }
        })
    }
}

/// Asks a transmitter for its events, until the node stops.
pub(crate) async fn poll(receiver: Arc<Receiver>, config: Arc<Config>, stop: CancellationToken) {
    let name = receiver.name();
    let Ok(key) = name.parse::<Word>() else {
        return;
    };
    let Some(poll) = config.signals.get(&key).and_then(|it| it.poll.as_ref()) else {
        return;
    };
    let token = match poll.token.as_ref().map(|it| config.secret(it)).transpose() {
        Ok(token) => token,
        Err(why) => {
            tracing::error!(
                stream = name,
                "The stream is NOT polled: ssf.{name}.poll_token: {why}"
            );
            return;
        }
    };
    let mut is_well = true;
    loop {
        let asked = round(&receiver, &Outbound, poll.url.as_str(), token.as_ref());
        match stop.run_until_cancelled(asked).await {
            None => return,
            Some(Ok(_)) => is_well = true,
            Some(Err(error)) => {
                // Once, until it is well again.
                if std::mem::take(&mut is_well) {
                    tracing::error!(stream = name, "No events are heard of `{name}`: {error}");
                }
            }
        }
        let pause = tokio::time::sleep(poll.every);
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Posts to endpoints that the administrator named.
#[derive(Debug)]
struct Outbound;

impl Post for Outbound {
    fn post<'a>(
        &'a self,
        url: &'a str,
        token: Option<&'a Secret<String>>,
        body: serde_json::Value,
    ) -> Posting<'a> {
        Box::pin(async move {
            let mut request = Request::post(url)
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json");
            if let Some(token) = token {
                let value = Secret::new(format!("Bearer {}", token.expose()));
                let mut value = HeaderValue::from_str(value.expose())
                    .map_err(|_| "the token cannot stand in a header".to_owned())?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            let request = request
                .body(Full::new(Bytes::from(body.to_string())))
                .map_err(|error| error.to_string())?;
            let sent = outbound::send(request, RESPONSE_BYTES_MAX);
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, sent).await;
            let answer = answer.map_err(|_| "it took too long".to_owned())??;
            if answer.status() != StatusCode::OK {
                return Err(format!("it answered {}", answer.status()));
            }
            Ok(answer.into_body().to_vec())
        })
    }
}

#[cfg(test)]
mod tests;
