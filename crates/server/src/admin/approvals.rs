//! Approvals over the administration socket: to be looked at. There is no route that grants or
//! refuses one, since an administrator's credential is nobody's approval.

use axum::extract::{Path, State};
use register::{ApprovalRefusal, CommandError, Refusal};
use vocab::Handle;

use super::routes::{Answer, App, ok, parsed};
use crate::approvers;

/// `GET /v1/approvals`.
pub(super) async fn list(State(admin): App) -> Answer {
    Ok(ok(&approvers::all(&admin.shared)))
}

/// `GET /v1/approvals/{id}`.
pub(super) async fn show(State(admin): App, Path(id): Path<String>) -> Answer {
    let id: Handle = parsed(&id)?;
    let found = approvers::shown(&admin.shared, &id);
    let found = found.ok_or(Refusal::Approval(ApprovalRefusal::Unknown { id }));
    Ok(ok(&found.map_err(CommandError::Refused)?))
}
