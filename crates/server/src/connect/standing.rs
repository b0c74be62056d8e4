//! Hears from the gateway when the instance may act no more: a client that asks for nothing would
//! learn of it only when it next does.

use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method as Verb, Response, StatusCode};
use hyper::body::Incoming;
use register::Why;
use serde::Deserialize;

use super::Bridge;
use super::gateway::Trouble;
use super::legacy::{AGAIN_MAX, AGAIN_MIN, LASTED};
use crate::token::AskError;

/// What the gateway says, once.
#[derive(Deserialize)]
struct Said {
    standing: String,
    why: String,
}

impl Bridge {
    /// Listens for as long as the bridge lasts.
    pub(super) async fn hear_of_cuts(self: Arc<Self>) {
        let mut wait = AGAIN_MIN;
        loop {
            let began = self.gateway.elapsed();
            match self.standing().await {
                Ok(answer) if answer.status() == StatusCode::OK => {
                    if let Some(said) = self.said(answer).await {
                        self.cut(&said);
                        self.gateway.let_in.notified().await;
                        wait = AGAIN_MIN;
                        continue;
                    }
                    if self.gateway.elapsed().saturating_sub(began) > LASTED {
                        wait = AGAIN_MIN;
                    }
                }
                // An older gateway.
                Ok(answer) if answer.status().is_client_error() => return,
                Err(Trouble::Ended) => return,
                // It may not act now. Whoever asks for something is told why, and goes on when it
                // may again.
                Err(Trouble::NotLetIn(_) | Trouble::Token(AskError::Refused { .. })) => {
                    self.gateway.let_in.notified().await;
                    continue;
                }
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }

    async fn standing(&self) -> Result<Response<Incoming>, Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
        headers.insert(::gateway::STANDING, HeaderValue::from_static("?1"));
        self.gateway.bare(Verb::GET, headers).await
    }

    /// What the stream says, if it says anything before it ends.
    async fn said(&self, answer: Response<Incoming>) -> Option<Said> {
        let mut said = None;
        let read = self
            .events(answer, &mut None, &mut None, &mut |message| {
                said = serde_json::from_slice(message).ok();
                true
            })
            .await;
        if let Err(trouble) = read {
            tracing::debug!("The stream of this instance's standing broke off: {trouble}");
        }
        said
    }

    /// Says so where the client's user can see it, and ends the bridge if it is for good.
    fn cut(&self, said: &Said) {
        let why = &said.why;
        if Why::ENDS.iter().any(|it| it.as_str() == said.standing) {
            tracing::warn!("This client's instance is ended: {why}.");
            self.gateway.ended.cancel();
        } else {
            tracing::warn!(
                "Tipstaff has cut this client off: {why}. Its requests are answered with that until \
                 it may act again."
            );
        }
    }
}
