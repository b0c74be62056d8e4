use std::path::Path;

use vocab::rng::SystemRng;

use super::*;
use crate::vault::Change;

fn vault(folder: &Path) -> Arc<Vault> {
    Arc::new(Vault::of(folder, folder))
}

fn header(value: &str) -> Grant {
    let template = HeaderTemplate::parse("Authorization", value, Path::new("/"));
    Grant {
        env: Vec::new(),
        headers: vec![template.unwrap()],
    }
}

async fn sent(account: &Account, named: Option<&str>) -> Result<String, String> {
    let named: Option<CredentialName> = named.map(|it| it.parse().unwrap());
    let credential = account.lease(named.as_ref(), None).await;
    let credential = credential.map_err(|error| error.to_string())?;
    let (_, value) = credential.headers().next().unwrap();
    Ok(value.to_str().unwrap().to_owned())
}

fn set(vault: &Vault, name: &str, value: &str) {
    let now = "2026-08-01T00:00:00Z".parse().unwrap();
    let value = Secret::new(value.to_owned());
    let by = Change {
        recorded: 0,
        now,
        rng: &SystemRng,
    };
    vault.set(&name.parse().unwrap(), &value, by).unwrap();
}

#[tokio::test]
async fn what_was_changed_is_leased_next_and_both_are_recognised() {
    let folder = tempfile::tempdir().unwrap();
    let vault = vault(folder.path());
    set(&vault, "github", "first-value");
    let account = Account::new(Arc::clone(&vault), header("Bearer {vault:github}"), []);
    assert_eq!(sent(&account, None).await.unwrap(), "Bearer first-value");
    set(&vault, "github", "second-value");
    assert_eq!(sent(&account, None).await.unwrap(), "Bearer second-value");
    for value in ["first-value", "second-value"] {
        assert!(
            account.echo(None).mask_text(value.as_bytes()).is_some(),
            "{value}"
        );
    }
    let by = Change {
        recorded: 0,
        now: "2026-08-01T00:00:00Z".parse().unwrap(),
        rng: &SystemRng,
    };
    vault.remove(&"github".parse().unwrap(), by).unwrap();
    let error = sent(&account, None).await.unwrap_err();
    assert!(
        error.contains("headers.authorization") && error.contains("`github`"),
        "{error}"
    );
}

#[tokio::test]
async fn a_named_credential_is_leased_by_name_and_no_other_stands_in() {
    let folder = tempfile::tempdir().unwrap();
    let vault = vault(folder.path());
    set(&vault, "read", "read-value");
    set(&vault, "write", "write-value");
    let write = ("write".parse().unwrap(), header("vault:write"));
    let account = Account::new(vault, header("vault:read"), [write]);
    assert_eq!(sent(&account, None).await.unwrap(), "read-value");
    assert_eq!(sent(&account, Some("write")).await.unwrap(), "write-value");
    assert!(
        sent(&account, Some("admin"))
            .await
            .unwrap_err()
            .contains("`admin`")
    );
}

#[tokio::test]
async fn a_fingerprint_changes_with_the_environment_and_shows_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let vault = vault(folder.path());
    let env = vec![("KEY".to_owned(), Source::Vault("k".parse().unwrap()))];
    let grant = Grant {
        env,
        headers: Vec::new(),
    };
    set(&vault, "k", "one-value");
    let account = Account::new(Arc::clone(&vault), grant, []);
    let one = account.lease(None, None).await.unwrap();
    let same = account.lease(None, None).await.unwrap();
    assert!(one.fingerprint() == same.fingerprint());
    set(&vault, "k", "other-value");
    let other = account.lease(None, None).await.unwrap();
    assert!(one.fingerprint() != other.fingerprint());
    assert_eq!(other.env().collect::<Vec<_>>(), [("KEY", "other-value")]);
    assert_eq!(format!("{:?}", one.fingerprint()), "Fingerprint");
    assert!(!format!("{account:?}").contains("-value"));
}

#[tokio::test]
async fn as_many_values_are_recognised_as_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let vault = vault(folder.path());
    let account = Account::new(Arc::clone(&vault), header("vault:k"), []);
    for at in 0..=KNOWN_MAX {
        set(&vault, "k", &format!("value-number-{at:03}"));
        sent(&account, None).await.unwrap();
    }
    let knows = |at: usize| {
        let text = format!("value-number-{at:03}");
        account.echo(None).mask_text(text.as_bytes()).is_some()
    };
    assert!(!knows(0) && knows(1) && knows(KNOWN_MAX));
}

#[tokio::test]
async fn plain_values_are_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let account = Account::new(vault(folder.path()), header("plain:production"), []);
    assert_eq!(sent(&account, None).await.unwrap(), "production");
    assert!(account.echo(None).is_empty());
}

/// One source that hangs must not keep all else from its disk.
#[tokio::test]
async fn a_pipe_in_place_of_a_secret_stops_the_call_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("token");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, mode).unwrap();
    let reference = format!("Bearer {{file:{}}}", pipe.display());
    let account = Account::new(vault(folder.path()), header(&reference), []);
    for _ in 0..600 {
        let error = sent(&account, None).await.unwrap_err();
        assert!(error.contains("is not a regular file"), "{error}");
    }
}
