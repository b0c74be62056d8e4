//! Time and randomness that a test controls.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vocab::rng::RngError;
use vocab::time::SystemClock;
use vocab::{Clock, Digest, Rng, Time};

/// A clock that runs from the real time on, and that a test moves.
#[derive(Debug)]
pub struct MockClock {
    real: SystemClock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What the wall clock shows when `real` shows zero.
    base: Time,
    /// How much further than `real` the clock that only goes forward is.
    skipped: Duration,
}

impl MockClock {
    pub(crate) fn new() -> Self {
        let real = SystemClock::new();
        let base = real.now().minus(real.elapsed());
        Self {
            real,
            state: Mutex::new(State {
                base,
                skipped: Duration::ZERO,
            }),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.base = state.base.plus(by);
        state.skipped += by;
    }

    /// Sets the wall clock back. The clock that only goes forward goes on.
    pub fn set_back(&self, by: Duration) {
        let mut state = self.state();
        state.base = state.base.minus(by);
    }

    /// Sets the wall clock forward, and nothing else.
    pub fn set_forward(&self, by: Duration) {
        let mut state = self.state();
        state.base = state.base.plus(by);
    }

    /// Moves on to the very end of a second. A node serves nobody in the second in which it
    /// started, and so has next to nothing to wait for.
    pub(crate) fn advance_to_end_of_second(&self) {
        let micros = self.now().as_micros() % 1_000_000;
        self.advance(Duration::from_micros((1_950_000 - micros) % 1_000_000));
    }
}

impl Clock for MockClock {
    fn now(&self) -> Time {
        self.state().base.plus(self.real.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.state().skipped + self.real.elapsed()
    }
}

/// Bytes that look random and are the same in every run.
#[derive(Debug)]
pub struct SeededRng {
    seed: u64,
    drawn: AtomicU64,
}

impl SeededRng {
    /// Bytes that follow from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self {
            seed,
            drawn: AtomicU64::new(0),
        }
    }
}

impl Rng for SeededRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), RngError> {
        for chunk in out.chunks_mut(32) {
            let drawn = self.drawn.fetch_add(1, Ordering::Relaxed);
            let block = Digest::of_parts(&[&self.seed.to_be_bytes(), &drawn.to_be_bytes()]);
            chunk.copy_from_slice(&block.as_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}
