//! Control: the one place that changes the register.
//!
//! A command is validated against the state it will change, its entries are appended and durable,
//! the bytes that were written are read back and folded, and a checkpoint over them is signed;
//! then it is acknowledged. One command at a time.
//!
//! What a crash leaves, after each step:
//!
//! 1. a key for what is to be sealed is made: a key that seals nothing; harmless;
//! 2. the entries are durable: what they say holds after the restart although nobody was told.
//!    Whoever asks again is told that it holds already;
//! 3. they are folded: the same; nothing that is folded is only in memory;
//! 4. the checkpoint is signed: only the answer is lost;
//! 5. (erasing) the key is still there: the next start destroys it, since the entry says so.
//!
//! The fold comes before the checkpoint so that a suspension bites as soon as it is durable, and
//! not only when signing has done its part.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use ledger::{
    Actor, Blobs, Draft, Keyring, KeyringError, Log, Mention, Opened, ReadError, Receipt,
    RecordError, seal,
};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use vocab::id::{InstanceId, RecordRef, UpstreamName};
use vocab::rng::Rng;
use vocab::time::{Clock, Time};

use crate::closing::Closing;
use crate::command::{Command, CommandError, Done, Settings, Subject};
use crate::decide::{NoPlan, Plan, Sealing, decide};
use crate::entry::{
    ApprovalRequested, BreakGlassRequested, CutOff, Event, GroupAdded, GroupChanged,
    InstanceStarted, SealedAuthority, SponsorAdded, SponsorChanged, Sponsorship, ToolJudged,
    ToolsPinned,
};
use crate::fold::{self, FoldCause, FoldError};
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;
use crate::standing::{Active, Stale, Standing, Why};
use crate::state::State;

/// The register does not know its own state. Nothing may act until the node is started again.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Failure {
    /// An entry that was written could not be folded.
    #[error("an entry that was just written cannot be folded")]
    Fold(#[source] FoldError),
    /// A command was cut off between its append and its fold.
    #[error("a command was cut off after its entries may have been written")]
    Interrupted,
}

/// The register of one node: its state, who may change it and how.
#[derive(Debug)]
pub struct Control {
    log: Arc<dyn Log>,
    blobs: Arc<dyn Blobs>,
    keyring: Arc<dyn Keyring>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    settings: Settings,
    state: RwLock<State>,
    /// [`State::generation`], to be read without the lock.
    generation: AtomicU64,
    /// What is about to be narrowed.
    closing: Closing,
    failure: OnceLock<Arc<Failure>>,
    writer: Mutex<Writer>,
    sever: OnceLock<Arc<dyn Sever>>,
    /// Where commands run, if not where they are given.
    lane: OnceLock<Handle>,
}

/// Carries a cut out where calls are made, and proves that it is.
///
/// It is asked by [`Control::execute`] itself, after every command that [cuts](Command::cut), so
/// nobody who gives such a command can forget it.
pub trait Sever: Send + Sync + fmt::Debug {
    /// Cuts what may not act any more and puts a barrier into the log of calls: when this is done,
    /// nothing that the cut rules out can follow there. `cause` is the kind of the entry that says
    /// what was narrowed, and `entry` its index, if it was written just now.
    fn sever<'a>(
        &'a self,
        cause: &'static str,
        entry: Option<u64>,
    ) -> Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send + 'a>>;
}

/// What only the one writer knows.
#[derive(Debug, Default)]
struct Writer {
    /// Entries that are durable and folded, but that no checkpoint covers yet.
    unpublished: bool,
}

impl Control {
    /// Folds the whole log. Whoever was running is running still; idle times count from now,
    /// since the log does not say when an instance was last used. Keys whose erasure is on record
    /// are destroyed if they are still there.
    pub fn open(
        log: Arc<dyn Log>,
        blobs: Arc<dyn Blobs>,
        keyring: Arc<dyn Keyring>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: Settings,
    ) -> Result<Arc<Self>, FoldError> {
        Self::resume(State::default(), log, blobs, keyring, clock, rng, settings)
    }

    /// Like [`Control::open`], from the state that a [snapshot](crate::snapshot::read) of this log
    /// gave: only what came after it is folded.
    pub fn resume(
        mut state: State,
        log: Arc<dyn Log>,
        blobs: Arc<dyn Blobs>,
        keyring: Arc<dyn Keyring>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        settings: Settings,
    ) -> Result<Arc<Self>, FoldError> {
        let reader = log.reader();
        fold::fold_on(&mut state, reader, Some(&*keyring), reader.size())?;
        if let Some(locked) = fold::locked(&state) {
            return Err(locked);
        }
        state.lose_unread_names();
        for key in state.erased() {
            keyring.erase(key).map_err(|error| FoldError {
                index: state.size(),
                cause: FoldCause::Keyring(error),
            })?;
        }
        let now = clock.now();
        state.touch_all(now);
        Ok(Arc::new(Self {
            generation: AtomicU64::new(state.generation()),
            state: RwLock::new(state),
            closing: Closing::default(),
            failure: OnceLock::new(),
            writer: Mutex::default(),
            sever: OnceLock::new(),
            lane: OnceLock::new(),
            log,
            blobs,
            keyring,
            clock,
            rng,
            settings,
        }))
    }

    /// Looks at the state. Readers do not wait for a command, only for the fold of its entries.
    pub fn view<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        // A writer does not panic while it holds the lock; if one did, `failure` says so.
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether an instance may act at `now`, and all that stands above it.
    pub fn standing(&self, id: &InstanceId, now: Time) -> Standing {
        if self.failure.get().is_some() {
            return Standing::Narrowed(Why::RegisterFailed);
        }
        self.but_for_closing(self.view(|state| state.standing(id, now)), None)
    }

    /// Whether an instance may act at `now`, and an upstream be called at all.
    pub fn standing_at(&self, id: &InstanceId, upstream: &UpstreamName, now: Time) -> Standing {
        if self.failure.get().is_some() {
            return Standing::Narrowed(Why::RegisterFailed);
        }
        let standing = self.view(|state| state.standing_at(id, upstream, now));
        self.but_for_closing(standing, Some(upstream))
    }

    fn but_for_closing(&self, standing: Standing, upstream: Option<&UpstreamName>) -> Standing {
        match standing {
            Standing::Active(active) => match self.closing.why(&active, upstream) {
                Some(why) => Standing::Narrowed(why),
                None => Standing::Active(active),
            },
            narrowed @ Standing::Narrowed(_) => narrowed,
        }
    }

    /// Whether what was active, with this upstream, still is, and policy would see the same sponsor
    /// yet. Without the lock as long as nothing at all was narrowed since; cheap enough to be asked
    /// at the moment of sequencing.
    pub fn still(&self, active: &Active, upstream: &UpstreamName, now: Time) -> Result<(), Stale> {
        if self.failure.get().is_some() {
            return Err(Stale::Narrowed(Why::RegisterFailed));
        }
        if let Some(why) = self.closing.why(active, Some(upstream)) {
            return Err(Stale::Narrowed(why));
        }
        if self.generation.load(Ordering::Acquire) == active.generation() {
            return match active.expired(now) {
                Some(why) => Err(Stale::Narrowed(why)),
                None => Ok(()),
            };
        }
        let standing = self.standing_at(&active.instance().id, upstream, now);
        let present = standing.active().map_err(Stale::Narrowed)?;
        // What is recorded says under which break-glass it is, so it is not to be under another.
        let same = present.sponsor().changed == active.sponsor().changed;
        if same && present.is_under_same(active) {
            Ok(())
        } else {
            Err(Stale::Changed)
        }
    }

    /// Counts the entries that narrowed anything; see [`State::generation`].
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Says that an instance was used at `now`, so that it is not idle. What is idle already is
    /// not brought back. A call that takes long has to say so more than once.
    pub fn touch(&self, id: &InstanceId, now: Time) {
        self.view(|state| {
            // What works for it keeps an instance from being idle.
            if let Some(instance) = state.instance(id) {
                for used in std::iter::once(instance).chain(state.ancestors(instance)) {
                    used.last_used.touch(now, used.idle);
                }
            }
        });
    }

    /// The state as it is, to be written down. Commands wait for as long as that takes, calls do
    /// not. A checkpoint covers all that it stands for.
    pub async fn snapshot(&self) -> Result<Snapshot, CommandError> {
        let mut writer = self.writer.lock().await;
        if let Some(failure) = self.failure.get() {
            return Err(CommandError::Failed(Arc::clone(failure)));
        }
        self.publish(&mut writer, &[]).await?;
        Ok(self.view(State::snapshot))
    }

    /// The control log as its last checkpoint has it, for the log of calls to name.
    pub fn mention(&self) -> Result<Option<Mention>, ReadError> {
        Mention::of(self.log.reader())
    }

    /// What the register failed of, if it did. A node that sees this stops serving.
    pub fn failure(&self) -> Option<&Arc<Failure>> {
        self.failure.get()
    }

    /// Says who carries cuts out. Without it, as where only the register is looked at, a cut holds
    /// but is proven by nothing in the log of calls.
    pub fn cuts_by(&self, sever: Arc<dyn Sever>) {
        // Only the first counts: there is one log of calls.
        drop(self.sever.set(sever));
    }

    /// Says where commands run from now on. A thread that does nothing else lets a cut begin at once;
    /// without one it waits in line with calls.
    pub fn runs_on(&self, lane: Handle) {
        // Only the first counts: there is one such thread.
        drop(self.lane.set(lane));
    }

    /// Runs, to its end, what gives commands, where commands run.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match self.lane.get() {
            Some(lane) => lane.spawn(work),
            None => tokio::spawn(work),
        }
    }

    /// Does a command, in the name of `actor`. It is done to its end even if the caller goes away.
    /// A cut is done when its barrier is on record.
    pub async fn execute(
        self: &Arc<Self>,
        actor: Actor,
        command: Command,
    ) -> Result<Done, CommandError> {
        let control = Arc::clone(self);
        // A task of its own: a caller who goes away drops this future, and an entry that was
        // appended must be folded.
        let task = self.spawn(async move {
            let cut = command.cut();
            let done = control.run(actor, command).await;
            // What is recorded and not published holds too, and is cut.
            let holds = matches!(
                done,
                Ok(_)
                    | Err(CommandError::Unpublished { .. } | CommandError::EraseUnfinished { .. })
            );
            let records = match &done {
                Ok(Done::Changed { records, .. })
                | Err(CommandError::Unpublished { records, .. }) => records.as_slice(),
                _ => &[],
            };
            // What is cut off is certified: of several entries, the one that cuts.
            let entry = control.view(|state| {
                let indices = || records.iter().map(|record| record.index);
                let cut = indices().find(|index| state.cut(*index).is_some());
                cut.or_else(|| indices().next_back())
            });
            let proven = match (cut, control.sever.get()) {
                (Some(cause), Some(sever)) if holds => sever.sever(cause, entry).await,
                _ => Ok(()),
            };
            let done = done?;
            proven.map_err(CommandError::Unproven)?;
            Ok(done)
        });
        match task.await {
            Ok(answer) => answer,
            Err(_) => Err(CommandError::Failed(self.fail(Failure::Interrupted))),
        }
    }

    async fn run(&self, actor: Actor, command: Command) -> Result<Done, CommandError> {
        let mut writer = self.writer.lock().await;
        if let Some(failure) = self.failure.get() {
            return Err(CommandError::Failed(Arc::clone(failure)));
        }
        // Asked again here, where commands stand in line: none of theirs follows a removal.
        if !self.view(|state| state.commands(&actor)) {
            return Err(Refusal::AdminGone { id: actor.id }.into());
        }
        self.look(&command).await?;
        let now = self.clock.now();
        let plan = self.view(|state| {
            let now = now.max(state.last_time());
            decide(state, &self.settings, &*self.rng, now, &actor, command)
        });
        let closed = match &plan {
            Ok(Plan::Write(_, events) | Plan::Seal(_, _, events)) => self.closing.close(events),
            Ok(Plan::Unchanged(_) | Plan::Continue(_)) | Err(_) => self.closing.close(&[]),
        };
        let (subject, drafts) = match plan {
            Err(NoPlan::Refused(refusal)) => return Err(refusal.into()),
            Err(NoPlan::Random(error)) => {
                return Err(CommandError::Unprepared {
                    cause: error.to_string(),
                });
            }
            Ok(Plan::Unchanged(subject)) => {
                // It may hold by entries that no checkpoint covered: then this is when they are
                // acknowledged.
                self.publish(&mut writer, &[]).await?;
                self.finish_erasure(&subject).await?;
                return Ok(Done::Unchanged { subject });
            }
            Ok(Plan::Continue(instance)) => {
                self.publish(&mut writer, &[]).await?;
                instance.last_used.touch(now, instance.idle);
                return Ok(Done::Continued { instance });
            }
            Ok(Plan::Seal(subject, sealing, events)) => {
                let mut drafts = vec![self.sealed(actor.clone(), now, *sealing).await?];
                drafts.extend(in_words(&actor, &events)?);
                (subject, drafts)
            }
            Ok(Plan::Write(subject, events)) => (subject, in_words(&actor, &events)?),
        };
        let started = drafts
            .iter()
            .any(|draft| draft.kind == ledger::Kind::InstanceStarted);
        let appended = self.append(drafts).await;
        // By now the state says so, or nothing does.
        drop(closed);
        let records = appended?;
        writer.unpublished = true;
        self.publish(&mut writer, &records).await?;
        self.finish_erasure(&subject).await?;
        if let (true, Subject::Instance(id)) = (started, &subject)
            && let Some(instance) = self.view(|state| state.instance(id).cloned())
            && let Some(record) = records.last().cloned()
        {
            return Ok(Done::Started { instance, record });
        }
        Ok(Done::Changed { subject, records })
    }

    /// What a command needs from outside the state: that blobs are durable before an entry names
    /// them, and that there is something to erase.
    async fn look(&self, command: &Command) -> Result<(), CommandError> {
        match command {
            Command::RecordTools { blob: digest, .. }
            | Command::PinTools(ToolsPinned { pins: digest, .. })
            | Command::JudgeTool(ToolJudged { pins: digest, .. })
            | Command::CertifyCut(CutOff {
                certificate: digest,
                ..
            })
            | Command::AcceptAgent { terms: digest, .. }
            | Command::TakeOver { terms: digest, .. }
            | Command::ActivatePolicy { set: digest, .. } => {
                let (blobs, digest) = (Arc::clone(&self.blobs), *digest);
                let found = blocking(move || blobs.get(&digest)).await?;
                match found.map_err(CommandError::Blob)? {
                    Some(_) => Ok(()),
                    None => Err(Refusal::BlobMissing { digest }.into()),
                }
            }
            Command::Erase { handle } => {
                let known = self.view(|state| {
                    state.sponsor(handle).is_some() || state.erased().contains(handle)
                });
                if known {
                    return Ok(());
                }
                let (keyring, handle) = (Arc::clone(&self.keyring), handle.clone());
                let key = handle.clone();
                let found = blocking(move || keyring.open(&key)).await?;
                match found.map_err(CommandError::Keyring)? {
                    Opened::Key(_) | Opened::Locked => Ok(()),
                    Opened::Erased => Err(Refusal::NothingSealed { handle }.into()),
                }
            }
            Command::BreakGlass(_)
            | Command::Approval(_)
            | Command::AddAdmin { .. }
            | Command::RemoveAdmin { .. }
            | Command::AddPep { .. }
            | Command::RemovePep { .. }
            | Command::AddSponsor { .. }
            | Command::SuspendSponsor { .. }
            | Command::ResumeSponsor { .. }
            | Command::LiftSuspension { .. }
            | Command::ProvisionSponsor { .. }
            | Command::ChangeSponsor { .. }
            | Command::RevokeSessions { .. }
            | Command::SetRisk { .. }
            | Command::NameDeputies { .. }
            | Command::AddGroup { .. }
            | Command::ChangeGroup { .. }
            | Command::ChangeMembers { .. }
            | Command::RemoveGroup { .. }
            | Command::LapseAgent { .. }
            | Command::TransferAgent { .. }
            | Command::OwnAgent { .. }
            | Command::ReviewAgent { .. }
            | Command::StopUpstream { .. }
            | Command::ResumeUpstream { .. }
            | Command::StopAll { .. }
            | Command::ResumeAll
            | Command::StartFor { .. }
            | Command::Delegate(_)
            | Command::RefreshToken { .. }
            | Command::AddAgent(_)
            | Command::SuspendAgent { .. }
            | Command::ResumeAgent { .. }
            | Command::RetireAgent { .. }
            | Command::RotateAgentKey { .. }
            | Command::StartInstance { .. }
            | Command::EndInstance { .. }
            | Command::ConfigureUpstream { .. }
            | Command::NodeStarted { .. }
            | Command::NodeStopped { .. }
            | Command::NodeDegraded { .. }
            | Command::AddTokenKey { .. }
            | Command::AddDirectoryToken { .. }
            | Command::RemoveDirectoryToken { .. }
            | Command::LogKey(_)
            | Command::ChangeWrappingKey { .. }
            | Command::ChangeVault(_)
            | Command::TokenKey(_) => Ok(()),
        }
    }

    /// Seals what somebody or something is called under a key of their own, or what an agent says
    /// under that of what it does in the day, and drafts the entry.
    async fn sealed(
        &self,
        actor: Actor,
        now: Time,
        sealing: Sealing,
    ) -> Result<Draft, CommandError> {
        let unprepared = |cause: String| CommandError::Unprepared { cause };
        let (group, plain) = match &sealing {
            Sealing::SponsorAdded(handle, person, _)
            | Sealing::SponsorChanged(handle, person, ..) => {
                (format!("sponsor/{handle}"), serde_json::to_vec(person))
            }
            Sealing::GroupAdded(handle, profile, _) | Sealing::GroupChanged(handle, profile, _) => {
                (format!("group/{handle}"), serde_json::to_vec(profile))
            }
            Sealing::BreakGlass { id, reason, .. } => {
                (format!("break-glass/{id}"), serde_json::to_vec(reason))
            }
            Sealing::Approval(sponsor, asked) => {
                let (requested, request) = &**asked;
                let group = seal::group_of(sponsor, &requested.agent, now);
                (group, serde_json::to_vec(request))
            }
            Sealing::InstanceStarted(body, authority) => (
                seal::group_of(&body.sponsor, &body.agent, now),
                serde_json::to_vec(authority),
            ),
        };
        let plain = plain.map_err(|error| unprepared(error.to_string()))?;
        let keyring = Arc::clone(&self.keyring);
        let erased = |key: &vocab::id::Handle| self.view(|state| state.erased().contains(key));
        let made = blocking({
            let (keyring, group) = (Arc::clone(&keyring), group.clone());
            move || keyring.group_key(&group)
        });
        let (mut key, mut group_key) = made.await?.map_err(CommandError::Keyring)?;
        if erased(&key) {
            // Its erasure is on record and was not finished: what it seals would be nothing.
            let again = blocking(move || {
                keyring.erase(&key)?;
                keyring.group_key(&group)
            });
            (key, group_key) = again.await?.map_err(CommandError::Keyring)?;
        }
        let sealed = seal::seal(&group_key, &*self.rng, &plain)
            .map_err(|error| unprepared(error.to_string()))?;
        let commit = sealed.commit;
        let event = match sealing {
            Sealing::InstanceStarted(body, _) => Event::InstanceStarted(InstanceStarted {
                handed_on: Some(SealedAuthority { key, commit }),
                ..*body
            }),
            Sealing::SponsorAdded(sponsor, _, signal) => Event::SponsorAdded(SponsorAdded {
                sponsor,
                key,
                commit,
                sponsorship: Sponsorship::Asserted,
                signal,
            }),
            Sealing::SponsorChanged(sponsor, _, changes, signal) => {
                Event::SponsorChanged(SponsorChanged {
                    sponsor,
                    commit,
                    changes,
                    signal,
                })
            }
            Sealing::GroupAdded(group, _, signal) => Event::GroupAdded(GroupAdded {
                group,
                key,
                commit,
                signal,
            }),
            Sealing::GroupChanged(group, _, signal) => Event::GroupChanged(GroupChanged {
                group,
                commit,
                signal,
            }),
            Sealing::Approval(_, asked) => Event::ApprovalRequested(ApprovalRequested {
                key,
                commit,
                ..asked.0
            }),
            Sealing::BreakGlass {
                id,
                agent,
                by,
                sets_aside,
                lasts_s,
                open_within_s,
                reason: _,
            } => Event::BreakGlassRequested(BreakGlassRequested {
                id,
                agent,
                by,
                sets_aside,
                lasts_s,
                open_within_s,
                key,
                commit,
            }),
        };
        let mut draft = event.draft(actor).map_err(CommandError::Draft)?;
        draft.sealed = Some(sealed.bytes);
        Ok(draft)
    }

    /// Appends, and folds the bytes that were written.
    async fn append(&self, drafts: Vec<Draft>) -> Result<Vec<RecordRef>, CommandError> {
        // From here on an entry may be durable. If this does not come to its end (a panic, or the
        // runtime going down), nobody knows what holds, and the alarm says so.
        let alarm = Alarm(Some(self));
        let receipts = match self.log.append(drafts).await {
            Ok(receipts) => receipts,
            Err(error) => {
                alarm.calm();
                return Err(CommandError::Ledger(error));
            }
        };
        if let Err(error) = self.fold(&receipts) {
            alarm.calm();
            return Err(CommandError::Failed(self.fail(Failure::Fold(error))));
        }
        alarm.calm();
        Ok(receipts.iter().map(RecordRef::from).collect())
    }

    fn fold(&self, receipts: &[Receipt]) -> Result<(), FoldError> {
        let reader = self.log.reader();
        let first = self.view(State::size);
        let end = receipts.last().map_or(first, |receipt| receipt.index + 1);
        // Read before the lock is taken: only this writer moves the size.
        let mut entries = Vec::new();
        for index in first..end {
            let entry =
                self.view(|state| fold::read(state, reader, Some(&*self.keyring), index))?;
            let receipt = receipts.iter().find(|receipt| receipt.index == index);
            if receipt.is_some_and(|receipt| receipt.leaf_hash != entry.leaf_hash) {
                return Err(FoldError {
                    index,
                    cause: FoldCause::Differs,
                });
            }
            entries.push(entry);
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for entry in entries {
            let (time, started) = (entry.time, started(&entry.event));
            fold::apply(&mut state, entry)?;
            if let Some(instance) = started.and_then(|id| state.instance(&id)) {
                instance.last_used.touch(time, instance.idle);
            }
        }
        self.generation.store(state.generation(), Ordering::Release);
        Ok(())
    }

    async fn publish(
        &self,
        writer: &mut Writer,
        records: &[RecordRef],
    ) -> Result<(), CommandError> {
        if writer.unpublished {
            self.log
                .publish()
                .await
                .map_err(|cause| CommandError::Unpublished {
                    records: records.to_vec(),
                    cause,
                })?;
            writer.unpublished = false;
        }
        Ok(())
    }

    /// Destroys the key whose erasure is on record.
    async fn finish_erasure(&self, subject: &Subject) -> Result<(), CommandError> {
        let Subject::Key(handle) = subject else {
            return Ok(());
        };
        let (keyring, handle) = (Arc::clone(&self.keyring), handle.clone());
        blocking(move || keyring.erase(&handle))
            .await?
            .map(drop)
            .map_err(|cause: KeyringError| CommandError::EraseUnfinished { cause })
    }

    fn fail(&self, failure: Failure) -> Arc<Failure> {
        Arc::clone(self.failure.get_or_init(|| Arc::new(failure)))
    }
}

fn in_words(actor: &Actor, events: &[Event]) -> Result<Vec<Draft>, CommandError> {
    let drafts = events.iter().map(|event| event.draft(actor.clone()));
    drafts
        .collect::<Result<_, _>>()
        .map_err(CommandError::Draft)
}

/// Runs what may block away from the threads that answer calls.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CommandError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| CommandError::Unprepared {
            cause: error.to_string(),
        })
}

fn started(event: &Event) -> Option<InstanceId> {
    match event {
        Event::InstanceStarted(body) => Some(body.instance.clone()),
        _ => None,
    }
}

/// Rings unless it is calmed.
struct Alarm<'a>(Option<&'a Control>);

impl Alarm<'_> {
    fn calm(mut self) {
        self.0 = None;
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(control) = self.0 {
            control.fail(Failure::Interrupted);
        }
    }
}
