use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Account, Baos, Grant, HeaderTemplate, Vault};

type Answers = Box<dyn FnMut(&str, &str, &Value) -> (u16, Value) + Send>;

/// What answers as the documentation of the API says; it is no OpenBao. Paths that were asked for, with
/// the token, and what was sent.
struct Documented {
    asked: Mutex<Vec<(String, String, Value)>>,
    answers: Mutex<Answers>,
}

impl fmt::Debug for Documented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Documented")
    }
}

impl BaoServer for Documented {
    fn send<'a>(&'a self, request: BaoRequest<'a>) -> BaoAnswering<'a> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let token = request.token.map(|it| it.expose().clone());
            let token = token.unwrap_or_default();
            let body = request
                .body
                .map(|it| serde_json::from_str(it.expose()).unwrap());
            let body = body.unwrap_or_default();
            let (status, answer) = self.answers.lock().unwrap()(request.path, &token, &body);
            let asked = (request.path.to_owned(), token, body);
            self.asked.lock().unwrap().push(asked);
            Ok((status, Secret::new(answer.to_string().into_bytes())))
        })
    }
}

impl Documented {
    fn new(answers: impl FnMut(&str, &str, &Value) -> (u16, Value) + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            asked: Mutex::default(),
            answers: Mutex::new(Box::new(answers)),
        })
    }

    fn answers(&self, answers: impl FnMut(&str, &str, &Value) -> (u16, Value) + Send + 'static) {
        *self.answers.lock().unwrap() = Box::new(answers);
    }

    fn count(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(it, ..)| it == path).count()
    }

    fn bao(self: &Arc<Self>, auth: BaoAuth) -> Arc<Bao> {
        Arc::new(Bao::new(Arc::clone(self) as _, auth))
    }
}

fn reads() -> Arc<Reads> {
    let nowhere = Path::new("/nonexistent");
    Arc::new(Reads::new(Arc::new(Vault::of(nowhere, nowhere))))
}

fn token() -> BaoAuth {
    BaoAuth::Token(Source::Plain("root-token".to_owned()))
}

fn approle() -> BaoAuth {
    BaoAuth::AppRole {
        mount: "approle".to_owned(),
        role_id: "role".to_owned(),
        secret_id: Source::Plain("secret-id".to_owned()),
    }
}

fn lease(number: usize, seconds: u64, renewable: bool) -> (u16, Value) {
    (
        200,
        json!({"lease_id": format!("database/creds/reader/{number}"), "renewable": renewable,
               "lease_duration": seconds,
               "data": {"username": format!("u-{number}"), "password": format!("p-{number}")}}),
    )
}

async fn field(slot: &Arc<Slot>, name: &str) -> Result<String, BaoError> {
    let leased = slot.read(&reads()).await?;
    Ok(leased.field(name)?.expose().clone())
}

fn stored(value: &str) -> Value {
    json!({"lease_id": "", "renewable": false, "lease_duration": 0,
           "data": {"data": {"key": value, "number": 7},
                    "metadata": {"version": 3, "created_time": "2026-11-22T08:00:00Z"}}})
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_is_read_in_both_versions_and_anew_after_a_minute() {
    let server = Documented::new(|path, _, _| match path {
        "secret/data/github" => (200, stored("one")),
        "kv/github" => (
            200,
            json!({"lease_id": "", "lease_duration": 2_764_800, "data": {"key": "two"}}),
        ),
        _ => (404, json!({"errors": []})),
    });
    let bao = server.bao(token());
    let slot = |path: &str| Arc::new(Slot::new(Arc::clone(&bao), path.to_owned()));
    let (two, one) = (slot("secret/data/github"), slot("kv/github"));
    for _ in 0..3 {
        assert_eq!(field(&two, "key").await.unwrap(), "one");
        assert_eq!(field(&one, "key").await.unwrap(), "two");
    }
    assert_eq!(server.count("secret/data/github"), 1);
    assert_eq!(
        field(&two, "number").await,
        Err(BaoError::NoField("number".to_owned()))
    );
    assert_eq!(
        field(&two, "data").await,
        Err(BaoError::NoField("data".to_owned()))
    );
    assert_eq!(
        field(&slot("secret/data/none"), "key").await,
        Err(BaoError::Absent)
    );
    server.answers(|_, _, _| (200, stored("changed")));
    sleep(Duration::from_secs(61)).await;
    assert_eq!(field(&two, "key").await.unwrap(), "changed");
    // Nothing of what is stored is given back.
    assert!(two.end().await.is_none());
    assert_eq!(field(&two, "key").await.unwrap_err(), BaoError::Ended);
}

#[tokio::test]
async fn each_refusal_says_what_to_do_and_nothing_of_the_answer() {
    let server = Documented::new(|_, _, _| (200, Value::Null));
    let bao = server.bao(token());
    for (status, expected, says) in [
        (403, BaoError::Denied, "policy"),
        (404, BaoError::Absent, "MOUNT/data/NAME"),
        (429, BaoError::Often, "quota"),
        (503, BaoError::Sealed, "unseal"),
        (307, BaoError::Elsewhere(307), "active node"),
        (473, BaoError::Elsewhere(473), "active node"),
        (400, BaoError::Status(400), "400"),
        (500, BaoError::Status(500), "500"),
    ] {
        server.answers(move |_, _, _| (status, json!({"errors": ["s3cr3t"]})));
        let slot = Arc::new(Slot::new(Arc::clone(&bao), "secret/data/a".to_owned()));
        let error = field(&slot, "key").await.unwrap_err();
        assert_eq!(error, expected);
        let told = error.to_string();
        assert!(told.contains(says) && !told.contains("s3cr3t"), "{told}");
    }
    for answer in [
        json!("s3cr3t"),
        json!({"data": null}),
        json!({"data": ["s3cr3t"]}),
        json!({"lease_id": 7, "data": {}}),
        json!({"lease_duration": -1, "data": {}}),
    ] {
        server.answers(move |_, _, _| (200, answer.clone()));
        let slot = Arc::new(Slot::new(Arc::clone(&bao), "secret/data/a".to_owned()));
        assert_eq!(field(&slot, "key").await.unwrap_err(), BaoError::Malformed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_is_made_once_renewed_after_two_thirds_and_made_again_when_it_is_good_no_more() {
    let logins = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&logins);
    let server = Documented::new(move |path, token, body| match path {
        "auth/approle/login" => {
            assert_eq!(*body, json!({"role_id": "role", "secret_id": "secret-id"}));
            assert_eq!(token, "");
            let number = counted.fetch_add(1, Ordering::SeqCst) + 1;
            (
                200,
                json!({"auth": {"client_token": format!("t-{number}"), "lease_duration": 900,
                                "renewable": true}}),
            )
        }
        "auth/token/renew-self" => (
            200,
            json!({"auth": {"client_token": token, "lease_duration": 900, "renewable": true}}),
        ),
        _ if token == "t-1" || token == "t-2" => (200, stored("value")),
        _ => (403, json!({"errors": ["permission denied"]})),
    });
    let bao = server.bao(approle());
    let slot = Arc::new(Slot::new(Arc::clone(&bao), "secret/data/a".to_owned()));
    assert_eq!(field(&slot, "key").await.unwrap(), "value");
    sleep(Duration::from_secs(599)).await;
    assert_eq!(server.count("auth/token/renew-self"), 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.count("auth/token/renew-self"), 1);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(field(&slot, "key").await.unwrap(), "value");
    assert_eq!(
        logins.load(Ordering::SeqCst),
        1,
        "renewed for as long as it is used"
    );
    // Somebody revoked it.
    server.answers({
        let logins = Arc::clone(&logins);
        move |path, token, _| match (path, token) {
            ("auth/approle/login", _) => {
                logins.fetch_add(1, Ordering::SeqCst);
                (
                    200,
                    json!({"auth": {"client_token": "t-9", "lease_duration": 900}}),
                )
            }
            (_, "t-9") => (200, stored("again")),
            _ => (403, json!({})),
        }
    });
    sleep(Duration::from_secs(61)).await;
    assert_eq!(field(&slot, "key").await.unwrap(), "again");
    assert_eq!(logins.load(Ordering::SeqCst), 2);
    // What no login helps against is not tried for ever.
    server.answers(|path, _, _| match path {
        "auth/approle/login" => (400, json!({"errors": ["invalid role or secret ID"]})),
        _ => (403, json!({})),
    });
    sleep(Duration::from_secs(61)).await;
    let before = server.count("auth/approle/login");
    assert_eq!(field(&slot, "key").await, Err(BaoError::Login(400)));
    assert_eq!(server.count("auth/approle/login"), before + 1);
    bao.end().await.unwrap_err();
    bao.end().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_after_two_thirds_and_replaced_when_it_has_lived_as_long_as_it_may() {
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let server = Documented::new(move |path, _, body| match path {
        "database/creds/reader" => lease(counted.fetch_add(1, Ordering::SeqCst) + 1, 300, true),
        "sys/leases/renew" => {
            let id = body["lease_id"].as_str().unwrap();
            (
                200,
                json!({"lease_id": id, "renewable": true, "lease_duration": 300}),
            )
        }
        _ => (400, json!({})),
    });
    let bao = server.bao(token());
    let slot = Arc::new(Slot::new(
        Arc::clone(&bao),
        "database/creds/reader".to_owned(),
    ));
    // Both fields are of one lease.
    assert_eq!(field(&slot, "username").await.unwrap(), "u-1");
    assert_eq!(field(&slot, "password").await.unwrap(), "p-1");
    sleep(Duration::from_secs(199)).await;
    assert_eq!(server.count("sys/leases/renew"), 0);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(server.count("sys/leases/renew"), 1);
    sleep(Duration::from_hours(1)).await;
    assert_eq!(field(&slot, "password").await.unwrap(), "p-1");
    // Its time is over: it is not renewed any more, and used until shortly before it expires.
    let counted = Arc::clone(&made);
    server.answers(move |path, _, _| match path {
        "database/creds/reader" => lease(counted.fetch_add(1, Ordering::SeqCst) + 1, 300, false),
        _ => (400, json!({"errors": ["lease is not renewable"]})),
    });
    sleep(Duration::from_secs(301)).await;
    assert_eq!(field(&slot, "password").await.unwrap(), "p-2");
    let renewals = server.count("sys/leases/renew");
    sleep(Duration::from_secs(269)).await;
    assert_eq!(field(&slot, "password").await.unwrap(), "p-2");
    assert_eq!(
        server.count("sys/leases/renew"),
        renewals,
        "it said that it cannot be"
    );
    sleep(Duration::from_secs(2)).await;
    assert_eq!(field(&slot, "password").await.unwrap(), "p-3");
}

fn account(server: &Arc<Documented>, each: bool) -> Account {
    let nowhere = Path::new("/nonexistent");
    let header = |name, reference| HeaderTemplate::parse(name, reference, nowhere).unwrap();
    let grant = Grant {
        env: Vec::new(),
        headers: vec![
            header("X-User", "openbao:main/database/creds/reader#username"),
            header("X-Key", "Key {openbao:main/database/creds/reader#password}"),
        ],
    };
    let baos: Baos = [("main".to_owned(), server.bao(token()))].into();
    let vault = Arc::new(Vault::of(nowhere, nowhere));
    Account::new(vault, grant, []).with_baos(Arc::new(baos), each)
}

async fn sent(account: &Account, whom: Option<&vocab::InstanceId>) -> Vec<String> {
    let lessee = whom.and_then(|it| account.lessee(it));
    let credential = account.lease(None, lessee.as_ref()).await.unwrap();
    let headers = credential.headers();
    headers
        .map(|(_, value)| value.to_str().unwrap().to_owned())
        .collect()
}

fn leasing() -> Arc<Documented> {
    let mut made = 0;
    Documented::new(move |path, _, _| match path {
        "database/creds/reader" => {
            made += 1;
            lease(made, 300, true)
        }
        "sys/leases/revoke" => (204, Value::Null),
        _ => (400, json!({})),
    })
}

#[tokio::test(start_paused = true)]
async fn who_is_denied_a_path_with_a_good_token_is_not_logged_in_again() {
    let server = Documented::new(|path, _, _| match path {
        "auth/approle/login" => (
            200,
            json!({"auth": {"client_token": "t", "lease_duration": 900}}),
        ),
        "auth/token/lookup-self" => (200, json!({"data": {"ttl": 800}})),
        _ => (403, json!({"errors": ["permission denied"]})),
    });
    let bao = server.bao(approle());
    let slot = Arc::new(Slot::new(bao, "secret/data/a".to_owned()));
    for _ in 0..3 {
        assert_eq!(field(&slot, "key").await, Err(BaoError::Denied));
    }
    assert_eq!(server.count("auth/approle/login"), 1);
    assert_eq!(server.count("secret/data/a"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_over_with_the_token_that_it_was_given_to() {
    let (mut logins, mut made) = (0, 0);
    let server = Documented::new(move |path, token, _| match path {
        "auth/approle/login" => {
            logins += 1;
            let token = format!("t-{logins}");
            (
                200,
                json!({"auth": {"client_token": token, "lease_duration": 600}}),
            )
        }
        "database/creds/reader" => {
            made += 1;
            assert_eq!(token, format!("t-{made}"));
            lease(made, 3600, false)
        }
        _ => (400, json!({})),
    });
    let bao = server.bao(approle());
    let slot = Arc::new(Slot::new(bao, "database/creds/reader".to_owned()));
    assert_eq!(field(&slot, "password").await.unwrap(), "p-1");
    sleep(Duration::from_secs(569)).await;
    assert_eq!(field(&slot, "password").await.unwrap(), "p-1");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(field(&slot, "password").await.unwrap(), "p-2");
}

#[tokio::test(start_paused = true)]
async fn no_time_that_a_server_says_is_too_long() {
    let server = Documented::new(|path, _, _| match path {
        "auth/approle/login" => (
            200,
            json!({"auth": {"client_token": "t", "lease_duration": u64::MAX, "renewable": true}}),
        ),
        _ => lease(1, u64::MAX, true),
    });
    let bao = server.bao(approle());
    let slot = Arc::new(Slot::new(bao, "database/creds/reader".to_owned()));
    assert_eq!(field(&slot, "password").await.unwrap(), "p-1");
    let leased = slot.end().await.unwrap();
    let left = leased.expires().unwrap() - Instant::now();
    assert_eq!(left, Duration::from_secs(LIFE_SECONDS_MAX));
}

#[tokio::test]
async fn an_instance_has_a_lease_of_its_own_and_gives_it_back_when_it_is_over() {
    let server = leasing();
    let account = account(&server, true);
    let [a, b] = ["a", "b"].map(|it| format!("i-{}", it.repeat(26)).parse().unwrap());
    for _ in 0..2 {
        assert_eq!(sent(&account, Some(&a)).await, ["u-1", "Key p-1"]);
        assert_eq!(sent(&account, Some(&b)).await, ["u-2", "Key p-2"]);
        assert_eq!(sent(&account, None).await, ["u-3", "Key p-3"]);
    }
    let over = account.end_unless(|it| *it == b);
    let became = over[0].carry_out(|_| ()).await;
    assert_eq!(became.len(), 1);
    assert_eq!(became[0].0, crate::GivenBack::Revoked);
    let revoked = |server: &Documented| {
        let asked = server.asked.lock().unwrap();
        let revoked = asked
            .iter()
            .filter(|(path, ..)| path == "sys/leases/revoke");
        revoked
            .map(|(_, _, body)| {
                assert_eq!(body["sync"], true);
                body["lease_id"].clone()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(revoked(&server), ["database/creds/reader/1"]);
    assert_eq!(sent(&account, Some(&b)).await, ["u-2", "Key p-2"]);
    // A stop gives back all.
    for ending in account
        .end_unless(|_| false)
        .into_iter()
        .chain([account.end()])
    {
        ending.carry_out(|_| ()).await;
    }
    assert_eq!(revoked(&server).len(), 3);
    assert!(account.lease(None, None).await.is_err());
}

#[tokio::test]
async fn without_that_all_instances_share_one_lease() {
    let server = leasing();
    let account = account(&server, false);
    assert!(!account.is_personal());
    let a = format!("i-{}", "a".repeat(26)).parse().unwrap();
    assert_eq!(sent(&account, Some(&a)).await, ["u-1", "Key p-1"]);
    assert_eq!(sent(&account, None).await, ["u-1", "Key p-1"]);
    assert_eq!(server.count("database/creds/reader"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_taken_back_at_once_is_tried_again_with_bounds() {
    let server = leasing();
    let account = account(&server, false);
    sent(&account, None).await;
    server.answers(|_, _, _| (503, json!({"errors": ["Vault is sealed"]})));
    let failures = AtomicUsize::new(0);
    let became = account
        .end()
        .carry_out(|_| {
            failures.fetch_add(1, Ordering::SeqCst);
        })
        .await;
    assert_eq!(became[0].0, crate::GivenBack::Failed);
    assert_eq!(failures.load(Ordering::SeqCst), 6);
}

proptest::proptest! {
    #[test]
    fn no_answer_panics(answer: Vec<u8>) {
        let _read = read_bao_answer(&answer);
    }
}
