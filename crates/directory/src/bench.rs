//! A register and what stands on it, on small storage, for tests.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ledger::note::Signer;
use ledger::{Actor, Header, Log, RecordError};
use register::{Command, Control, Done, NewAgent, NewKey, PublicJwk, Settings, Sever, Subject};
use serde_json::Value;
use store::{DataDir, Faults, FileBlobs, FileKeyring, FilesLog, LogOptions, WrappingKey};
use tempfile::TempDir;
use vocab::rng::RngError;
use vocab::{Clock, Digest, Handle, LogName, Rng, Time};

/// The second in which a [`Bench`] begins.
pub(crate) const NOW: u64 = 1_795_254_100;

#[derive(Debug)]
pub(crate) struct TestClock(AtomicU64);

impl TestClock {
    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Time {
        Time::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

/// Bytes that are the same in every run.
#[derive(Debug, Default)]
pub(crate) struct TestRng(AtomicU64);

impl Rng for TestRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), RngError> {
        for chunk in out.chunks_mut(32) {
            let count = self.0.fetch_add(1, Ordering::SeqCst);
            let digest = Digest::of(&count.to_be_bytes());
            for (to, from) in chunk.iter_mut().zip(digest.as_bytes()) {
                *to = *from;
            }
        }
        Ok(())
    }
}

/// Keeps in mind which cuts were asked to be proven.
#[derive(Debug, Default)]
pub(crate) struct Cuts(Mutex<Vec<&'static str>>);

impl Cuts {
    /// Those since it was last asked.
    pub(crate) fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Sever for Cuts {
    fn sever<'a>(
        &'a self,
        cause: &'static str,
        _: Option<u64>,
    ) -> Pin<Box<dyn Future<Output = Result<(), RecordError>> + Send + 'a>> {
        self.0.lock().unwrap().push(cause);
        Box::pin(async { Ok(()) })
    }
}

pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) struct Bench {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) control: Arc<Control>,
    pub(crate) cuts: Arc<Cuts>,
    pub(crate) faults: Faults,
    pub(crate) log: Arc<FilesLog>,
    _folder: TempDir,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(NOW)));
        let data = DataDir::open(folder.path()).unwrap();
        let faults = Faults::default();
        let signer = Signer::from_seed("acme.example/control", &[7; 32]).unwrap();
        let header = Header {
            trust_domain: "acme.example".parse().unwrap(),
            node: "n-1".to_owned(),
            epoch: 1,
            key: signer.verifier().key_name(),
        };
        let options = LogOptions {
            name: LogName::Control,
            signers: signer.into(),
            header,
            clock: clock.clone(),
            faults: faults.clone(),
            publish_every: None,
        };
        let log = Arc::new(FilesLog::open(&data, options).unwrap());
        let wrapping = WrappingKey::from_bytes([9; 32]);
        let control = Control::open(
            log.clone(),
            Arc::new(FileBlobs::open(folder.path())),
            Arc::new(FileKeyring::open(folder.path(), Some(wrapping)).unwrap()),
            clock.clone(),
            Arc::new(TestRng::default()),
            Settings::default(),
        )
        .unwrap();
        let cuts = Arc::new(Cuts::default());
        control.cuts_by(cuts.clone());
        Self {
            clock,
            control,
            cuts,
            faults,
            log,
            _folder: folder,
        }
    }

    pub(crate) fn execute(&self, command: Command) -> Done {
        let done = self.control.execute(Actor::node("n-1"), command);
        wait(done).unwrap()
    }

    /// A sponsor that an administrator added.
    pub(crate) fn sponsor(&self, id: &str) -> Handle {
        let done = self.execute(Command::AddSponsor {
            id: id.parse().unwrap(),
            name: "Somebody".parse().unwrap(),
            email: format!("{id}@acme.example").parse().unwrap(),
        });
        match done {
            Done::Changed {
                subject: Subject::Sponsor(handle),
                ..
            } => handle,
            other => panic!("{other:?}"),
        }
    }

    /// A sponsor whom the directory added.
    pub(crate) fn person(&self, id: &str, external_id: &str) -> Handle {
        let email = format!("{id}@acme.example").parse().unwrap();
        let person = register::Person {
            external_id: Some(external_id.parse().unwrap()),
            ..register::Person::new(id.parse().unwrap(), "Somebody".parse().unwrap(), email)
        };
        let done = self.execute(Command::ProvisionSponsor {
            person: Box::new(person),
            signal: register::entry::Signal {
                source: "scim".parse().unwrap(),
                event: "provisioned".parse().unwrap(),
                received_at: self.clock.now(),
                happened_at: None,
                id: None,
            },
        });
        match done {
            Done::Changed {
                subject: Subject::Sponsor(handle),
                ..
            } => handle,
            other => panic!("{other:?}"),
        }
    }

    /// An agent of a sponsor's.
    pub(crate) fn agent(&self, id: &str, sponsor: &str) {
        let jwk =
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let jwk: Value = serde_json::from_str(jwk).unwrap();
        self.execute(Command::AddAgent(Box::new(NewAgent {
            id: id.parse().unwrap(),
            sponsor: sponsor.parse().unwrap(),
            purposes: vec!["triage".parse().unwrap()],
            allow: None,
            max_instances: None,
            allow_bearer: false,
            max_lifetime: None,
            idle: None,
            limits: register::CallLimits::default(),
            people: None,
            max_depth: None,
            max_children: None,
            owners: register::NewOwners::default(),
            key: Some(NewKey {
                kid: format!("key-of-{id}").parse().unwrap(),
                jwk: PublicJwk::parse(&jwk).unwrap(),
                not_before: None,
                expires_at: None,
            }),
            software: "".parse().unwrap(),
            model: "".parse().unwrap(),
            environment: "".parse().unwrap(),
        })));
    }

    /// The kinds and signals of the entries from `from` on.
    pub(crate) fn entries(&self, from: u64) -> Vec<String> {
        let reader = self.log.reader();
        (from..reader.size())
            .map(|index| {
                let bytes = reader.entry(index).unwrap();
                let entry: Value = serde_json::from_slice(&bytes).unwrap();
                let kind = entry["kind"].as_str().unwrap();
                let signal = &entry["body"]["signal"];
                match (signal["source"].as_str(), signal["event"].as_str()) {
                    (Some(source), Some(event)) => format!("{kind} {source}:{event}"),
                    _ => kind.to_owned(),
                }
            })
            .collect()
    }

    pub(crate) fn size(&self) -> u64 {
        self.log.reader().size()
    }
}
