//! The streams on which instances hear that they may act no more: few for each, so that nobody takes
//! up the listener's places.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use vocab::InstanceId;
use vocab::limits::STANDING_PER_INSTANCE_MAX;

/// Every such stream that is open.
#[derive(Debug, Default)]
pub(crate) struct Hearers(Mutex<HashMap<InstanceId, VecDeque<Arc<Notify>>>>);

/// One of them, for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Hearer {
    all: Arc<Hearers>,
    instance: InstanceId,
    displaced: Arc<Notify>,
}

impl Hearers {
    /// Adds one; the oldest of too many goes.
    pub(crate) fn add(self: &Arc<Self>, instance: &InstanceId) -> Hearer {
        let displaced = Arc::new(Notify::new());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry(instance.clone()).or_default();
        own.push_back(Arc::clone(&displaced));
        if own.len() > STANDING_PER_INSTANCE_MAX
            && let Some(oldest) = own.pop_front()
        {
            oldest.notify_one();
        }
        Hearer {
            all: Arc::clone(self),
            instance: instance.clone(),
            displaced,
        }
    }
}

impl Hearer {
    /// Resolves when a newer one has its place.
    pub(crate) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Hearer {
    fn drop(&mut self) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(&self.instance) {
            own.retain(|it| !Arc::ptr_eq(it, &self.displaced));
            if own.is_empty() {
                all.remove(&self.instance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn is_displaced(hearer: &Hearer) -> bool {
        let mut displaced = std::pin::pin!(hearer.displaced());
        let waker = futures_util::task::noop_waker();
        let mut context = std::task::Context::from_waker(&waker);
        displaced.as_mut().poll(&mut context) == Poll::Ready(())
    }

    #[test]
    fn the_oldest_of_too_many_goes_and_nothing_is_left_of_those_that_went() {
        let all = Arc::new(Hearers::default());
        let [one, other] = ["a", "b"].map(|it| format!("i-{}", it.repeat(26)).parse().unwrap());
        let others = all.add(&other);
        let mut own: Vec<_> = (0..STANDING_PER_INSTANCE_MAX)
            .map(|_| all.add(&one))
            .collect();
        assert!(!own.iter().any(is_displaced));
        // Whoever leaves makes room.
        own.pop();
        own.push(all.add(&one));
        assert!(!own.iter().any(is_displaced));
        own.push(all.add(&one));
        let displaced: Vec<_> = own.iter().map(is_displaced).collect();
        assert!(
            displaced[0] && !displaced[1..].contains(&true),
            "{displaced:?}"
        );
        assert!(!is_displaced(&others));
        drop((own, others));
        assert!(all.0.lock().unwrap().is_empty());
    }
}
