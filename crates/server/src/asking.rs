//! Asking the company's directory about active sponsors, as `[directory]` says.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use directory::poller::{Asking, Poller, Round, Source, read_scim};
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use register::{Control, PersonText};
use tokio_util::sync::CancellationToken;
use vocab::{Clock, Secret, Time};

use crate::config::{AskDirectory, Config};
use crate::outbound;

/// How long the directory may take to answer, at most.
const ANSWER_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// How long after it is too old an answer may be found to be, at most.
const JUDGED_EVERY_MAX: Duration = Duration::from_secs(5);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The directory that is asked, and how that goes.
#[derive(Debug)]
pub struct Directory {
    config: AskDirectory,
    source: Arc<Scim>,
    heard: Mutex<Heard>,
}

/// How the asking goes.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// When there was an answer about everybody, or nobody to ask about; none: not yet.
    pub well_at: Option<Time>,
    /// Sponsors about whom there was no answer in the last round.
    pub silent: usize,
    /// Why there was none.
    pub why: Option<String>,
}

impl Directory {
    /// Makes ready what the configuration says; or says what is wrong with it.
    pub(crate) fn new(config: &AskDirectory, whole: &Config) -> Result<Self, String> {
        let token = config.token.as_ref().map(|it| whole.secret(it)).transpose();
        let token = token.map_err(|why| format!("`directory.token`: {why}"))?;
        let source = Scim {
            users: format!("{}/Users", config.url.as_str().trim_end_matches('/')),
            token,
            timeout: config.fresh.map_or(ANSWER_TIMEOUT_MAX, |fresh| {
                (fresh / 4).min(ANSWER_TIMEOUT_MAX)
            }),
        };
        Ok(Self {
            config: config.clone(),
            source: Arc::new(source),
            heard: Mutex::default(),
        })
    }

    /// Where it is asked.
    pub fn url(&self) -> &str {
        &self.source.users
    }

    /// How long silence is borne; none: for ever.
    pub const fn fresh(&self) -> Option<Duration> {
        self.config.fresh
    }

    /// How it goes.
    pub fn heard(&self) -> Heard {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }

    /// Notes what a round came to.
    fn note(&self, round: Round, now: Time) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        // Once, until it answers again.
        if round.silent > 0 && heard.silent == 0 {
            tracing::error!(
                "The directory at {} does not say whether {} are with the company: {}",
                self.url(),
                crate::output::count(round.silent, "sponsor", "sponsors"),
                round.why.as_deref().unwrap_or_default()
            );
        }
        if round.silent == 0 {
            heard.well_at = Some(now);
        }
        heard.silent = round.silent;
        heard.why = round.why;
    }

    /// Asks, until the node stops.
    pub(crate) async fn ask(
        self: Arc<Self>,
        control: Arc<Control>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        let source = Arc::clone(&self.source);
        let poller = Poller::new(control, Arc::clone(&clock), source, self.config.fresh);
        // Two clocks: how old an answer is, is judged while others are waited for.
        let judged = self.judge(&poller);
        let asked = self.ask_again(&poller, &*clock);
        stop.run_until_cancelled(async { tokio::join!(judged, asked) })
            .await;
    }

    async fn judge(&self, poller: &Poller) {
        let every = self.fresh().map(|fresh| (fresh / 8).min(JUDGED_EVERY_MAX));
        let Some(every) = every else {
            return;
        };
        loop {
            if let Err(error) = poller.judge().await {
                tracing::error!(error = %error, "A sponsor of whom nothing is heard was not stopped");
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Asks about everybody, again and again.
    async fn ask_again(&self, poller: &Poller, clock: &dyn Clock) {
        loop {
            match poller.round().await {
                Ok(round) => self.note(round, clock.now()),
                Err(error) => {
                    tracing::error!(error = %error, "What the directory said could not be put on record");
                }
            }
            tokio::time::sleep(self.config.every).await;
        }
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

/// A text as a part of a URL's path or query.
pub(crate) fn percent(text: &str) -> String {
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
