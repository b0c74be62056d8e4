//! Asking the company's directory about active sponsors, as `[directory]` says.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use directory::poller::{Asking, Poller, Source, read_scim};
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use register::{Control, PersonText};
use tokio_util::sync::CancellationToken;
use vocab::{Clock, Secret};

use crate::config::{AskDirectory, Reference};
use crate::outbound;

/// How long the directory may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Asks, until the node stops.
pub(crate) async fn run(
    config: AskDirectory,
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let token = match config.token.as_ref().map(Reference::resolve).transpose() {
        Ok(token) => token,
        // Then nothing is ever heard, and what is said of silence holds.
        Err(why) => {
            tracing::error!("The directory is asked without a token: directory.token: {why}");
            None
        }
    };
    let source = Arc::new(Scim {
        users: format!("{}/Users", config.url.as_str().trim_end_matches('/')),
        token,
    });
    let mut poller = Poller::new(control, clock, source, config.fresh);
    let mut is_well = true;
    loop {
        match stop.run_until_cancelled(poller.round()).await {
            None => return,
            Some(Ok(round)) if round.silent == 0 => is_well = true,
            Some(Ok(round)) => {
                // Once, until it answers again.
                if std::mem::take(&mut is_well) {
                    tracing::error!(
                        "The directory does not say whether {} are with the company",
                        crate::output::count(round.silent, "sponsor", "sponsors")
                    );
                }
            }
            Some(Err(error)) => {
                tracing::error!(error = %error, "What the directory said could not be put on record");
            }
        }
        let pause = tokio::time::sleep(config.every);
        if stop.run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// A SCIM service.
#[derive(Debug)]
struct Scim {
    users: String,
    token: Option<Secret<String>>,
}

impl Source for Scim {
    fn ask<'a>(&'a self, external_id: &'a PersonText) -> Asking<'a> {
        Box::pin(async move {
            let request = self.request(external_id)?;
            let sent = outbound::send(request, ANSWER_BYTES_MAX);
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, sent).await;
            let answer = answer.map_err(|_| "it took too long".to_owned())??;
            if answer.status() != StatusCode::OK {
                return Err(format!("it answered {}", answer.status()));
            }
            read_scim(answer.body())
        })
    }
}

impl Scim {
    fn request(&self, external_id: &PersonText) -> Result<Request<Full<Bytes>>, String> {
        let quoted = serde_json::to_string(external_id.as_str()).map_err(|it| it.to_string())?;
        let filter = percent(&format!("externalId eq {quoted}"));
        let url = format!("{}?filter={filter}&attributes=active&count=2", self.users);
        let mut request = Request::get(url).header(ACCEPT, "application/scim+json");
        if let Some(token) = &self.token {
            let value = Secret::new(format!("Bearer {}", token.expose()));
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| "the token cannot stand in a header".to_owned())?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::default());
        request.map_err(|error| error.to_string())
    }
}

/// A text as a part of a URL's query.
fn percent(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            use std::fmt::Write as _;
            let _infallible = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests;
