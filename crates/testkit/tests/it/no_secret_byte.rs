//! No byte of an upstream's secret is in a log line, an error, a record, a metric, a file, an answer
//! of administration or on the agent's side, whatever becomes of a call.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use testkit::{Plane, Reply, Script, Speaks, Upstream};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use vocab::Secret;

use crate::common::{ANY, Client, ERAS, PUBLIC};
use crate::credentials::SERVER;

const OF_FILE: &str = "xQ7-file-s3cr3t-81f0c2ab";
const OF_VAULT: &str = "xQ7+vault/s3cr3t=5d&93\"e1";
const OF_CHILD: &str = "xQ7-child-s3cr3t-6e44d1b0";
const OF_TLS: &str = "xQ7-tls-s3cr3t-0b9c77fa3e";

/// Every log line of every level, with all fields, and of spans what they have.
struct Lines;

static LINES: Mutex<String> = Mutex::new(String::new());

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Lines {
    fn add(line: &Line) {
        let mut lines = LINES.lock().unwrap();
        lines.push_str(&line.0);
        lines.push('\n');
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(span.metadata().name().to_owned());
        span.record(&mut line);
        Self::add(&line);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        Self::add(&line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().target().to_owned());
        event.record(&mut line);
        Self::add(&line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What must be nowhere, with what it is.
fn needles() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for secret in [OF_FILE, OF_VAULT, OF_CHILD, OF_TLS] {
        let bytes = secret.as_bytes();
        // Its beginning and its end as well: half of it is too much.
        for (part, form) in [
            ("begins", &bytes[..12]),
            ("ends", &bytes[bytes.len() - 12..]),
        ] {
            all.push((format!("{secret} {part}"), form.to_vec()));
        }
        let json = serde_json::to_string(secret).unwrap();
        all.push((
            format!("{secret} in JSON"),
            json.trim_matches('"').as_bytes().to_vec(),
        ));
        for before in 0..3_usize {
            let from = [&b"\0\0\0"[..before], bytes].concat();
            for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                let encoded = engine.encode(&from).into_bytes();
                all.push((format!("{secret} in base 64"), encoded[4..20].to_vec()));
            }
        }
        for upper in [true, false] {
            let each = |byte: &u8| match (byte.is_ascii_alphanumeric(), upper) {
                (true, _) => char::from(*byte).to_string(),
                (false, true) => format!("%{byte:02X}"),
                (false, false) => format!("%{byte:02x}"),
            };
            let encoded: String = bytes.iter().map(each).collect();
            all.push((format!("{secret} percent-encoded"), encoded.into_bytes()));
        }
    }
    all
}

/// Where one of them is, if anywhere.
fn found(bytes: &[u8]) -> Option<String> {
    // Much faster than by bytes, and all of them are text.
    let text = String::from_utf8_lossy(bytes);
    needles().into_iter().find_map(|(what, needle)| {
        let at = text.find(std::str::from_utf8(&needle).unwrap())?;
        let around = text.get(at.saturating_sub(200)..).unwrap_or(&text);
        Some(format!(
            "{what}: {}",
            around.chars().take(260).collect::<String>()
        ))
    })
}

#[track_caller]
fn search(place: &str, bytes: &[u8]) {
    if let Some(found) = found(bytes) {
        panic!("in {place}: {found}");
    }
}

#[test]
fn what_must_be_nowhere_would_be_found() {
    for secret in [OF_FILE, OF_VAULT, OF_CHILD, OF_TLS] {
        let basic = STANDARD_NO_PAD.encode(format!("user:{secret}"));
        let escaped = serde_json::to_string(&[secret]).unwrap();
        let (begin, _) = secret.split_at(14);
        let (_, end) = secret.split_at(secret.len() - 13);
        for text in [secret, &basic, &escaped, begin, end] {
            assert!(
                found(format!("\u{0}before {text} after").as_bytes()).is_some(),
                "{text}"
            );
        }
    }
    assert_eq!(found(b"[masked:credential]"), None);
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

fn agents_side(case: &str, reply: &Reply) {
    search(case, &reply.text);
    search(
        case,
        format!("{:?} {:?}", reply.headers, reply.before).as_bytes(),
    );
}

/// A stream with a notification that has the first half, one that has the second, and a response
/// with all of it.
fn pieces() -> &'static str {
    let (one, two) = OF_FILE.split_at(12);
    let notice = |text: &str| {
        format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\",\"params\":\
             {{\"level\":\"info\",\"data\":\"{text}\"}}}}\n\n"
        )
    };
    let text = format!(
        "{}{}data: {{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{{\"resultType\":\"complete\",\
         \"content\":[{{\"type\":\"text\",\"text\":\"{OF_FILE}\"}}]}}}}\n\n",
        notice(one),
        notice(two)
    );
    text.leak()
}

fn scripts() -> Vec<Script> {
    let text = |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":{text}}}]}}"#)
    };
    let (file, vault) = (
        STANDARD_NO_PAD.encode(OF_FILE),
        STANDARD_NO_PAD.encode(OF_VAULT),
    );
    let encoded = OF_VAULT.replace('/', "%2F").replace('+', "%2b");
    let error =
        format!(r#"{{"jsonrpc":"2.0","id":7,"error":{{"code":-32000,"message":"no {OF_FILE}"}}}}"#);
    vec![
        Script::Echo,
        Script::Result(text(&format!(
            "Authorization: Bearer {OF_FILE}, X-Key: {OF_VAULT}"
        ))),
        Script::Result(text(&format!("{file} {vault} {encoded}"))),
        Script::Error(-32000, error.clone().leak()),
        Script::Http(401, error.leak()),
        Script::Http(500, format!("Traceback: key={OF_FILE}").leak()),
        Script::Body(format!("no JSON {OF_FILE}")),
        Script::Body(format!(r#"{{"{OF_FILE}":"{OF_FILE}","{OF_FILE}":1}}"#)),
        Script::Events(pieces()),
        Script::Events(format!("id: {OF_FILE}\ndata: no JSON {OF_FILE}\n\n").leak()),
        Script::Die,
    ]
}

#[tokio::test]
async fn no_secret_byte_is_anywhere_but_upstream() {
    tracing::subscriber::set_global_default(Lines).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = |name: &str, value: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{value}\n")).unwrap();
        format!("file:{}", path.display())
    };
    let script = folder.path().join("server.py");
    std::fs::write(&script, SERVER).unwrap();
    let (of_file, of_child, of_tls) = (
        source("file", OF_FILE),
        source("child", OF_CHILD),
        source("tls", OF_TLS),
    );
    let upstream = Upstream::start(Speaks::Both).await;
    // What speaks no TLS.
    let plain = upstream.url().replace("http://", "https://");
    let plane = Plane::with(|setup| {
        let headers = format!(
            "headers = {{ Authorization = \"Bearer {{{of_file}}}\", X-Key = \"vault:key\" }}\n"
        );
        setup.upstream("files", &upstream, &headers);
        setup.tail = format!(
            "[upstream.desk]\ncommand = [\"python3\", {script:?}]\nenv = {{ KEY = \"{of_child}\" }}\n\
             [upstream.tls]\nurl = \"{plain}\"\nheaders = {{ X-Key = \"{of_tls}\" }}\n"
        );
        setup.ready = false;
    })
    .await;
    let vault = broker::Vault::of(&plane.data(), &plane.folder().join("keys"));
    let value = Secret::new(OF_VAULT.to_owned());
    let by = crate::credentials::by(&plane);
    vault.set(&"key".parse().unwrap(), &value, by).unwrap();
    for name in ["files", "desk"] {
        plane.refresh(name).await.unwrap();
    }
    let error = plane.refresh("tls").await.unwrap_err();
    search("what is said of bad TLS", error.as_bytes());
    let policies = format!(
        "{}\npermit (principal, action in Action::\"desk\", resource);\n",
        testkit::plane::POLICIES
    );
    plane.activate(&policies).await.unwrap();
    let agent = plane.agent("triage").await;
    let (files_token, desk, tls) = (
        agent.token("files").await,
        agent.token("desk").await,
        agent.token("tls").await,
    );
    for era in ERAS {
        let client = Client::new(&files_token, era).await;
        agents_side(
            "a denial",
            &client
                .call("refund", r#"{"order":"a","amount":9999}"#)
                .await,
        );
        agents_side("a read", &client.call("read_text_file", PUBLIC).await);
        for script in scripts() {
            plane.files().script("anything", script.clone());
            agents_side(&format!("{script:?}"), &client.call("anything", ANY).await);
        }
        let child = Client::new(&desk, era).await;
        for tool in ["who", "crash", "who", "none"] {
            agents_side(tool, &child.call(tool, "{}").await);
        }
    }
    agents_side(
        "bad TLS",
        &Client::new(&tls, ERAS[0]).await.call("anything", ANY).await,
    );
    let seen = plane.files().seen();
    assert!(
        seen.iter()
            .any(|it| it.headers["authorization"] == format!("Bearer {OF_FILE}"))
    );
    assert!(seen.iter().any(|it| it.headers["x-key"] == OF_VAULT));
    // Without them, and with what is none.
    std::fs::write(
        folder.path().join("file"),
        format!("{OF_FILE}\nX-Admin: yes"),
    )
    .unwrap();
    let client = Client::new(&files_token, ERAS[0]).await;
    agents_side("a source that is none", &client.call("anything", ANY).await);
    std::fs::remove_file(folder.path().join("file")).unwrap();
    agents_side("no source", &client.call("anything", ANY).await);
    // What people who run the node see, its records unsealed among it.
    let calls = plane.calls().calls.len();
    let mut paths: Vec<String> = (0..calls)
        .map(|at| format!("/v1/trace/calls/{at}"))
        .collect();
    let known = [
        "status",
        "doctor",
        "secrets",
        "agents",
        "instances",
        "keys",
        "review",
    ];
    paths.extend(known.iter().map(|it| format!("/v1/{it}")));
    for path in paths {
        search(&path, &plane.admin("GET", &path, None).await.body);
    }
    for path in ["/metrics", "/readyz", "/healthz"] {
        search(path, &plane.ask("GET", path).send().await.body);
    }
    for name in ["files", "desk", "tls"] {
        let served = plane.served(name);
        let told = format!(
            "{served:?} {:?} {:?}",
            served.upstream().trouble(),
            served.upstream().stderr()
        );
        search(&format!("what is known of `{name}`"), told.as_bytes());
    }
    search("the policies", policies.as_bytes());
    let root = plane.folder().to_owned();
    let mut all = Vec::new();
    files(&root, &mut all);
    assert!(all.iter().any(|path| path.ends_with("data/vault")));
    for path in &all {
        search(&path.display().to_string(), &std::fs::read(path).unwrap());
    }
    plane.end().await;
    let lines = LINES.lock().unwrap();
    assert!(
        lines.contains("nothing was sent") || lines.contains("not sent"),
        "nothing was logged"
    );
    assert!(
        lines.contains(broker::MASK),
        "the child's last words are in the log"
    );
    search("the log", lines.as_bytes());
}
