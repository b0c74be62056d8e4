use std::collections::VecDeque;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use ring::hmac;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use vocab::rng::SystemRng;
use vocab::time::SystemClock;

use super::*;

const KEY: [u8; 32] = [9; 32];

/// What the register would say, for the test to change.
#[derive(Debug, Clone, Default)]
struct Register(Arc<Mutex<Vec<(Handle, Event)>>>);

impl Register {
    fn is(&self, all: &[(&str, Event)]) {
        let all = all.iter().map(|(id, it)| (id.parse().unwrap(), *it));
        *self.0.lock().unwrap() = all.collect();
    }
}

impl Source for Register {
    fn news(&self) -> Vec<(Handle, Event)> {
        self.0.lock().unwrap().clone()
    }

    fn message(&self, about: &Handle) -> Option<(Event, Vec<u8>)> {
        let all = self.0.lock().unwrap();
        let (_, event) = all.iter().find(|(id, _)| id == about)?;
        let body = serde_json::json!({"type": event.type_of(), "data": {"approval": about}});
        Some((*event, body.to_string().into_bytes()))
    }
}

/// A message as the receiver got it.
#[derive(Debug)]
struct Got {
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Its id, if it is signed as the receiver expects.
    fn id(&self) -> &str {
        let signed = [
            self.header("webhook-id").as_bytes(),
            b".",
            self.header("webhook-timestamp").as_bytes(),
            b".",
            &self.body,
        ]
        .concat();
        let signature = self
            .header("webhook-signature")
            .strip_prefix("v1,")
            .unwrap();
        let signature = STANDARD.decode(signature).unwrap();
        hmac::verify(
            &hmac::Key::new(hmac::HMAC_SHA256, &KEY),
            &signed,
            &signature,
        )
        .unwrap();
        self.header("webhook-id")
    }
}

/// What a receiver answers, one after the other, then `204` for ever.
type Answers = Arc<Mutex<VecDeque<Response>>>;

async fn take(
    State((answers, got)): State<(Answers, UnboundedSender<Got>)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let _test_over = got.send(Got { headers, body });
    let answer = answers.lock().unwrap().pop_front();
    answer.unwrap_or_else(|| StatusCode::NO_CONTENT.into_response())
}

/// A receiver on an address that is bound already.
fn receive(listener: TcpListener, answers: Vec<Response>) -> UnboundedReceiver<Got> {
    let (sender, receiver) = unbounded_channel();
    let answers: Answers = Arc::new(Mutex::new(answers.into()));
    let app = Router::new().fallback(take).with_state((answers, sender));
    tokio::spawn(async move { axum::serve(listener, app).await });
    receiver
}

fn answer(status: u16) -> Response {
    StatusCode::from_u16(status).unwrap().into_response()
}

fn hook(url: &str) -> Webhook {
    let secret = Secret::new(format!("whsec_{}", STANDARD.encode(KEY)));
    let clock = Arc::new(SystemClock::new());
    Webhook::new(&url.parse().unwrap(), &secret, clock, Arc::new(SystemRng)).unwrap()
}

struct Running {
    hook: Arc<Webhook>,
    register: Register,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    /// Tells the receiver at `to`, at a test's pace.
    fn start(to: SocketAddr, register: &Register) -> Self {
        // Longer than any test takes: what is slow here is this machine.
        Self::patient(to, register, Duration::from_mins(1))
    }

    /// The same, with a receiver that may take so long.
    fn patient(to: SocketAddr, register: &Register, answer: Duration) -> Self {
        let mut hook = hook(&format!("http://{to}/hooks/secret-path"));
        hook.pace = Pace {
            look: Duration::from_millis(2),
            again: Duration::from_millis(4),
            again_max: Duration::from_millis(20),
            answer,
        };
        let (hook, stop) = (Arc::new(hook), CancellationToken::new());
        let told = Arc::clone(&hook).tell(register.clone(), stop.clone());
        Self {
            hook,
            register: register.clone(),
            task: tokio::spawn(told),
            stop,
        }
    }

    /// Waits until the state of telling is such.
    async fn until(&self, what: &str, is_so: impl Fn(&Health) -> bool) -> Health {
        let looked = async {
            loop {
                let health = self.hook.health();
                if is_so(&health) {
                    return health;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let looked = tokio::time::timeout(Duration::from_secs(20), looked).await;
        looked.unwrap_or_else(|_| panic!("{what}: {:?}", self.hook.health()))
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn each_approval_and_its_end_are_told_once_and_signed() {
    let (listener, to) = bound().await;
    let mut got = receive(listener, vec![]);
    let register = Register::default();
    let running = Running::start(to, &register);
    register.is(&[("ap-one", Event::Requested)]);
    let first = got.recv().await.unwrap();
    assert_eq!(first.id(), "ap-one_requested");
    assert_eq!(first.header("content-type"), "application/json");
    let body: serde_json::Value = serde_json::from_slice(&first.body).unwrap();
    assert_eq!(body["type"], "approval.requested");
    register.is(&[("ap-one", Event::Granted), ("ap-two", Event::Requested)]);
    let mut ids = vec![];
    for _ in 0..2 {
        ids.push(got.recv().await.unwrap().id().to_owned());
    }
    ids.sort();
    assert_eq!(ids, ["ap-one_granted", "ap-two_requested"]);
    let health = running.until("all is taken", |it| it.taken == 3).await;
    assert_eq!(
        (health.failed, health.waiting, health.failure),
        (0, 0, None)
    );
    running.stop().await;
    assert!(got.try_recv().is_err(), "nothing was told twice");
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_again_under_the_same_id() {
    let (listener, to) = bound().await;
    let answers = [500, 404, 429, 503, 410].map(answer);
    let mut got = receive(listener, answers.into());
    let register = Register::default();
    register.is(&[("ap-one", Event::Requested)]);
    let running = Running::start(to, &register);
    let mut times = vec![];
    for _ in 0..6 {
        let it = got.recv().await.unwrap();
        assert_eq!(it.id(), "ap-one_requested");
        times.push(it.header("webhook-timestamp").parse::<u64>().unwrap());
    }
    assert!(
        times.is_sorted(),
        "each attempt has its own time: {times:?}"
    );
    let health = running.until("it is taken", |it| it.taken == 1).await;
    assert_eq!((health.failed, health.failure), (5, None));
    running.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_down_hears_of_what_waits_when_it_is_back() {
    let (listener, to) = bound().await;
    drop(listener);
    let register = Register::default();
    register.is(&[("ap-one", Event::Requested), ("ap-two", Event::Requested)]);
    let running = Running::start(to, &register);
    let health = running.until("it fails", |it| it.failed > 4).await;
    assert_eq!(health.waiting, 2);
    let why = health.failure.unwrap();
    assert!(why.contains("refused"), "{why}");
    // One of them is over meanwhile: of that, only the end is told.
    register.is(&[("ap-one", Event::Refused), ("ap-two", Event::Requested)]);
    let seen = running.hook.health().failed;
    running
        .until("the end is due", |it| it.failed > seen + 2)
        .await;
    let mut got = receive(TcpListener::bind(to).await.unwrap(), vec![]);
    let mut ids = vec![];
    for _ in 0..2 {
        ids.push(got.recv().await.unwrap().id().to_owned());
    }
    ids.sort();
    assert_eq!(ids, ["ap-one_refused", "ap-two_requested"]);
    running.until("all is taken", |it| it.taken == 2).await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_over_and_forgotten_is_not_told_any_more() {
    let (listener, to) = bound().await;
    drop(listener);
    let register = Register::default();
    register.is(&[("ap-one", Event::Requested)]);
    let running = Running::start(to, &register);
    running.until("it fails", |it| it.failed > 0).await;
    running.register.is(&[]);
    running.until("nothing waits", |it| it.waiting == 0).await;
    running.stop().await;
}

#[tokio::test]
async fn a_restart_tells_what_waits_again_under_the_same_id() {
    let (listener, to) = bound().await;
    let mut got = receive(listener, vec![]);
    let register = Register::default();
    register.is(&[("ap-one", Event::Requested)]);
    for _ in 0..2 {
        let running = Running::start(to, &register);
        assert_eq!(got.recv().await.unwrap().id(), "ap-one_requested");
        running.stop().await;
    }
}

#[tokio::test]
async fn a_slow_receiver_keeps_nobody_else_waiting() {
    let (listener, to) = bound().await;
    // Takes what comes and never answers.
    let held = tokio::spawn(async move {
        let mut open = vec![];
        while let Ok((stream, _)) = listener.accept().await {
            open.push(stream);
        }
    });
    let register = Register::default();
    let many: Vec<String> = (0..20).map(|nth| format!("ap-{nth}")).collect();
    let all: Vec<_> = many
        .iter()
        .map(|it| (it.as_str(), Event::Requested))
        .collect();
    register.is(&all);
    let running = Running::patient(to, &register, Duration::from_millis(50));
    let health = running.until("it fails", |it| it.failed >= 8).await;
    assert_eq!(health.failure.as_deref(), Some("it took too long"));
    assert_eq!(health.waiting, 20);
    // A stop does not wait for it either.
    running.stop().await;
    held.abort();
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (elsewhere, there) = bound().await;
    let mut elsewhere = receive(elsewhere, vec![]);
    let (listener, to) = bound().await;
    let mut redirect = answer(307);
    let location = HeaderValue::try_from(format!("http://{there}/")).unwrap();
    redirect.headers_mut().insert("location", location);
    let mut got = receive(listener, vec![redirect]);
    let register = Register::default();
    register.is(&[("ap-one", Event::Requested)]);
    let running = Running::start(to, &register);
    got.recv().await.unwrap();
    let health = running.until("it failed", |it| it.failed == 1).await;
    let told = health
        .failure
        .is_none_or(|it| it.contains("no redirect is followed"));
    assert!(told);
    running.until("it is taken", |it| it.taken == 1).await;
    running.stop().await;
    assert!(elsewhere.try_recv().is_err());
}

#[tokio::test]
async fn garbage_and_endless_answers_do_no_harm() {
    let (listener, to) = bound().await;
    let answers: [&[u8]; 4] = [
        b"\x00\xff\x16\x03\x01 no HTTP at all\r\n\r\n",
        b"HTTP/1.1 999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\n",
        // Taken by its status: what follows it is not read, however long it goes on.
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n",
    ];
    let served = tokio::spawn(async move {
        let mut open = vec![];
        for bytes in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let _read = stream.read(&mut request).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            open.push(stream);
        }
        open
    });
    let register = Register::default();
    register.is(&[("ap-one", Event::Requested)]);
    let running = Running::start(to, &register);
    let health = running.until("it is taken", |it| it.taken == 1).await;
    assert_eq!(health.failed, 3);
    running.stop().await;
    served.await.unwrap();
}

#[tokio::test]
async fn what_waits_is_bounded_and_the_rest_stays_in_the_register() {
    let (listener, to) = bound().await;
    let mut got = receive(listener, vec![]);
    let register = Register::default();
    let many: Vec<String> = (0..=WAITING_MAX).map(|nth| format!("ap-{nth}")).collect();
    let all: Vec<_> = many
        .iter()
        .map(|it| (it.as_str(), Event::Requested))
        .collect();
    register.is(&all);
    let running = Running::start(to, &register);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < all.len() {
        assert!(seen.insert(got.recv().await.unwrap().id().to_owned()));
        assert!(running.hook.health().waiting <= WAITING_MAX);
    }
    running.stop().await;
}

#[test]
fn neither_path_nor_secret_is_shown() {
    let hook = hook("https://hooks.acme.example/services/T0/secret");
    assert_eq!(hook.place(), "https://hooks.acme.example");
    let shown = format!("{hook:?}");
    assert!(
        !shown.contains("secret") && !shown.contains("whsec"),
        "{shown}"
    );
}
