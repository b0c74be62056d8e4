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

/// How long the directory may take to answer, at most.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// How long after it is too old an answer may be found to be, at most.
const JUDGED_EVERY_MAX: Duration = Duration::from_secs(5);
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
        timeout: config.fresh.map_or(ANSWER_TIMEOUT_MAX, |fresh| {
            (fresh / 4).min(ANSWER_TIMEOUT_MAX)
        }),
    });
    let poller = Poller::new(control, clock, source, config.fresh);
    // Two clocks: how old an answer is, is judged while others are waited for.
    let judged = async {
        let Some(every) = config.fresh.map(|fresh| (fresh / 8).min(JUDGED_EVERY_MAX)) else {
            return;
        };
        loop {
            if let Err(error) = poller.judge().await {
                tracing::error!(error = %error, "A sponsor of whom nothing is heard was not stopped");
            }
            tokio::time::sleep(every).await;
        }
    };
    let asked = ask(&poller, config.every);
    stop.run_until_cancelled(async { tokio::join!(judged, asked) })
        .await;
}

/// Asks about everybody, again and again.
async fn ask(poller: &Poller, every: Duration) {
    let mut is_well = true;
    loop {
        match poller.round().await {
            Ok(round) if round.silent == 0 => is_well = true,
            Ok(round) => {
                // Once, until it answers again.
                if std::mem::take(&mut is_well) {
                    tracing::error!(
                        "The directory does not say whether {} are with the company",
                        crate::output::count(round.silent, "sponsor", "sponsors")
                    );
                }
            }
            Err(error) => {
                tracing::error!(error = %error, "What the directory said could not be put on record");
            }
        }
        tokio::time::sleep(every).await;
    }
}

/// A SCIM service.
#[derive(Debug)]
struct Scim {
    users: String,
    token: Option<Secret<String>>,
    timeout: Duration,
}

impl Source for Scim {
    fn ask<'a>(&'a self, external_id: &'a PersonText) -> Asking<'a> {
        Box::pin(async move {
            let request = self.request(external_id)?;
            let sent = outbound::send(request, ANSWER_BYTES_MAX);
            let answer = tokio::time::timeout(self.timeout, sent).await;
            let answer = answer.map_err(|_| "it took too long".to_owned())??;
            if answer.status() != StatusCode::OK {
                return Err(format!("it answered {}", answer.status()));
            }
            read_scim(answer.body(), external_id.as_str())
        })
    }
}

impl Scim {
    fn request(&self, external_id: &PersonText) -> Result<Request<Full<Bytes>>, String> {
        let quoted = serde_json::to_string(external_id.as_str()).map_err(|it| it.to_string())?;
        let filter = percent(&format!("externalId eq {quoted}"));
        let url = format!(
            "{}?filter={filter}&attributes=externalId,active&count=2",
            self.users
        );
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
