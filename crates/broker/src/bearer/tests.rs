use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::vault::Vault;

/// An endpoint that answers what it is told to, once for each place that `open` has.
struct Scripted {
    answer: Mutex<Result<String, String>>,
    open: Semaphore,
    asked: AtomicUsize,
    secrets: Mutex<Vec<String>>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    fn says(&self, answer: Result<&str, &str>) {
        let answer = answer.map(str::to_owned).map_err(str::to_owned);
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl TokenEndpoint for Scripted {
    fn ask<'a>(
        &'a self,
        _: Option<&'a InstanceId>,
        client_secret: &'a Secret<String>,
    ) -> Asking<'a> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.secrets
                .lock()
                .unwrap()
                .push(client_secret.expose().clone());
            self.open.acquire().await.unwrap().forget();
            let answer = self.answer.lock().unwrap().clone();
            answer.map(|it| Secret::new(it.into_bytes()))
        })
    }

    fn scope(&self) -> Option<&str> {
        None
    }

    fn revoke<'a>(&'a self, _: &'a Secret<String>, _: &'a Secret<String>) -> Revoking<'a> {
        panic!("what is the client's own is not given back")
    }
}

struct Fixture {
    bearer: Arc<Bearer>,
    endpoint: Arc<Scripted>,
    folder: tempfile::TempDir,
}

impl Fixture {
    /// One whose endpoint answers this, as often as it is asked.
    fn new(answer: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Arc::new(Scripted {
            answer: Mutex::new(Ok(answer.to_owned())),
            open: Semaphore::new(1000),
            asked: AtomicUsize::new(0),
            secrets: Mutex::default(),
        });
        let file = Source::File(folder.path().join("secret"));
        let bearer = Arc::new(Bearer::new(file, Arc::clone(&endpoint) as _, None));
        let it = Self {
            bearer,
            endpoint,
            folder,
        };
        it.secret("the-clients-secret");
        it
    }

    fn secret(&self, value: &str) {
        std::fs::write(self.folder.path().join("secret"), value).unwrap();
    }

    fn vault(&self) -> Arc<Vault> {
        Arc::new(Vault::of(self.folder.path(), self.folder.path()))
    }

    fn reads(&self) -> Arc<Reads> {
        Arc::new(Reads::new(self.vault()))
    }

    async fn had(&self) -> Result<Had, TokenError> {
        self.bearer.token(&self.reads()).await
    }

    async fn token(&self) -> Result<String, TokenError> {
        let had = self.had().await?;
        Ok(had.token.header().to_str().unwrap().to_owned())
    }

    /// Many that need a token at once; they are under way when one of them asks.
    async fn many(&self) -> Vec<tokio::task::JoinHandle<Result<(), TokenError>>> {
        let all = (0..20).map(|_| {
            let (bearer, reads) = (Arc::clone(&self.bearer), self.reads());
            tokio::spawn(async move { bearer.token(&reads).await.map(drop) })
        });
        let all = all.collect();
        while self.endpoint.asked() == 0 {
            tokio::task::yield_now().await;
        }
        all
    }
}

fn response(token: &str, expires_in: &str) -> String {
    format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{expires_in}}}"#)
}

#[tokio::test]
async fn a_token_is_kept_until_shortly_before_it_expires() {
    let it = Fixture::new(&response("first-token", "3600"));
    for _ in 0..3 {
        assert_eq!(it.token().await.unwrap(), "Bearer first-token");
    }
    assert_eq!(it.endpoint.asked(), 1);
    it.endpoint.says(Ok(&response("second-token", "3600")));
    // As if its time had passed.
    let held = it.bearer.held().take().unwrap();
    let token = Arc::new(Token {
        value: Secret::new(held.token.value.expose().clone()),
        header: held.token.header.clone(),
        until: Instant::now(),
        expires: None,
    });
    *it.bearer.held() = Some(Held { token, ..held });
    assert_eq!(it.token().await.unwrap(), "Bearer second-token");
    assert_eq!(it.endpoint.asked(), 2);
}

#[test]
fn a_life_is_used_but_for_its_end_and_never_for_long() {
    let asked = Instant::now();
    for (told, seconds) in [
        ("3600", 3570),
        ("150", 120),
        ("100", 80),
        ("5", 4),
        ("0", 0),
        ("31536000", 3600),
        ("18446744073709551615", 3600),
        // What says nothing is a short one.
        ("null", 60),
        ("-1", 60),
        ("1e3", 60),
        ("\"3600\"", 60),
        ("[1]", 60),
    ] {
        let token = read(response("x", told).as_bytes(), asked, None);
        let used = token.map(|it| it.until - asked);
        assert_eq!(used, Ok(Duration::from_secs(seconds)), "{told}");
    }
    let untold = read(
        br#"{"token_type":"bearer","access_token":"x"}"#,
        asked,
        None,
    );
    assert_eq!(untold.map(|it| it.until - asked), Ok(UNTOLD));
}

#[tokio::test]
async fn what_is_fetched_is_recognised_from_then_on() {
    let it = Fixture::new(&response("first-token", "3600"));
    let seen = it.had().await.unwrap().seen;
    let seen: Vec<_> = seen.iter().map(|it| it.expose().as_str()).collect();
    assert_eq!(seen, ["first-token", "the-clients-secret"]);
}

#[tokio::test]
async fn one_fetches_for_all_who_wait() {
    let it = Fixture::new(&response("first-token", "3600"));
    it.endpoint.open.forget_permits(1000);
    let waiting = it.many().await;
    it.endpoint.open.add_permits(1);
    for one in waiting {
        one.await.unwrap().unwrap();
    }
    assert_eq!(it.endpoint.asked(), 1);
}

#[tokio::test]
async fn who_waited_while_it_failed_does_not_ask_again_and_who_comes_later_does() {
    let it = Fixture::new("");
    it.endpoint.open.forget_permits(1000);
    it.endpoint.says(Err("503"));
    let waiting = it.many().await;
    // All are in line.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    it.endpoint.open.add_permits(1);
    for one in waiting {
        let failed = one.await.unwrap();
        assert_eq!(failed, Err(TokenError::Refused("503".to_owned())));
    }
    assert_eq!(it.endpoint.asked(), 1);
    it.endpoint.says(Ok(&response("token", "60")));
    it.endpoint.open.add_permits(1);
    assert_eq!(it.token().await.unwrap(), "Bearer token");
}

#[tokio::test]
async fn who_gives_up_while_fetching_holds_up_nobody() {
    let it = Fixture::new(&response("token", "60"));
    it.endpoint.open.forget_permits(1000);
    let reads = it.reads();
    let mut given_up = Box::pin(it.bearer.token(&reads));
    while it.endpoint.asked() == 0 {
        let polled = futures_poll(given_up.as_mut()).await;
        assert!(!polled, "nobody has answered");
    }
    drop(given_up);
    it.endpoint.open.add_permits(1);
    assert_eq!(it.token().await.unwrap(), "Bearer token");
}

/// Polls once; whether it is ready.
async fn futures_poll<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    tokio::task::yield_now().await;
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_ready()))
        .await
}

#[tokio::test]
async fn an_endpoint_that_is_slow_gives_none() {
    let mut it = Fixture::new(&response("token", "60"));
    it.endpoint.open.forget_permits(1000);
    Arc::get_mut(&mut it.bearer).unwrap().patience = Duration::from_millis(20);
    assert_eq!(it.token().await, Err(TokenError::Late));
    it.endpoint.open.add_permits(1);
    Arc::get_mut(&mut it.bearer).unwrap().patience = FETCH_TIMEOUT;
    assert_eq!(it.token().await.unwrap(), "Bearer token");
}

#[tokio::test]
async fn a_refused_token_is_given_up_and_a_newer_one_is_not() {
    let it = Fixture::new(&response("first-token", "3600"));
    let first = it.had().await.unwrap().token;
    it.bearer.give_up(&first);
    it.endpoint.says(Ok(&response("second-token", "3600")));
    assert_eq!(it.token().await.unwrap(), "Bearer second-token");
    // Another call with the first one is refused late.
    it.bearer.give_up(&first);
    assert_eq!(it.token().await.unwrap(), "Bearer second-token");
    assert_eq!(it.endpoint.asked(), 2);
}

#[tokio::test]
async fn the_secret_is_read_for_each_token() {
    let it = Fixture::new(&response("token", "0"));
    it.token().await.unwrap();
    it.secret("another-secret");
    it.token().await.unwrap();
    assert_eq!(
        *it.endpoint.secrets.lock().unwrap(),
        ["the-clients-secret", "another-secret"]
    );
    std::fs::remove_file(it.folder.path().join("secret")).unwrap();
    let error = it.token().await.unwrap_err();
    assert!(matches!(error, TokenError::NoSecret(_)), "{error}");
    assert_eq!(it.endpoint.asked(), 2);
}

#[tokio::test]
async fn a_changed_secret_is_used_at_once_and_an_absent_one_gives_nothing() {
    let it = Fixture::new(&response("first-token", "3600"));
    for _ in 0..3 {
        assert_eq!(it.token().await.unwrap(), "Bearer first-token");
    }
    it.secret("another-secret");
    it.endpoint.says(Ok(&response("second-token", "3600")));
    for _ in 0..3 {
        assert_eq!(it.token().await.unwrap(), "Bearer second-token");
    }
    assert_eq!(
        *it.endpoint.secrets.lock().unwrap(),
        ["the-clients-secret", "another-secret"]
    );
    // What the endpoint says of it is said once to each who asks, and nothing older is used.
    it.secret("a-wrong-secret");
    it.endpoint.says(Err("invalid_client"));
    let refused = TokenError::Refused("invalid_client".to_owned());
    for _ in 0..2 {
        assert_eq!(it.token().await, Err(refused.clone()));
    }
    std::fs::remove_file(it.folder.path().join("secret")).unwrap();
    let error = it.token().await.unwrap_err();
    assert!(matches!(error, TokenError::NoSecret(_)), "{error}");
}

/// Many calls at the moment of the change: one fetches for all of them.
#[tokio::test]
async fn a_changed_secret_is_one_request_for_all_who_wait() {
    let it = Fixture::new(&response("first-token", "3600"));
    it.token().await.unwrap();
    it.secret("another-secret");
    it.endpoint.says(Ok(&response("second-token", "3600")));
    for one in it.many().await {
        one.await.unwrap().unwrap();
    }
    assert_eq!(it.endpoint.asked(), 2);
}

//= https://www.rfc-editor.org/rfc/rfc6749#section-7.1
//= type=test
//# The client MUST NOT use an access token if it does not understand the token type.
#[test]
fn a_token_of_another_type_is_not_used() {
    for (token_type, taken) in [
        ("Bearer", true),
        ("bearer", true),
        ("BEARER", true),
        ("DPoP", false),
        ("mac", false),
        ("Bearer x", false),
        ("", false),
    ] {
        let text = format!(r#"{{"access_token":"x","token_type":"{token_type}"}}"#);
        let read = read(text.as_bytes(), Instant::now(), None).map(drop);
        let expected = if taken { Ok(()) } else { Err(TokenError::Type) };
        assert_eq!(read, expected, "{token_type}");
    }
}

#[test]
fn what_cannot_be_a_token_is_refused_and_not_repeated() {
    let long = "x".repeat(TOKEN_BYTES_MAX);
    assert!(read(response(&long, "1").as_bytes(), Instant::now(), None).is_ok());
    let longer = format!("{long}x");
    for token in [
        "",
        " ",
        "s3cr3t x",
        "s3cr3t\\r\\nX-Admin: 1",
        "s3cr3t\\u0000",
        "s3cr3t\\u007f",
        "s3cr3tü",
        &longer,
    ] {
        let error = read(response(token, "1").as_bytes(), Instant::now(), None).map(drop);
        assert_eq!(error, Err(TokenError::Token), "{token}");
    }
    for answer in [
        "",
        "s3cr3t",
        "<html>s3cr3t</html>",
        "null",
        "[]",
        "{}",
        r#"{"access_token":"s3cr3t"}"#,
        r#"{"token_type":"Bearer"}"#,
        r#"{"access_token":["s3cr3t"],"token_type":"Bearer"}"#,
        r#"{"access_token":{"s3cr3t":1},"token_type":"Bearer"}"#,
        r#"{"access_token":"s3cr3t","access_token":"x","token_type":"Bearer"}"#,
        r#"{"access_token":"s3cr3t","token_type":"Bearer"} x"#,
        r#"{"access_token":"s3cr3t","token_type":"#,
    ] {
        let error = read(answer.as_bytes(), Instant::now(), None).map(drop);
        assert_eq!(error, Err(TokenError::Malformed), "{answer}");
        assert!(!error.unwrap_err().to_string().contains("s3cr3t"));
    }
}

//= https://www.rfc-editor.org/rfc/rfc6749#section-5.1
//= type=test
//# The client MUST ignore unrecognized value names in the response.
#[test]
fn what_is_not_known_of_an_answer_is_ignored() {
    let text =
        r#"{"access_token":"x","token_type":"Bearer","refresh_token":"y","scope":"a","z":[{}]}"#;
    assert!(read(text.as_bytes(), Instant::now(), None).is_ok());
}

proptest! {
    #[test]
    fn whatever_is_taken_can_be_sent(answer in any::<Vec<u8>>(), token in ".{0,40}") {
        let quoted = serde_json::to_string(&token).unwrap();
        let well = format!(r#"{{"access_token":{quoted},"token_type":"Bearer"}}"#);
        let is_one = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        prop_assert_eq!(read_token_answer(well.as_bytes()), is_one);
        let _taken = read_token_answer(&answer);
    }
}

#[tokio::test]
async fn an_account_sends_the_token_beside_its_headers_and_knows_an_echo_of_it() {
    let it = Fixture::new(&response("first-token", "3600"));
    let file = Source::File(it.folder.path().join("secret"));
    let key = crate::HeaderTemplate::parse("X-Key", "plain:k", Path::new("/")).unwrap();
    let grant = crate::Grant {
        env: Vec::new(),
        headers: vec![key],
    };
    let account =
        crate::Account::new(it.vault(), grant, []).with_tokens(file, Arc::clone(&it.endpoint) as _);
    let credential = account.lease(None, None).await.unwrap();
    let sent: Vec<_> = credential
        .headers()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    assert_eq!(
        sent,
        [("x-key", "k"), ("authorization", "Bearer first-token")]
    );
    let echoed = account
        .echo(None)
        .mask_text(b"you sent first-token")
        .is_some();
    assert!(echoed);
    credential.refused();
    it.endpoint.says(Err("503"));
    let error = account
        .lease(None, None)
        .await
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("503"), "{error}");
}
