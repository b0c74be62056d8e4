//! Folding: from the bytes of entries to a [`State`].

use ledger::seal;
use ledger::{Entry, EntryError, Keyring, KeyringError, LogReader, Opened, ReadError};
use serde::de::DeserializeOwned;
use vocab::digest::Digest;
use vocab::id::Handle;
use vocab::time::Time;

use crate::approval::is_themselves;
use crate::entry::{BodyError, Event};
use crate::state::{Beside, Impossible, Known, State, Unsealed};

/// The fold stopped at an entry. What the register would be beyond it is unknown, so nothing is.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the control log cannot be folded at entry {index}")]
pub struct FoldError {
    /// The entry.
    pub index: u64,
    /// Why.
    #[source]
    pub cause: FoldCause,
}

/// Why the fold stopped.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FoldCause {
    /// The entry, or what is sealed beside it, could not be read.
    #[error("it could not be read")]
    Read(#[source] ReadError),
    /// It is not an entry, or of a version or kind that this program does not know.
    #[error("it is not an entry that this program knows")]
    Entry(#[source] EntryError),
    /// Its body is not of its kind's shape, or its kind is the other log's.
    #[error(transparent)]
    Body(BodyError),
    /// It cannot have happened where it stands.
    #[error("it cannot have happened: {0}")]
    Impossible(Impossible),
    /// The keyring failed.
    #[error("the keyring did not answer")]
    Keyring(#[source] KeyringError),
    /// What is sealed beside it is not what it commits to.
    #[error("what is sealed beside it was changed: {0}")]
    Sealed(seal::OpenError),
    /// What is sealed beside it is what it commits to, but not of the form that belongs there.
    #[error("what is sealed beside it is not of the form that belongs there")]
    Form,
    /// A name, or what was handed on to an instance, is there but cannot be opened; a node does not
    /// start with one.
    #[error(
        "what is sealed beside it cannot be opened: the key that wraps the keyring, or the sealed \
         bytes, are absent"
    )]
    Locked,
    /// The log was asked for an entry again, and gave another.
    #[error("the log gave other bytes than it acknowledged")]
    Differs,
}

/// An entry, read and ready to be applied.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) time: Time,
    pub(crate) leaf_hash: Digest,
    pub(crate) event: Event,
    pub(crate) unsealed: Unsealed,
}

/// Reads the entry at `index`: its bytes as they stand, and what is sealed beside it as far as
/// `keyring` opens it. `state` is what the entries before it add up to.
pub(crate) fn read(
    state: &State,
    reader: &dyn LogReader,
    keyring: Option<&dyn Keyring>,
    index: u64,
) -> Result<Parsed, FoldError> {
    let at = |cause| FoldError { index, cause };
    let bytes = reader
        .entry(index)
        .map_err(|error| at(FoldCause::Read(error)))?;
    let entry = Entry::parse(&bytes).map_err(|error| at(FoldCause::Entry(error)))?;
    let event = Event::read(&entry).map_err(|error| at(FoldCause::Body(error)))?;
    // Under which key, and committed to by which digest, something lies beside the entry.
    let named = match &event {
        Event::SponsorAdded(body) => Some((Some(body.key.clone()), body.commit)),
        Event::GroupAdded(body) => Some((Some(body.key.clone()), body.commit)),
        Event::SponsorChanged(body) => Some((state.sponsor_key(&body.sponsor), body.commit)),
        Event::GroupChanged(body) => Some((state.group_key(&body.group), body.commit)),
        Event::BreakGlassRequested(body) => Some((Some(body.key.clone()), body.commit)),
        Event::ApprovalRequested(body) => Some((Some(body.key.clone()), body.commit)),
        Event::InstanceStarted(body) => {
            let sealed = body.handed_on.as_ref();
            sealed.map(|sealed| (Some(sealed.key.clone()), sealed.commit))
        }
        _ => None,
    };
    // Two people break the glass, and the entry of each is theirs.
    let by = match &event {
        Event::BreakGlassRequested(body) => Some(&body.by),
        Event::BreakGlassOpened(body) => Some(&body.by),
        _ => None,
    };
    if let Some(by) = by {
        let admin = state.admin(by);
        let theirs = admin.is_some_and(|it| it.key.credential() == entry.actor.credential);
        if !theirs {
            let admin = by.clone();
            return Err(at(FoldCause::Impossible(Impossible::NotTheirs { admin })));
        }
    }
    // An approval is somebody's own.
    let by = match &event {
        Event::ApprovalGranted(body) => Some((&body.by, body.sign_in)),
        Event::ApprovalRefused(body) => Some((&body.by, body.sign_in)),
        _ => None,
    };
    if let Some((by, sign_in)) = by
        && !is_themselves(&entry.actor, by, sign_in)
    {
        let by = by.clone();
        return Err(at(FoldCause::Impossible(Impossible::NotThemselves { by })));
    }
    let unsealed = match named {
        None => Unsealed::Nothing,
        Some((key, commit)) => {
            let (key, record) = (key.as_ref(), index);
            let beside = Beside { record, commit };
            match &event {
                Event::SponsorAdded(_) | Event::SponsorChanged(_) => {
                    unseal(state, key, &beside, reader, keyring).map(Unsealed::Person)
                }
                Event::BreakGlassRequested(_) => {
                    unseal(state, key, &beside, reader, keyring).map(Unsealed::Reason)
                }
                Event::ApprovalRequested(_) => {
                    unseal(state, key, &beside, reader, keyring).map(Unsealed::Approval)
                }
                Event::InstanceStarted(_) => {
                    unseal(state, key, &beside, reader, keyring).map(Unsealed::Authority)
                }
                _ => unseal(state, key, &beside, reader, keyring).map(Unsealed::Group),
            }
            .map_err(at)?
        }
    };
    Ok(Parsed {
        time: entry.time,
        leaf_hash: ledger::hash::leaf(&bytes),
        event,
        unsealed,
    })
}

/// What the entry at `index` says, read again.
pub(crate) fn event(reader: &dyn LogReader, index: u64) -> Result<Event, FoldCause> {
    let bytes = reader.entry(index).map_err(FoldCause::Read)?;
    let entry = Entry::parse(&bytes).map_err(FoldCause::Entry)?;
    Event::read(&entry).map_err(FoldCause::Body)
}

/// What lies sealed beside an entry, as far as it can be read.
pub(crate) fn unseal<T: DeserializeOwned>(
    state: &State,
    key: Option<&Handle>,
    beside: &Beside,
    reader: &dyn LogReader,
    keyring: Option<&dyn Keyring>,
) -> Result<Known<T>, FoldCause> {
    let Some(key) = key else {
        return Ok(Known::Sealed);
    };
    // On record before the key is destroyed, and then it does not matter when that is.
    if state.erased().contains(key) {
        return Ok(Known::Erased);
    }
    let Some(keyring) = keyring else {
        return Ok(Known::Sealed);
    };
    let key = match keyring.open(key).map_err(FoldCause::Keyring)? {
        Opened::Key(key) => key,
        Opened::Erased => return Ok(Known::Erased),
        Opened::Locked => return Ok(Known::Sealed),
    };
    let sealed = reader.sealed(beside.record).map_err(FoldCause::Read)?;
    let Some(sealed) = sealed else {
        return Ok(Known::Sealed);
    };
    let plain = seal::open(&key, &sealed, &beside.commit).map_err(FoldCause::Sealed)?;
    // The parser's own words could repeat what is personal.
    let named = serde_json::from_slice(&plain).map_err(|_| FoldCause::Form)?;
    Ok(Known::Named(named))
}

/// What the first `size` entries of a control log add up to: the register as a decision that
/// names that size saw it. Without a keyring, sponsors are known by their handles only.
pub fn fold_prefix(
    reader: &dyn LogReader,
    keyring: Option<&dyn Keyring>,
    size: u64,
) -> Result<State, FoldError> {
    let mut state = State::default();
    fold_on(&mut state, reader, keyring, size)?;
    Ok(state)
}

/// Folds on until `state` has `size` entries: what a replay does from one decision to the next.
pub fn fold_on(
    state: &mut State,
    reader: &dyn LogReader,
    keyring: Option<&dyn Keyring>,
    size: u64,
) -> Result<(), FoldError> {
    while state.size() < size {
        let index = state.size();
        let parsed = read(state, reader, keyring, index)?;
        apply(state, parsed)?;
    }
    Ok(())
}

pub(crate) fn apply(state: &mut State, parsed: Parsed) -> Result<(), FoldError> {
    let index = state.size();
    state
        .apply(parsed.time, parsed.event, parsed.unsealed)
        .map_err(|error| FoldError {
            index,
            cause: FoldCause::Impossible(error),
        })
}

/// A sponsor or group that is known but not by name, or a running instance of which nobody can say
/// what was handed on to it, though nothing says that it was erased.
pub(crate) fn locked(state: &State) -> Option<FoldError> {
    let sponsors = state.sponsors().into_iter();
    let sponsors = sponsors
        .filter(|it| it.identity == Known::Sealed)
        .map(|it| it.changed);
    let groups = state
        .groups()
        .filter(|it| it.profile == Known::Sealed)
        .map(|it| it.changed);
    let index = sponsors
        .chain(groups)
        .chain(state.locked_authority())
        .min()?;
    let cause = FoldCause::Locked;
    Some(FoldError { index, cause })
}
