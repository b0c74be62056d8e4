//! Administration of what the directory may say: its tokens, and whom it speaks for.

use axum::extract::{Extension, Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use directory::scim::people;
use http::StatusCode;
use register::entry::Signal;
use register::{Command, Done, Person, PersonText, Subject};
use serde_json::json;
use vocab::{Digest, Handle, Secret, SponsorId};

use super::Caller;
use super::routes::{Answer, App, ok, parsed, read};
use super::wire::{self, Changed, Problem};

/// The tokens, without what they are.
pub(super) async fn tokens(State(admin): App) -> Answer {
    let tokens = admin.control().view(|state| {
        let tokens = state.directory_tokens();
        let shown = tokens.map(|token| json!({"id": token.id, "since": token.since}));
        shown.collect::<Vec<_>>()
    });
    Ok(ok(&tokens))
}

/// Makes a token. It is shown once; what is kept is its digest.
pub(super) async fn add_token(State(admin): App, Extension(caller): Extension<Caller>) -> Answer {
    //= https://www.rfc-editor.org/rfc/rfc7644#section-7.4
    //# bearer tokens and cookies MUST contain sufficient entropy to prevent a random guessing attack
    let bytes = vocab::rng::bytes::<32>(&*admin.shared.rng).map_err(|_| Problem::internal())?;
    let bytes = Secret::new(bytes);
    let token = Secret::new(URL_SAFE_NO_PAD.encode(bytes.expose()));
    let others = admin.control().view(|state| {
        let others = state.directory_tokens().map(|token| token.id.clone());
        others.collect::<Vec<_>>()
    });
    let command = Command::AddDirectoryToken {
        digest: Digest::of(token.expose().as_bytes()),
    };
    let done = admin.control().execute(caller.actor, command).await?;
    let Done::Changed {
        subject: Subject::DirectoryToken(id),
        records,
    } = done
    else {
        return Err(Problem::internal());
    };
    let base = format!("{}{}", admin.shared.url, directory::scim::PATH);
    Ok(ok(&json!({
        "token": token.expose(), "id": id, "url": base, "others": others, "records": records,
    })))
}

/// Takes a token away: from the next request on it is good for nothing.
pub(super) async fn remove_token(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    let token: Handle = parsed(&id)?;
    let command = Command::RemoveDirectoryToken {
        token: token.clone(),
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(
        &json!({"revoked": token, "changed": is_new, "records": records}),
    ))
}

/// Says by which id the directory knows a sponsor: from then on it speaks for them.
pub(super) async fn link(
    State(admin): App,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Answer {
    let id: SponsorId = parsed(&id)?;
    let asked: wire::Link = read(&body)?;
    let external_id: PersonText = parsed(&asked.external_id)?;
    // Unknown ones are refused here, with the nearest.
    admin.sponsor_view(&id)?;
    let found = admin.control().view(|state| {
        let sponsor = state.sponsor_by_id(&id)?;
        Some((sponsor.handle.clone(), sponsor.person()?.clone()))
    });
    let (sponsor, person) = found.ok_or_else(Problem::internal)?;
    let conflict = |text: String| Problem::new(StatusCode::CONFLICT, "exists", &text);
    let other = admin.control().view(|state| {
        let other = state.sponsor_by_external_id(&external_id);
        let other = other.filter(|other| other.handle != sponsor);
        other.map(|other| state.sponsor_name(&other.handle))
    });
    if let Some(other) = other {
        return Err(conflict(format!(
            "sponsor `{other}` has that external id; an external id is one person's only"
        )));
    }
    match &person.external_id {
        Some(had) if *had != external_id && !asked.replace && !people::is_deleted(&person) => {
            let told = format!(
                "sponsor `{id}` has the external id `{}` already",
                had.as_str()
            );
            return Err(conflict(told).help(
                "if that is not what the directory calls them (any more): `tipstaff sponsor link \
                 --replace`",
            ));
        }
        Some(_) | None => {}
    }
    // Who was deleted is a user again, of whom the directory said nothing yet.
    let attributes = person.attributes.clone();
    let attributes = attributes.filter(|_| !people::is_deleted(&person));
    let person = Person {
        external_id: Some(external_id),
        attributes,
        ..person
    };
    let word = |text: &str| text.parse().map_err(|_| Problem::internal());
    let command = Command::ChangeSponsor {
        sponsor,
        person: Box::new(person),
        changes: vec![word("external-id")?],
        signal: Signal {
            source: word("cli")?,
            event: word("linked")?,
            received_at: admin.shared.clock.now(),
            happened_at: None,
            id: None,
        },
    };
    let (is_new, records) = admin.execute(caller, command).await?;
    Ok(ok(&Changed {
        view: admin.sponsor_view(&id)?,
        is_new,
        records,
    }))
}

/// The groups and who is in them.
pub(super) async fn groups(State(admin): App) -> Answer {
    Ok(ok(&admin.control().view(register::State::group_views)))
}
