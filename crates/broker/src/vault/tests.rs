use std::os::unix::fs::PermissionsExt as _;

use store::Fault;
use tempfile::TempDir;
use vocab::rng::SystemRng;

use super::*;

struct Fixture {
    folder: TempDir,
    faults: Faults,
    vault: Vault,
}

fn at(folder: &Path, faults: &Faults) -> Vault {
    Vault::of(&folder.join("data"), &folder.join("keys")).with_faults(faults.clone())
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    for name in ["data", "keys"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let faults = Faults::default();
    let vault = at(folder.path(), &faults);
    Fixture {
        folder,
        faults,
        vault,
    }
}

fn named(name: &str) -> SecretName {
    name.parse().unwrap()
}

fn now() -> Time {
    "2026-08-01T00:00:00Z".parse().unwrap()
}

fn by(recorded: u64) -> Change<'static> {
    Change {
        recorded,
        now: now(),
        rng: &SystemRng,
    }
}

impl Fixture {
    fn set(&self, name: &str, value: &str) -> Result<Changed, VaultError> {
        let value = Secret::new(value.to_owned());
        self.vault.set(&named(name), &value, by(0))
    }

    fn get(&self, name: &str) -> Result<String, VaultError> {
        let value = self.vault.get(&named(name))?;
        Ok(value.expose().clone())
    }

    fn remove(&self, name: &str) -> Result<Changed, VaultError> {
        self.vault.remove(&named(name), by(0))
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("data/vault")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("keys/vault.key")
    }
}

#[test]
fn what_is_set_is_there_until_it_is_removed() {
    let it = fixture();
    assert!(matches!(it.get("a"), Err(VaultError::Absent { .. })));
    assert!(it.vault.list().unwrap().is_empty());
    assert!(!it.file().exists() && !it.key().exists());
    let first = it.set("a", "one\n").unwrap();
    assert!(!first.was_there);
    assert!(
        !it.set("b", "-----BEGIN-----\nx\n-----END-----\r\n\n")
            .unwrap()
            .was_there
    );
    let second = it.set("a", "two").unwrap();
    assert!(second.was_there && second.handle == first.handle);
    assert_eq!((second.generation, it.vault.generation().unwrap()), (3, 3));
    assert_eq!(it.get("a").unwrap(), "two");
    assert_eq!(it.get("b").unwrap(), "-----BEGIN-----\nx\n-----END-----");
    let names: Vec<String> = it
        .vault
        .list()
        .unwrap()
        .iter()
        .map(|it| it.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b"]);
    it.remove("a").unwrap();
    assert!(matches!(it.remove("a"), Err(VaultError::Absent { .. })));
    assert!(matches!(it.get("a"), Err(VaultError::Absent { .. })));
    // Another process sees the same.
    let other = at(it.folder.path(), &Faults::default());
    assert_eq!(
        other.get(&"b".parse().unwrap()).unwrap().expose(),
        &it.get("b").unwrap()
    );
}

#[test]
fn neither_names_nor_values_show_and_only_the_owner_reads() {
    let it = fixture();
    it.set("github-token", "distinctive-value").unwrap();
    let file = std::fs::read(it.file()).unwrap();
    for text in ["github", "distinctive"] {
        assert!(memchr::memmem::find(&file, text.as_bytes()).is_none());
    }
    for path in [it.file(), it.key()] {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    // Sizes tell little: one more byte makes no difference.
    it.set("github-token", "distinctive-value2").unwrap();
    assert_eq!(std::fs::read(it.file()).unwrap().len(), file.len());
    assert!(!format!("{:?}", it.vault).contains("distinctive"));
}

#[test]
fn a_vault_that_was_changed_swapped_or_has_another_key_does_not_open() {
    let it = fixture();
    it.set("a", "value-a").unwrap();
    let good = std::fs::read(it.file()).unwrap();
    for at in 0..good.len() {
        // All of the head, and some of the rest.
        if at > 64 && at % 97 != 0 && at + 1 != good.len() {
            continue;
        }
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(it.file(), &bad).unwrap();
        assert!(it.get("a").is_err(), "{at}");
        // It is not written over either.
        assert!(it.set("b", "value-b").is_err(), "{at}");
        assert_eq!(std::fs::read(it.file()).unwrap(), bad);
    }
    for length in [0, 1, 24, 25, 40, good.len() - 1] {
        std::fs::write(it.file(), &good[..length]).unwrap();
        assert!(it.get("a").is_err(), "{length}");
    }
    std::fs::write(it.file(), &good).unwrap();
    assert_eq!(it.get("a").unwrap(), "value-a");
    // Another vault's file, and another vault's key.
    let other = fixture();
    other.set("a", "value-of-another").unwrap();
    std::fs::copy(other.file(), it.file()).unwrap();
    assert!(matches!(it.get("a"), Err(VaultError::Sealed { .. })));
    std::fs::copy(other.key(), it.key()).unwrap();
    assert_eq!(it.get("a").unwrap(), "value-of-another");
}

#[test]
fn a_vault_without_its_key_is_not_begun_anew() {
    let it = fixture();
    it.set("a", "value-a").unwrap();
    let key = std::fs::read(it.key()).unwrap();
    std::fs::remove_file(it.key()).unwrap();
    assert!(matches!(it.get("a"), Err(VaultError::NoKey { .. })));
    assert!(matches!(
        it.set("b", "value-b"),
        Err(VaultError::NoKey { .. })
    ));
    std::fs::write(it.key(), "not a key").unwrap();
    assert!(matches!(it.get("a"), Err(VaultError::BadKey { .. })));
    assert!(matches!(it.remove("a"), Err(VaultError::BadKey { .. })));
    std::fs::write(it.key(), key).unwrap();
    assert_eq!(it.get("a").unwrap(), "value-a");
}

#[test]
fn a_write_that_fails_loses_nothing() {
    for fault in Fault::FAILURES {
        for step in 0..12 {
            let it = fixture();
            it.set("a", "before").unwrap();
            it.faults.set_from(step, fault);
            let changed = it.set("a", "after");
            it.faults.set(Fault::None);
            let value = it.get("a").unwrap();
            assert!(value == "before" || value == "after", "{fault:?} {step}");
            assert!(changed.is_err() || value == "after", "{fault:?} {step}");
            it.set("b", "and on").unwrap();
            assert_eq!(it.get("a").unwrap(), value);
        }
        // The very first one makes the key too.
        for step in 0..12 {
            let it = fixture();
            it.faults.set_from(step, fault);
            let first = it.set("a", "first");
            it.faults.set(Fault::None);
            assert!(
                first.is_ok() == it.get("a").is_ok() || first.is_err(),
                "{fault:?} {step}"
            );
            it.set("a", "again").unwrap();
            assert_eq!(it.get("a").unwrap(), "again", "{fault:?} {step}");
        }
    }
}

#[test]
fn it_holds_so_much_and_no_more() {
    let it = fixture();
    assert!(matches!(it.set("a", ""), Err(VaultError::Value)));
    assert!(matches!(it.set("a", "\n"), Err(VaultError::Value)));
    assert!(matches!(it.set("a", "x\0"), Err(VaultError::Value)));
    let longest = "\u{1}".repeat(SECRET_BYTES_MAX);
    assert!(matches!(
        it.set("a", &format!("{longest}x")),
        Err(VaultError::Value)
    ));
    it.set("longest", &longest).unwrap();
    assert_eq!(it.get("longest").unwrap(), longest);
    let many = SECRETS_MAX - 1;
    it.holding(many, "x");
    it.set("the-last", "x").unwrap();
    assert!(matches!(it.set("one-more", "x"), Err(VaultError::Full)));
    assert!(it.set("the-last", "y").unwrap().was_there);
    it.holding(
        VALUES_BYTES_MAX / SECRET_BYTES_MAX - 1,
        &"x".repeat(SECRET_BYTES_MAX),
    );
    it.set("the-last", &"y".repeat(SECRET_BYTES_MAX)).unwrap();
    assert!(matches!(it.set("one-more", "x"), Err(VaultError::Full)));
}

impl Fixture {
    fn holding(&self, count: usize, value: &str) {
        let set_at = "2026-08-01T00:00:00Z".parse().unwrap();
        let kept = |at: usize| {
            let value = value.to_owned();
            let id = Handle::random("v", &SystemRng).unwrap();
            (
                format!("s{at}").parse().unwrap(),
                Kept { id, value, set_at },
            )
        };
        let contents = Contents {
            generation: 0,
            secrets: (0..count).map(kept).collect(),
        };
        self.vault.write(contents, &SystemRng).unwrap();
    }
}

/// An old file in place of the present one brings back what was replaced because it leaked.
#[test]
fn a_vault_that_was_set_back_is_not_changed_until_somebody_accepts_it() {
    let old = |it: &Fixture, file: &[u8]| std::fs::write(it.file(), file).unwrap();
    let gone = |it: &Fixture, _: &[u8]| std::fs::remove_file(it.file()).unwrap();
    for set_back in [&old as &dyn Fn(&Fixture, &[u8]), &gone] {
        let it = fixture();
        it.set("a", "leaked").unwrap();
        let file = std::fs::read(it.file()).unwrap();
        it.set("a", "replaced").unwrap();
        let newest = std::fs::read(it.file()).unwrap();
        let recorded = it.set("b", "another").unwrap().generation;
        assert!(matches!(
            it.vault.accept(recorded, &SystemRng),
            Err(VaultError::NotSetBack)
        ));
        set_back(&it, &file);
        let before = it.vault.generation().unwrap();
        assert!(before < recorded);
        let value = Secret::new("new".to_owned());
        for _ in 0..=recorded {
            let set = it.vault.set(&named("a"), &value, by(recorded));
            assert!(matches!(set, Err(VaultError::SetBack { .. })), "{set:?}");
            let removed = it.vault.remove(&named("a"), by(recorded));
            assert!(
                matches!(removed, Err(VaultError::SetBack { .. })),
                "{removed:?}"
            );
        }
        assert_eq!(it.vault.generation().unwrap(), before);
        // The last but one is an old one, too.
        std::fs::write(it.file(), newest).unwrap();
        assert!(it.vault.set(&named("a"), &value, by(recorded)).is_err());
        let accepted = it.vault.accept(recorded, &SystemRng).unwrap();
        assert_eq!(accepted, recorded + 1);
        assert_eq!(it.get("a").unwrap(), "replaced");
        let set = it.vault.set(&named("a"), &value, by(accepted)).unwrap();
        assert_eq!(set.generation, accepted + 1);
    }
}

#[test]
fn what_is_held_open_is_of_the_vault_and_the_key_that_are_there() {
    let Fixture {
        folder,
        faults,
        vault,
    } = fixture();
    let data = folder.path().join("data/vault");
    let key = folder.path().join("keys/vault.key");
    let secret = |value: &str| Secret::new(value.to_owned());
    let value = |name: &str| vault.get(&named(name)).map(|it| it.expose().clone());
    vault.set(&named("a"), &secret("first"), by(0)).unwrap();
    assert!(!vault.holds(&named("a")));
    assert_eq!(value("a").unwrap(), "first");
    assert!(vault.holds(&named("a")) && !vault.holds(&named("b")));
    // By whoever it is changed.
    let other = at(folder.path(), &faults);
    other.set(&named("a"), &secret("other"), by(0)).unwrap();
    assert!(!vault.holds(&named("a")));
    assert_eq!(value("a").unwrap(), "other");
    let old = std::fs::read(&data).unwrap();
    other.set(&named("a"), &secret("third"), by(0)).unwrap();
    assert_eq!(value("a").unwrap(), "third");
    // An old file in its place is an old value, as if it were read.
    std::fs::write(&data, &old).unwrap();
    assert_eq!(value("a").unwrap(), "other");
    // Nothing is given without the key, nor without the vault.
    let kept = std::fs::read(&key).unwrap();
    std::fs::remove_file(&key).unwrap();
    assert!(!vault.holds(&named("a")));
    assert!(matches!(value("a"), Err(VaultError::NoKey { .. })));
    std::fs::write(&key, kept).unwrap();
    assert_eq!(value("a").unwrap(), "other");
    std::fs::remove_file(&data).unwrap();
    assert!(matches!(value("a"), Err(VaultError::Absent { .. })));
}
