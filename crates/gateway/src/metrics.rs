//! What operators count. Labels come from closed sets.

use std::sync::atomic::{AtomicU64, Ordering};

use policy::{Direction, Found, Stage};
use vocab::finding::Class;

use crate::record::{Came, Over};

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    allowed: AtomicU64,
    denied: [AtomicU64; Stage::ALL.len()],
    under_glass: AtomicU64,
    approvals_asked: AtomicU64,
    approvals_used: AtomicU64,
    approvals_expired: AtomicU64,
    not_sent: AtomicU64,
    unknown: AtomicU64,
    completed: AtomicU64,
    /// To policy enforcement points: no and yes, by how they ask.
    told: [[AtomicU64; 2]; Over::ALL.len()],
    /// What was found, by class: in requests, and in what came back.
    found: [[AtomicU64; 2]; Class::ALL.len()],
    /// Messages that went on with masks in them: requests, and what came back.
    masked: [AtomicU64; 2],
    withheld: AtomicU64,
    warned: AtomicU64,
    routed: AtomicU64,
}

impl Metrics {
    pub(crate) fn decided(&self, allowed: bool, stage: Option<Stage>) {
        if allowed {
            self.allowed.fetch_add(1, Ordering::Relaxed);
        } else if let Some(counter) = stage
            .and_then(|stage| Stage::ALL.iter().position(|it| *it == stage))
            .and_then(|index| self.denied.get(index))
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn found(&self, direction: Direction, found: &[Found]) {
        for found in found {
            let class = Class::ALL.iter().position(|it| *it == found.class);
            let counters = class.and_then(|class| self.found.get(class));
            if let Some([requests, responses]) = counters {
                let counter = match direction {
                    Direction::Request => requests,
                    Direction::Response => responses,
                };
                counter.fetch_add(found.count, Ordering::Relaxed);
            }
        }
    }

    /// What was found, by class: in requests, and in what came back.
    pub fn findings(&self) -> Vec<(Class, [u64; 2])> {
        let load = |it: &[AtomicU64; 2]| it.each_ref().map(|it| it.load(Ordering::Relaxed));
        Class::ALL
            .into_iter()
            .zip(self.found.iter().map(load))
            .collect()
    }

    pub(crate) fn masked(&self, direction: Direction) {
        let [requests, responses] = &self.masked;
        let counter = match direction {
            Direction::Request => requests,
            Direction::Response => responses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that went on with masks in them: requests, and what came back.
    pub fn masks(&self) -> [u64; 2] {
        self.masked.each_ref().map(|it| it.load(Ordering::Relaxed))
    }

    pub(crate) fn withheld(&self) {
        self.withheld.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers that were withheld for what was found in them.
    pub fn answers_withheld(&self) -> u64 {
        self.withheld.load(Ordering::Relaxed)
    }

    pub(crate) fn warned(&self) {
        self.warned.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls permitted with a warning.
    pub fn allowed_with_warning(&self) -> u64 {
        self.warned.load(Ordering::Relaxed)
    }

    pub(crate) fn routed(&self) {
        self.routed.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls permitted that policy sent to another upstream than was asked.
    pub fn sent_elsewhere(&self) -> u64 {
        self.routed.load(Ordering::Relaxed)
    }

    pub(crate) fn approval_asked(&self) {
        self.approvals_asked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn approval_used(&self) {
        self.approvals_used.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an approval whose time was over before it was used.
    pub fn approval_expired(&self) {
        self.approvals_expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Approvals since the start: asked for, used, expired.
    pub fn approvals(&self) -> [(&'static str, u64); 3] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("asked", load(&self.approvals_asked)),
            ("used", load(&self.approvals_used)),
            ("expired", load(&self.approvals_expired)),
        ]
    }

    pub(crate) fn under_glass(&self) {
        self.under_glass.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls permitted that only break-glass let.
    pub fn allowed_under_glass(&self) -> u64 {
        self.under_glass.load(Ordering::Relaxed)
    }

    pub(crate) fn told(&self, over: Over, yes: bool) {
        let counters = Over::ALL.iter().zip(&self.told);
        for (_, counter) in counters.filter(|(it, _)| **it == over) {
            let [no, yes_counter] = counter;
            let counter = if yes { yes_counter } else { no };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers to policy enforcement points: how they ask, no and yes.
    pub fn answers(&self) -> Vec<(Over, [u64; 2])> {
        let load = |it: &[AtomicU64; 2]| it.each_ref().map(|it| it.load(Ordering::Relaxed));
        Over::ALL
            .into_iter()
            .zip(self.told.iter().map(load))
            .collect()
    }

    pub(crate) fn came(&self, came: Came) {
        let counter = match came {
            Came::NotSent => &self.not_sent,
            Came::Unknown => &self.unknown,
            Came::Completed => &self.completed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Calls permitted.
    pub fn allowed(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    /// Calls denied, by stage.
    pub fn denied(&self) -> Vec<(Stage, u64)> {
        Stage::ALL
            .iter()
            .zip(&self.denied)
            .map(|(stage, counter)| (*stage, counter.load(Ordering::Relaxed)))
            .collect()
    }

    /// Outcomes: not sent, unknown, completed.
    pub fn outcomes(&self) -> [u64; 3] {
        [&self.not_sent, &self.unknown, &self.completed].map(|it| it.load(Ordering::Relaxed))
    }
}
