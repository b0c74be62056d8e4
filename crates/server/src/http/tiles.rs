//! The logs as others see them, in C2SP tlog-tiles paths: checkpoint and hash tiles for anyone,
//! entries for auditors. Only what the published checkpoint covers is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use ledger::note::Note;
use ledger::tile::{self, HEIGHT, Level, Tile, WIDTH};
use ledger::{Checkpoint, Log, LogReader, ReadError};
use vocab::secret::same_bytes;
use vocab::{LogName, Secret};

use super::{Routed, Routes, cached, nothing, text, with_type};
use crate::keys;
use crate::node::Shared;

/// Shortest token of auditors that is believed, in bytes: an empty file opens nothing.
const AUDITOR_TOKEN_BYTES_MIN: usize = 32;
/// What is under a checkpoint never changes again.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// Where the token lies that auditors show to read entries.
pub fn auditor_token(keys: &Path) -> PathBuf {
    keys.join("auditor.token")
}

/// What is asked of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Checkpoint,
    Vkey,
    Tile(Tile),
}

/// Reads a path as it stands: nothing in a valid one is percent-encoded.
fn wanted(path: &str) -> Option<(LogName, Wanted)> {
    let (log, rest) = path.strip_prefix("/ledger/")?.split_once('/')?;
    let wanted = match rest {
        "checkpoint" => Wanted::Checkpoint,
        "vkey" => Wanted::Vkey,
        tile => Wanted::Tile(tile.parse().ok()?),
    };
    Some((log.parse().ok()?, wanted))
}

/// Whether a tree of `size` has all of a tile.
fn covers(size: u64, tile: Tile) -> bool {
    let count = match tile.level {
        Level::Entries => size,
        Level::Hashes(level) => size >> (u32::from(level) * HEIGHT),
    };
    let first = tile.n.checked_mul(u64::from(WIDTH));
    let end = first.and_then(|first| first.checked_add(u64::from(tile.width)));
    end.is_some_and(|end| end <= count)
}

/// `GET /ledger/{log}/…`
pub(super) async fn serve(State(routes): Routed, request: Request) -> Response {
    let Some((log, wanted)) = wanted(request.uri().path()) else {
        return nothing().await;
    };
    let entries = matches!(
        wanted,
        Wanted::Tile(Tile {
            level: Level::Entries,
            ..
        })
    );
    if entries && let Err(refused) = auditor(&routes, request.headers()).await {
        return refused;
    }
    let read = routes
        .blocking(move |shared| read(shared, log, wanted))
        .await;
    match (read, wanted) {
        (Some(Ok(Some(bytes))), Wanted::Checkpoint) => {
            cached(text(StatusCode::OK, bytes), "no-cache")
        }
        (Some(Ok(Some(bytes))), Wanted::Vkey) => {
            cached(text(StatusCode::OK, bytes), "public, max-age=3600")
        }
        (Some(Ok(Some(bytes))), Wanted::Tile(_)) => {
            let response = with_type(StatusCode::OK, "application/octet-stream", bytes);
            cached(
                response,
                if entries {
                    "private, max-age=31536000, immutable"
                } else {
                    IMMUTABLE
                },
            )
        }
        (Some(Ok(None)), _) => nothing().await,
        (Some(Err(error)), _) => {
            tracing::error!(log = %log, error = %error, "A log could not be read");
            unavailable()
        }
        (None, _) => unavailable(),
    }
}

fn unavailable() -> Response {
    let mut response = text(
        StatusCode::SERVICE_UNAVAILABLE,
        "the log cannot be read now\n",
    );
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

fn read(shared: &Shared, log: LogName, wanted: Wanted) -> Result<Option<Vec<u8>>, ReadError> {
    let reader = shared.log(log).reader();
    let checkpoint = || Ok::<_, ReadError>(reader.checkpoint()?.unwrap_or_default());
    match wanted {
        Wanted::Checkpoint => Ok(reader.checkpoint()?.map(String::into_bytes)),
        Wanted::Vkey => Ok(std::fs::read(shared.config.data.join(format!("{log}.vkey"))).ok()),
        Wanted::Tile(tile) if !covers(published(&checkpoint()?), tile) => Ok(None),
        Wanted::Tile(tile) => match tile.level {
            Level::Hashes(level) => reader.hash_tile(level, tile.n, tile.width).map(Some),
            Level::Entries => bundle(reader, tile).map(Some),
        },
    }
}

/// How many entries a checkpoint of our own covers.
pub(super) fn published(checkpoint: &str) -> u64 {
    let note = Note::parse(checkpoint).ok();
    let checkpoint = note.and_then(|note| note.text().parse::<Checkpoint>().ok());
    checkpoint.map_or(0, |checkpoint| checkpoint.size)
}

fn bundle(reader: &dyn LogReader, tile: Tile) -> Result<Vec<u8>, ReadError> {
    let mut bundle = Vec::new();
    let first = tile.n * u64::from(WIDTH);
    for index in first..first + u64::from(tile.width) {
        if !tile::push_entry(&mut bundle, &reader.entry(index)?) {
            return Err(ReadError::Damaged {
                what: format!("entry {index}"),
                cause: "it is longer than an entry can be".to_owned(),
            });
        }
    }
    Ok(bundle)
}

/// Lets auditors pass: those who show the token that lies in the keys folder. It is read each
/// time, so that replacing the file replaces the token.
async fn auditor(routes: &Arc<Routes>, headers: &HeaderMap) -> Result<(), Response> {
    let shown = bearer(headers);
    let kept =
        routes.blocking(|shared| keys::read_secret(&auditor_token(&shared.config.keys)).ok());
    let is_auditor = match (shown, kept.await.flatten()) {
        (Some(shown), Some(kept)) => opens(&kept, &shown),
        _ => false,
    };
    if is_auditor {
        return Ok(());
    }
    routes
        .shared
        .plane
        .refusals()
        .note("not-an-auditor", "ledger", None);
    let mut response = text(StatusCode::UNAUTHORIZED, "entries are for auditors\n");
    let challenge = HeaderValue::from_static("Bearer realm=\"ledger\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    Err(response)
}

fn opens(kept: &Secret<String>, shown: &Secret<String>) -> bool {
    let kept = kept.expose().as_bytes();
    kept.len() >= AUDITOR_TOKEN_BYTES_MIN && same_bytes(kept, shown.expose().as_bytes())
}

/// The one bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<Secret<String>> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let alone = values.next().is_none() && scheme.eq_ignore_ascii_case("bearer");
    alone.then(|| Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<(LogName, &str)>) {
        let found = wanted(path).map(|(log, wanted)| {
            let shown = match wanted {
                Wanted::Checkpoint => "checkpoint".to_owned(),
                Wanted::Vkey => "vkey".to_owned(),
                Wanted::Tile(tile) => tile.to_string(),
            };
            (log, shown)
        });
        assert_eq!(
            found,
            expected.map(|(log, text)| (log, text.to_owned())),
            "{path}"
        );
    }

    #[test]
    fn paths_are_read_as_they_stand() {
        check(
            "/ledger/calls/checkpoint",
            Some((LogName::Calls, "checkpoint")),
        );
        check("/ledger/control/vkey", Some((LogName::Control, "vkey")));
        check(
            "/ledger/calls/tile/0/000",
            Some((LogName::Calls, "tile/0/000")),
        );
        check(
            "/ledger/calls/tile/0/x001/234",
            Some((LogName::Calls, "tile/0/x001/234")),
        );
        check(
            "/ledger/calls/tile/1/000.p/7",
            Some((LogName::Calls, "tile/1/000.p/7")),
        );
        check(
            "/ledger/calls/tile/entries/000",
            Some((LogName::Calls, "tile/entries/000")),
        );
        for path in [
            "/ledger/calls",
            "/ledger/calls/",
            "/ledger/other/checkpoint",
            "/ledger/calls/checkpoint/",
            "/ledger/calls/tile/0/0",
            "/ledger/calls/tile/0/%30%30%30",
            "/ledger/calls/tile/0/x000/001",
            "/ledger/calls/tile/0/000.p/0",
            "/ledger/calls/tile/0/000.p/256",
            "/ledger/calls/tile/0/000.p/+1",
            "/ledger/calls/tile/8/000",
            "/ledger/calls/tile/00/000",
            "/ledger/calls/tile/entries/../0/000",
            "/ledger/calls/../calls/checkpoint",
            "/ledger/calls/segments/1.seg",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn only_what_is_under_the_checkpoint_is_there() {
        let check = |size, path: &str, expected| {
            assert_eq!(
                covers(size, path.parse().unwrap()),
                expected,
                "{path} of {size}"
            );
        };
        check(0, "tile/0/000.p/1", false);
        check(5, "tile/0/000.p/5", true);
        check(5, "tile/0/000.p/4", true);
        check(5, "tile/0/000.p/6", false);
        check(5, "tile/0/000", false);
        check(5, "tile/entries/000.p/5", true);
        check(5, "tile/entries/000.p/6", false);
        check(256, "tile/0/000", true);
        check(256, "tile/1/000.p/1", true);
        check(256, "tile/1/000.p/2", false);
        check(255, "tile/1/000.p/1", false);
        check(u64::MAX, "tile/0/x072/x057/x594/x037/x927/936", false);
        check(u64::MAX, "tile/0/x072/x057/x594/x037/x927/935.p/255", true);
    }

    #[test]
    fn an_auditor_shows_the_whole_token_alone() {
        let kept = Secret::new("k".repeat(44));
        let check = |values: &[&str], expected: bool| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            let opened = bearer(&headers).is_some_and(|shown| opens(&kept, &shown));
            assert_eq!(opened, expected, "{values:?}");
        };
        let right = format!("Bearer {}", kept.expose());
        check(&[&right], true);
        check(&[&right.to_lowercase()], true);
        check(&[], false);
        check(&["Bearer "], false);
        check(&["Bearer kkkk"], false);
        check(&[&right.replace("Bearer", "DPoP")], false);
        check(&[&format!("{right}k")], false);
        check(&[&right, &right], false);
        assert!(!opens(
            &Secret::new(String::new()),
            &Secret::new(String::new())
        ));
    }
}
