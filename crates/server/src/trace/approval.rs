//! The approval of a call: one that it used up, or waits for.

use ledger::Kind;
use register::entry::Event;
use register::{Approval, State};
use vocab::LogName;

use super::{SCANNED_MAX, Sources, TraceError, misread, parse};
use crate::approvers::{ApprovalView, GrantView, view};

impl Sources<'_> {
    /// The approval that a call used up, asked for at `asked`. The register forgets those that are
    /// over; the log does not.
    pub(super) fn approval_used(&self, asked: u64) -> Result<Option<ApprovalView>, TraceError> {
        match self.approval_known(|it| it.asked == asked) {
            None => self.approval_on_record(asked),
            known => Ok(known),
        }
    }

    /// The approval that a held call waits for, or waited for until lately.
    pub(super) fn approval_of(&self, held: u64) -> Option<ApprovalView> {
        self.approval_known(|it| it.held == held)
    }

    fn approval_known(&self, is_it: impl Fn(&Approval) -> bool) -> Option<ApprovalView> {
        self.control.view(|state| {
            let found = state.approvals().find(|it| is_it(it))?;
            Some(view(state, self.url, found, self.now))
        })
    }

    /// An approval that was used up, as the log has it, from the entry that asked to the one that
    /// used it.
    pub(super) fn approval_on_record(
        &self,
        asked: u64,
    ) -> Result<Option<ApprovalView>, TraceError> {
        let log = self.control_log;
        if asked >= log.size() {
            return Ok(None);
        }
        let mut read = None;
        for index in asked..log.size().min(asked.saturating_add(SCANNED_MAX)) {
            let bytes = log.entry(index)?;
            let entry = parse(LogName::Control, index, &bytes)?;
            let is_about = matches!(
                entry.kind,
                Kind::ApprovalRequested | Kind::ApprovalGranted | Kind::ApprovalUsed
            );
            if !is_about {
                continue;
            }
            let event =
                Event::read(&entry).map_err(|error| misread(LogName::Control, index, &error))?;
            match (event, &mut read) {
                (Event::ApprovalRequested(it), read @ None) => {
                    *read = Some(ApprovalView::requested(self.url, it, index, entry.time));
                }
                (Event::ApprovalGranted(it), Some(read)) if it.id == read.id => {
                    let by = self
                        .control
                        .view(|state: &State| state.sponsor_name(&it.by));
                    read.granted
                        .push(GrantView::of(by, it.sign_in, entry.time, index));
                }
                (Event::ApprovalUsed(it), Some(read)) if it.id == read.id => {
                    read.state = "used";
                    read.used = Some(format!("{}/{index}", LogName::Control));
                    read.until = entry.time;
                    break;
                }
                // It does not begin with one that asks.
                (_, None) => return Ok(None),
                _ => {}
            }
        }
        Ok(read)
    }
}
