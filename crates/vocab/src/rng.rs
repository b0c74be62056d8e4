//! Randomness, as an argument.

use std::fmt;

/// A source of unpredictable bytes.
pub trait Rng: Send + Sync + fmt::Debug {
    /// Fills `out`. Fails only when the source itself fails; then nothing that needs it may go on.
    fn fill(&self, out: &mut [u8]) -> Result<(), RngError>;
}

/// The random source could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the system's random source could not be read: {0}")]
pub struct RngError(pub String);

/// `N` fresh bytes.
pub fn bytes<const N: usize>(rng: &dyn Rng) -> Result<[u8; N], RngError> {
    let mut out = [0; N];
    rng.fill(&mut out)?;
    Ok(out)
}

/// The operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRng;

impl Rng for SystemRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), RngError> {
        getrandom::fill(out).map_err(|error| RngError(error.to_string()))
    }
}
