//! Administration of the local vault. Values come in and never go out.

use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use http::StatusCode;
use vocab::{Secret, SecretName};

use super::Caller;
use super::routes::{Answer, App, ok, parsed, read};
use super::wire::{self, Problem, chain};
use crate::secrets::{self, Change, SecretError};

/// What there is.
pub(super) async fn list(State(admin): App) -> Answer {
    let config = &admin.shared.config;
    let listed = secrets::list(config, &config.vault());
    Ok(ok(&listed.map_err(SecretError::from)?))
}

/// Puts a secret in, or another value in its place.
pub(super) async fn set(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    let name: SecretName = parsed(&name)?;
    // What is wrong with it is not said with it.
    let asked: wire::NewSecret =
        read(&body).map_err(|_| Problem::bad(&"the body is not {\"value\": TEXT}"))?;
    change(&admin, caller, name, Change::Set(Secret::new(asked.value))).await
}

/// Takes a secret out.
pub(super) async fn remove(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Answer {
    let name: SecretName = parsed(&name)?;
    change(&admin, caller, name, Change::Remove).await
}

/// Takes a vault that was set back for the one that there is.
pub(super) async fn accept(State(admin): App, Extension(caller): Extension<Caller>) -> Answer {
    let shared = std::sync::Arc::clone(&admin.shared);
    let accepting = async move { secrets::accept(&shared, caller.actor).await };
    let accepted = admin.tasks.spawn(accepting).await;
    let accepted = accepted.map_err(|_| Problem::internal())??;
    Ok(ok(&accepted))
}

async fn change(
    admin: &std::sync::Arc<super::Admin>,
    caller: Caller,
    name: SecretName,
    change: Change,
) -> Answer {
    let shared = std::sync::Arc::clone(&admin.shared);
    // To its end, even if whoever asked goes away.
    let changing = async move { secrets::change(&shared, caller.actor, name, change).await };
    let changed = admin.tasks.spawn(changing).await;
    let changed = changed.map_err(|_| Problem::internal())??;
    Ok(ok(&changed))
}

impl From<SecretError> for Problem {
    fn from(error: SecretError) -> Self {
        use broker::VaultError;
        match error {
            SecretError::Command(error) => error.into(),
            SecretError::Vault(VaultError::Absent { .. }) => {
                Self::new(StatusCode::NOT_FOUND, "unknown", &chain(&error))
            }
            SecretError::Vault(VaultError::Value) => Self::bad(&error),
            SecretError::Vault(
                VaultError::Full | VaultError::SetBack { .. } | VaultError::NotSetBack,
            ) => Self::new(StatusCode::CONFLICT, "conflict", &chain(&error)),
            SecretError::Vault(_) | SecretError::Interrupted => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "vault", &chain(&error))
            }
        }
    }
}
