//! Polling a transmitter for its SETs (RFC 8936).

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde_json::{Map, Value, json};
use vocab::Secret;

use super::receiver::Receiver;
use super::set::SetError;
use crate::json;

/// SETs that are asked for at once.
const EVENTS_MAX: usize = 32;
/// Requests in one round, so that a transmitter that always has more does not keep it going.
const REQUESTS_MAX: usize = 64;

/// An answer's body, when it comes.
pub type Posting<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// What sends a request to an endpoint that the administrator named, and reads what a `200` says.
pub trait Post: Send + Sync + fmt::Debug {
    /// Posts JSON.
    fn post<'a>(
        &'a self,
        url: &'a str,
        token: Option<&'a Secret<String>>,
        body: Value,
    ) -> Posting<'a>;
}

/// Why a round was not finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PollError {
    /// Nobody answered as they should.
    #[error("the transmitter did not answer: {0}")]
    Unreachable(String),
    /// The answer is not what RFC 8936 says.
    #[error("the transmitter's answer cannot be read")]
    Answer,
}

/// Asks for what there is, does it and says so, until nothing is left; how many were taken.
pub async fn round(
    receiver: &Receiver,
    post: &dyn Post,
    url: &str,
    token: Option<&Secret<String>>,
) -> Result<usize, PollError> {
    let (mut acks, mut errs, mut taken) = (Vec::new(), Map::new(), 0);
    for _ in 0..REQUESTS_MAX {
        let mut body = json!({"maxEvents": EVENTS_MAX, "returnImmediately": true});
        if let Some(members) = body.as_object_mut() {
            if !acks.is_empty() {
                members.insert("ack".to_owned(), std::mem::take(&mut acks).into());
            }
            if !errs.is_empty() {
                members.insert(
                    "setErrs".to_owned(),
                    Value::Object(std::mem::take(&mut errs)),
                );
            }
        }
        let answer = post.post(url, token, body).await;
        let answer = answer.map_err(PollError::Unreachable)?;
        let answer = json::object(&answer).map_err(|_| PollError::Answer)?;
        let sets = match answer.get("sets") {
            None => Map::new(),
            Some(Value::Object(sets)) => sets.clone(),
            Some(_) => return Err(PollError::Answer),
        };
        let mut held = 0;
        for (jti, set) in sets.into_iter().take(EVENTS_MAX) {
            let set = set.as_str().ok_or(PollError::Answer)?;
            match receiver.receive(set).await {
                Ok(()) => {
                    taken += 1;
                    acks.push(Value::String(jti));
                }
                // Neither acknowledged nor refused: it is sent again.
                Err(SetError::Unavailable) => held += 1,
                Err(error) => {
                    let told = json!({"err": error.as_str(), "description": error.to_string()});
                    errs.insert(jti, told);
                }
            }
        }
        let more = answer.get("moreAvailable") == Some(&Value::Bool(true)) && held == 0;
        if acks.is_empty() && errs.is_empty() && !more {
            break;
        }
    }
    Ok(taken)
}
