//! stub
use crate::token::Asker;
use vocab::{Clock, Rng};
/// Why.
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ConnectError;
/// Runs.
pub async fn run(_asker: Asker, _clock: &dyn Clock, _rng: &dyn Rng) -> Result<(), ConnectError> {
    Ok(())
}
