use std::collections::VecDeque;
use std::path::Path;

use tokio::sync::Semaphore;

use super::*;
use crate::bearer::{Asking, Revoking, TokenEndpoint, TokenError};
use crate::{Account, Grant, LeaseError, Source};

/// An authorization server. Each token that it gives has the instance and a number in it.
#[derive(Default)]
struct Giver {
    asked: Mutex<Vec<Option<String>>>,
    /// Answers wait for a place here, if there is one.
    gate: Option<Semaphore>,
    beside: Mutex<&'static str>,
    /// What is answered to revocations, `Ok(true)` when there is nothing left of it.
    revoking: Mutex<VecDeque<Result<bool, RevokeError>>>,
    revoked: Mutex<Vec<String>>,
}

impl fmt::Debug for Giver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Giver")
    }
}

impl TokenEndpoint for Giver {
    fn ask<'a>(&'a self, whom: Option<&'a InstanceId>, _: &'a Secret<String>) -> Asking<'a> {
        Box::pin(async move {
            let whom = whom.map(ToString::to_string);
            let number = {
                let mut asked = self.asked.lock().unwrap();
                asked.push(whom.clone());
                asked.len()
            };
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            let whom = whom.unwrap_or_else(|| "gateway".to_owned());
            let beside = *self.beside.lock().unwrap();
            let answer = format!(
                r#"{{"access_token":"token-{whom}-{number}","token_type":"Bearer"{beside}}}"#
            );
            Ok(Secret::new(answer.into_bytes()))
        })
    }

    fn scope(&self) -> Option<&str> {
        Some("read write")
    }

    fn revoke<'a>(&'a self, token: &'a Secret<String>, _: &'a Secret<String>) -> Revoking<'a> {
        Box::pin(async move {
            self.revoked.lock().unwrap().push(token.expose().clone());
            self.revoking
                .lock()
                .unwrap()
                .pop_front()
                .unwrap_or(Ok(true))
        })
    }
}

const GOOD: &str =
    r#","expires_in":600,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token""#;

fn account(giver: &Arc<Giver>) -> Arc<Account> {
    let nowhere = Path::new("/nonexistent");
    let vault = Arc::new(crate::Vault::of(nowhere, nowhere));
    let secret = Source::Plain("the-clients-secret".to_owned());
    let account = Account::new(vault, Grant::default(), []);
    Arc::new(account.with_tokens_of_each(secret, Arc::clone(giver) as _))
}

fn fixture() -> (Arc<Giver>, Arc<Account>) {
    let giver = Arc::new(Giver::default());
    *giver.beside.lock().unwrap() = GOOD;
    let account = account(&giver);
    (giver, account)
}

fn instance(letter: char) -> InstanceId {
    let id: String = std::iter::repeat_n(letter, 26).collect();
    format!("i-{id}").parse().unwrap()
}

async fn sent(account: &Account, whom: Option<&InstanceId>) -> Result<String, LeaseError> {
    let lessee = whom.and_then(|it| account.lessee(it));
    let credential = account.lease(None, lessee.as_ref()).await?;
    let (_, value) = credential.headers().next().unwrap();
    Ok(value.to_str().unwrap().to_owned())
}

async fn back(account: &Account) -> Vec<Option<(GivenBack, bool)>> {
    let mut all = Vec::new();
    for ending in account.end_unless(|_| false) {
        let mut became = ending.carry_out(|_| ()).await;
        assert!(became.len() < 2);
        all.push(
            became
                .pop()
                .map(|(became, good_for)| (became, good_for.is_some())),
        );
    }
    all
}

#[tokio::test]
async fn each_instance_has_a_token_of_its_own_and_the_gateway_the_clients() {
    let (giver, account) = fixture();
    let (a, b) = (instance('a'), instance('b'));
    for _ in 0..2 {
        let of_a = sent(&account, Some(&a)).await.unwrap();
        assert_eq!(of_a, format!("Bearer token-{a}-1"));
        let of_b = sent(&account, Some(&b)).await.unwrap();
        assert_eq!(of_b, format!("Bearer token-{b}-2"));
        let own = sent(&account, None).await.unwrap();
        assert_eq!(own, "Bearer token-gateway-3");
    }
    assert_eq!(giver.asked.lock().unwrap().len(), 3);
    let lessee = account.lessee(&a);
    let of_a = format!("token-{a}-1");
    let recognises = |text: &str| {
        let echo = account.echo(lessee.as_ref());
        echo.mask_text(text.as_bytes()).is_some()
    };
    assert!(recognises(&of_a) && recognises("the-clients-secret"));
}

#[tokio::test]
async fn what_one_instance_had_is_recognised_in_what_comes_back_to_another() {
    let (_giver, account) = fixture();
    let (a, b) = (instance('a'), instance('b'));
    for whom in [Some(&a), Some(&b), None] {
        sent(&account, whom).await.unwrap();
    }
    let all = account.echo(None);
    for token in [
        format!("token-{a}-1"),
        format!("token-{b}-2"),
        "token-gateway-3".to_owned(),
    ] {
        assert!(all.mask_text(token.as_bytes()).is_some(), "{token}");
    }
}

async fn all_back(account: &Account) -> Vec<GivenBack> {
    let mut all = Vec::new();
    for ending in account.end_unless(|_| false) {
        let became = ending.carry_out(|_| ()).await;
        all.extend(became.into_iter().map(|(became, _)| became));
    }
    all
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_or_refused_while_it_was_good_is_given_back_too() {
    let (giver, account) = fixture();
    *giver.beside.lock().unwrap() = r#","expires_in":86400,"issued_token_type":"urn:ietf:params:oauth:token-type:access_token""#;
    let whom = instance('a');
    let token = |number: u32| format!("token-{whom}-{number}");
    let fails = || RevokeError {
        why: "503".to_owned(),
        again: true,
    };
    sent(&account, Some(&whom)).await.unwrap();
    // It is used for an hour, and is good for a day: the next one's turn gives it back.
    tokio::time::advance(Duration::from_secs(3_601)).await;
    giver.revoking.lock().unwrap().push_back(Err(fails()));
    sent(&account, Some(&whom)).await.unwrap();
    assert_eq!(*giver.revoked.lock().unwrap(), [token(1)]);
    // The upstream says that it does not take it, and has it.
    let lessee = account.lessee(&whom);
    let credential = account.lease(None, lessee.as_ref()).await.unwrap();
    credential.refused();
    giver.revoked.lock().unwrap().clear();
    assert_eq!(
        all_back(&account).await,
        [GivenBack::Revoked, GivenBack::Revoked]
    );
    assert_eq!(*giver.revoked.lock().unwrap(), [token(1), token(2)]);
    sent(&account, Some(&whom)).await.unwrap();
    tokio::time::advance(Duration::from_secs(3_601)).await;
    giver
        .revoking
        .lock()
        .unwrap()
        .extend([Err(fails()), Ok(false), Ok(true)]);
    sent(&account, Some(&whom)).await.unwrap();
    assert_eq!(
        all_back(&account).await,
        [GivenBack::Irrevocable, GivenBack::Revoked]
    );
}

#[tokio::test]
async fn a_token_for_more_or_of_another_kind_is_not_used() {
    let (giver, account) = fixture();
    let whom = instance('a');
    let typed = |token_type: &str| {
        format!(r#","issued_token_type":"urn:ietf:params:oauth:token-type:{token_type}""#)
    };
    let good = typed("access_token");
    let cases = [
        (good.clone(), None),
        (typed("jwt"), None),
        (format!(r#"{good},"scope":"read""#), None),
        (format!(r#"{good},"scope":"write read""#), None),
        (format!(r#"{good},"scope":"""#), None),
        (
            format!(r#"{good},"scope":"read admin""#),
            Some(TokenError::Scope),
        ),
        (
            format!(r#"{good},"scope":"readwrite""#),
            Some(TokenError::Scope),
        ),
        (String::new(), Some(TokenError::Issued)),
        (typed("refresh_token"), Some(TokenError::Issued)),
        (typed("id_token"), Some(TokenError::Issued)),
        (
            r#","issued_token_type":7"#.to_owned(),
            Some(TokenError::Malformed),
        ),
        (
            format!(r#"{good},"scope":["read"]"#),
            Some(TokenError::Malformed),
        ),
    ];
    for (beside, expected) in cases {
        *giver.beside.lock().unwrap() = beside.clone().leak();
        let had = sent(&account, Some(&whom)).await;
        match (had, expected) {
            (Ok(_), None) => {}
            (Err(LeaseError::Token(error)), Some(expected)) => assert_eq!(error, expected),
            (had, _) => panic!("{beside}: {had:?}"),
        }
        back(&account).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_over_has_nothing_and_gives_back_what_it_had() {
    let (giver, account) = fixture();
    let (a, b) = (instance('a'), instance('b'));
    let lessee = account.lessee(&a).unwrap();
    sent(&account, Some(&a)).await.unwrap();
    sent(&account, Some(&b)).await.unwrap();
    let over = account.end_unless(|it| *it == b);
    assert_eq!(over.len(), 1);
    assert_eq!(over[0].instance(), Some(&a));
    // Whoever is at it still gets nothing, before anything was given back.
    let late = account.lease(None, Some(&lessee)).await.map(drop);
    assert!(matches!(late, Err(LeaseError::Token(TokenError::Ended))));
    let later = RevokeError {
        why: "503".to_owned(),
        again: true,
    };
    let never = RevokeError {
        why: "400".to_owned(),
        again: false,
    };
    giver
        .revoking
        .lock()
        .unwrap()
        .extend([Err(later.clone()), Err(later.clone()), Ok(true)]);
    let told = Mutex::new(0);
    let became = over[0].carry_out(|_| *told.lock().unwrap() += 1).await;
    assert_eq!(became[0].0, GivenBack::Revoked);
    assert_eq!(*told.lock().unwrap(), 2);
    let of_a = format!("token-{a}-1");
    assert_eq!(*giver.revoked.lock().unwrap(), [&*of_a, &*of_a, &*of_a]);
    // What comes back late is masked all the same.
    let echo = account.echo(Some(&lessee));
    assert!(echo.mask_text(of_a.as_bytes()).is_some());
    // The other is not touched; and each of these ends it.
    assert_eq!(
        sent(&account, Some(&b)).await.unwrap(),
        format!("Bearer token-{b}-2")
    );
    for (answers, expected) in [
        (vec![Ok(false)], GivenBack::Irrevocable),
        (vec![Err(never)], GivenBack::Failed),
        (vec![Err(later); 6], GivenBack::Failed),
    ] {
        sent(&account, Some(&b)).await.unwrap();
        let attempts = answers.len();
        giver.revoked.lock().unwrap().clear();
        giver.revoking.lock().unwrap().extend(answers);
        assert_eq!(back(&account).await, [Some((expected, true))]);
        assert_eq!(giver.revoked.lock().unwrap().len(), attempts);
    }
    // Who never had one has nothing to give back, nor has one whose time is over.
    account.lessee(&a);
    assert_eq!(back(&account).await, [None]);
    sent(&account, Some(&a)).await.unwrap();
    tokio::time::advance(Duration::from_secs(601)).await;
    assert_eq!(back(&account).await, [None]);
}

#[tokio::test]
async fn a_token_that_is_on_its_way_when_its_instance_is_cut_is_given_back_too() {
    let giver = Arc::new(Giver {
        gate: Some(Semaphore::new(0)),
        ..Giver::default()
    });
    *giver.beside.lock().unwrap() = GOOD;
    let (account, whom) = (account(&giver), instance('a'));
    let caller = tokio::spawn({
        let (account, whom) = (Arc::clone(&account), whom.clone());
        async move { sent(&account, Some(&whom)).await.map(drop) }
    });
    while giver.asked.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let over = account.end_unless(|_| false);
    // The call is cut, too: nobody waits for the answer.
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    giver.gate.as_ref().unwrap().add_permits(1);
    let became = over[0].carry_out(|_| ()).await;
    assert_eq!(became[0].0, GivenBack::Revoked);
    assert_eq!(*giver.revoked.lock().unwrap(), [format!("token-{whom}-1")]);
}
