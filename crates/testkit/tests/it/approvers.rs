//! People approve calls, on the page that is theirs, and are told of them.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use ledger::{Actor, ActorKind, Kind};
use register::{ApprovalCommand, ApprovalOver, Command, Done, NewApproval, Subject};
use serde_json::{Value, json};
use testkit::idp::{field, query};
use testkit::{Answer, Browser, Plane, until, within};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use vocab::{Digest, Handle};

/// What approvers are shown: with what would be markup, and what would hide or turn text.
const SHOWN: &str = "triage asks for files/refund\n  {\"note\": \"<b>'ok'</b> & \\u{202e}\",\n   \
                     \"to\": \"p\u{430}yroll\"}\n";

/// A node at which `otto` and `noor` may be asked about what an agent of `maya` calls.
struct Office {
    plane: Plane,
    token: testkit::Token,
    asked: u8,
}

impl Office {
    async fn open() -> Self {
        Self::with("").await
    }

    /// With more of the configuration.
    async fn with(more: &str) -> Self {
        let plane = Plane::with(|setup| {
            setup.tail.push_str("[login]\nlocal = true\n");
            setup.tail.push_str(more);
        })
        .await;
        let agent = plane.agent("triage").await;
        for id in ["otto", "noor", "lena"] {
            let person =
                json!({"id": id, "name": "Some Person", "email": format!("{id}@it.example")});
            let added = plane.admin("POST", "/v1/sponsors", Some(person)).await;
            assert!(added.status.is_success(), "{}", added.text());
        }
        let token = agent.bearer("files").await;
        Self {
            plane,
            token,
            asked: 0,
        }
    }

    /// Asks people about a call that nobody asked about before.
    async fn ask(&mut self, needs: &str) -> Handle {
        let control = self.plane.gateway().control();
        let policy = control.view(|state| state.policy().unwrap().record);
        self.asked += 1;
        let command = ApprovalCommand::Request(Box::new(NewApproval {
            instance: self.token.instance.parse().unwrap(),
            upstream: "files".parse().unwrap(),
            method: "tools/call".to_owned(),
            tool: Some("refund".parse().unwrap()),
            what: Digest::of(&[self.asked]),
            policy,
            held: 0,
            needs: serde_json::from_value(json!([[needs]])).unwrap(),
            shown: SHOWN.to_owned(),
        }));
        let node = Actor::node("node-1");
        let done = control.execute(node, Command::Approval(command)).await;
        match done.unwrap() {
            Done::Changed {
                subject: Subject::Approval(id),
                ..
            } => id,
            other => panic!("{other:?}"),
        }
    }

    async fn browser(&self, person: &str) -> Browser<'_> {
        let mut browser = Browser::new(&self.plane);
        browser.local_login(person).await;
        browser
    }

    /// What a person's page of an approval comes to.
    async fn page(&self, person: &str, id: &Handle) -> Answer {
        self.browser(person)
            .await
            .get(&format!("/approve/{id}"))
            .await
    }

    /// Has a person answer on their page.
    async fn answer(&self, person: &str, id: &Handle, answer: &str) -> Answer {
        let mut browser = self.browser(person).await;
        let path = format!("/approve/{id}");
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let (form, shown) = (field(&page, "form"), field(&page, "shown"));
        let fields = [("form", &*form), ("shown", &*shown), ("answer", answer)];
        browser.post(&path, &fields).await
    }

    /// As an administrator sees it.
    async fn view(&self, id: &Handle) -> Value {
        let path = format!("/v1/approvals/{id}");
        let found = self.plane.admin("GET", &path, None).await;
        assert_eq!(found.status, 200, "{}", found.text());
        found.json()
    }

    async fn is(&self, id: &Handle, state: &str) {
        let view = self.view(id).await;
        assert_eq!(view["state"], state, "{view}");
    }
}

/// What stands between two marks.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("{before}: {text}"));
    rest.split_once(after).unwrap().0
}

#[tokio::test]
async fn an_approver_is_shown_the_exact_text_and_approves_it() {
    let mut office = Office::open().await;
    let id = office.ask("otto").await;
    let page = office.page("otto", &id).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let pre = between(page.text(), "<pre dir=\"ltr\">\n", "</pre>");
    let read = pre
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&");
    assert_eq!(read, SHOWN);
    assert!(!pre.contains('<'), "{pre}");
    assert_eq!(
        field(&page, "shown"),
        Digest::of(SHOWN.as_bytes()).to_string()
    );
    // One of its letters looks like another.
    assert!(
        page.text().contains("\u{430} is U+0430."),
        "{}",
        page.text()
    );
    for row in [
        "Who may approve</dt><dd>otto",
        "Approved by</dt><dd>nobody yet",
    ] {
        assert!(page.text().contains(row), "{row}: {}", page.text());
    }
    let done = office.answer("otto", &id, "approve").await;
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(done.text().contains("<h1>Approved</h1>"), "{}", done.text());
    let view = office.view(&id).await;
    assert_eq!(view["state"], "granted");
    assert_eq!(view["granted"][0]["by"], "otto");
    assert_eq!(view["granted"][0]["sign_in"], "local-login");
    assert_eq!(view["shown"], SHOWN);
    assert_eq!(
        view["shown_digest"],
        Digest::of(SHOWN.as_bytes()).to_string()
    );
    assert_eq!(view["url"], format!("{}/approve/{id}", Plane::public_url()));
    let granted = office.plane.ledger();
    let granted = granted.of(Kind::ApprovalGranted);
    assert_eq!(granted.len(), 1);
    let by = &granted[0].actor;
    assert!(by.kind == ActorKind::Person && by.verified, "{by:?}");
    office.plane.end().await;
}

#[tokio::test]
async fn several_people_approve_one_after_the_other_and_any_of_them_refuses() {
    let mut office = Office::open().await;
    let id = office.ask("2 of otto, noor").await;
    let first = office.answer("otto", &id, "approve").await;
    assert!(
        first.text().contains("Somebody else has to as well"),
        "{}",
        first.text()
    );
    office.is(&id, "pending").await;
    // Whoever did is not asked again, and can take it back.
    let again = office.page("otto", &id).await;
    assert!(
        !again.text().contains("value=\"approve\""),
        "{}",
        again.text()
    );
    assert!(
        again.text().contains("value=\"refuse\""),
        "{}",
        again.text()
    );
    let other = office.page("noor", &id).await;
    assert!(
        other.text().contains("Approved by</dt><dd>otto at "),
        "{}",
        other.text()
    );
    let second = office.answer("noor", &id, "approve").await;
    assert!(
        second.text().contains("<h1>Approved</h1>"),
        "{}",
        second.text()
    );
    office.is(&id, "granted").await;
    let refused = office.answer("otto", &id, "refuse").await;
    assert!(
        refused.text().contains("<h1>Refused</h1>"),
        "{}",
        refused.text()
    );
    let view = office.view(&id).await;
    assert_eq!(
        (&view["state"], &view["refused"]["by"]),
        (&json!("refused"), &json!("otto"))
    );
    // It stays so.
    let late = office.page("noor", &id).await;
    assert_eq!(late.status, 410, "{}", late.text());
    assert!(
        late.text().contains("otto refused it at "),
        "{}",
        late.text()
    );
    office.plane.end().await;
}

#[tokio::test]
async fn what_waits_is_listed_for_those_who_may_approve_it() {
    let mut office = Office::open().await;
    let id = office.ask("otto").await;
    let other = office.ask("noor").await;
    for path in ["/approve", "/approve/"] {
        let list = office.browser("otto").await.get(path).await;
        assert_eq!(list.status, 200);
        assert!(
            list.text().contains(&format!("href=\"/approve/{id}\"")),
            "{}",
            list.text()
        );
        assert!(
            list.text().contains("triage asks for refund at files"),
            "{}",
            list.text()
        );
        assert!(!list.text().contains(other.as_str()));
    }
    let none = office.browser("maya").await.get("/approve").await;
    assert!(
        none.text().contains("nothing waits for your approval"),
        "{}",
        none.text()
    );
    office.answer("otto", &id, "approve").await;
    let none = office.browser("otto").await.get("/approve").await;
    assert!(
        none.text().contains("nothing waits for your approval"),
        "{}",
        none.text()
    );
    // Who is not signed in is led there and back.
    let stranger = Browser::new(&office.plane).get("/approve").await;
    assert_eq!(stranger.status, 401, "{}", stranger.text());
    office.plane.end().await;
}

#[tokio::test]
async fn whoever_is_not_asked_sees_nothing_and_is_told_why() {
    let mut office = Office::open().await;
    let id = office.ask("otto").await;
    for (person, why) in [
        ("lena", "the policies ask others"),
        ("maya", "nobody approves what is done in their own name"),
    ] {
        let page = office.page(person, &id).await;
        assert_eq!(page.status, 403, "{}", page.text());
        assert!(page.text().contains(why), "{}", page.text());
        assert!(!page.text().contains("refund"), "{}", page.text());
    }
    for unknown in ["ap-none", "%00", "AP", "triage"] {
        let page = office
            .browser("otto")
            .await
            .get(&format!("/approve/{unknown}"))
            .await;
        assert_eq!(page.status, 404, "{unknown}: {}", page.text());
    }
    let stranger = Browser::new(&office.plane)
        .get(&format!("/approve/{id}"))
        .await;
    assert_eq!(stranger.status, 401);
    assert!(!stranger.text().contains("refund"));
    let ledger = office.plane.ledger_with_refusals().await;
    assert_eq!(ledger.refused("not-an-approver"), 6);
    office.is(&id, "pending").await;
    office.plane.end().await;
}

#[tokio::test]
async fn what_is_over_cannot_be_answered() {
    let mut office = Office::open().await;
    let (expired, cut) = (office.ask("otto").await, office.ask("otto").await);
    let mut browser = office.browser("otto").await;
    let page = browser.get(&format!("/approve/{cut}")).await;
    let (form, shown) = (field(&page, "form"), field(&page, "shown"));
    let fields = [("form", &*form), ("shown", &*shown), ("answer", "approve")];
    let control = office.plane.gateway().control();
    let over = ApprovalCommand::Over {
        id: cut.clone(),
        cause: ApprovalOver::Cut,
    };
    let node = Actor::node("node-1");
    control
        .execute(node, Command::Approval(over))
        .await
        .unwrap();
    let late = browser.post(&format!("/approve/{cut}"), &fields).await;
    assert_eq!(late.status, 410, "{}", late.text());
    drop(browser);
    office.is(&cut, "over").await;
    office.plane.clock.advance(Duration::from_hours(2));
    let late = office.page("otto", &expired).await;
    assert_eq!(late.status, 410, "{}", late.text());
    assert!(!late.text().contains("value=\"approve\""));
    let view = office.view(&expired).await;
    assert_eq!(
        (&view["state"], &view["over"]),
        (&json!("over"), &json!("expired"))
    );
    office.plane.end().await;
}

#[tokio::test]
async fn csrf_and_answers_to_another_text_approve_nothing() {
    let mut office = Office::open().await;
    let id = office.ask("otto").await;
    let path = format!("/approve/{id}");
    let mut browser = office.browser("otto").await;
    let page = browser.get(&path).await;
    let (form, shown) = (field(&page, "form"), field(&page, "shown"));
    let post = |form: &str, shown: &str, answer: &str| {
        [("form", form), ("shown", shown), ("answer", answer)]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
    };
    // Another session's number, none, or a made-up one.
    let mut attacker = office.browser("noor").await;
    let theirs = office.ask_form(&mut attacker).await;
    for number in ["", "made-up", &theirs] {
        let answer = send(&mut browser, &path, &post(number, &shown, "approve")).await;
        assert_eq!(answer.status, 403, "{number}");
    }
    // Another text than the one on the page, or none.
    for text in ["", "made-up", &Digest::of(b"another").to_string()] {
        let answer = send(&mut browser, &path, &post(&form, text, "approve")).await;
        assert!(
            answer.text().contains("was to another text"),
            "{}",
            answer.text()
        );
    }
    // Neither yes nor no.
    for word in ["", "Approve", "approve refuse", "agree"] {
        let answer = send(&mut browser, &path, &post(&form, &shown, word)).await;
        assert_eq!(answer.status, 400, "{word}");
    }
    // The right form without the session, with another's, or as the form of another page.
    let right = post(&form, &shown, "approve");
    let mut stranger = Browser::new(&office.plane);
    assert_eq!(send(&mut stranger, &path, &right).await.status, 401);
    assert_eq!(send(&mut attacker, &path, &right).await.status, 403);
    let cookie = format!("tipstaff={}", browser.cookies["tipstaff"]);
    let pairs: Vec<_> = right.iter().map(|(k, v)| (&**k, &**v)).collect();
    for origin in ["https://evil.example", "null"] {
        let answer = office
            .plane
            .ask("POST", &path)
            .header("cookie", &cookie)
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(query(&pairs))
            .send()
            .await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    // A link answers nothing.
    let link = format!("{path}?{}", query(&pairs));
    assert_eq!(browser.get(&link).await.status, 200);
    drop((browser, attacker, stranger));
    office.is(&id, "pending").await;
    office.plane.end().await;
}

impl Office {
    /// What forms carry that are shown to a browser's session.
    async fn ask_form(&self, browser: &mut Browser<'_>) -> String {
        field(&browser.get("/approve").await, "form")
    }
}

async fn send(browser: &mut Browser<'_>, path: &str, fields: &[(String, String)]) -> Answer {
    let fields: Vec<_> = fields.iter().map(|(k, v)| (&**k, &**v)).collect();
    browser.post(path, &fields).await
}

#[tokio::test]
async fn clickjacking_finds_no_approval_that_can_be_framed() {
    let mut office = Office::open().await;
    let id = office.ask("otto").await;
    for path in ["/approve", &format!("/approve/{id}"), "/approve/ap-none"] {
        let page = office.browser("otto").await.get(path).await;
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = page.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains("script"),
            "{path}"
        );
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert!(!page.text().contains("<script"), "{path}");
    }
    office.plane.end().await;
}

#[tokio::test]
async fn a_session_from_before_a_suspension_approves_nothing() {
    let mut office = Office::open().await;
    let id = office.ask("otto").await;
    let mut browser = office.browser("otto").await;
    let path = format!("/approve/{id}");
    let page = browser.get(&path).await;
    let (form, shown) = (field(&page, "form"), field(&page, "shown"));
    let fields = [("form", &*form), ("shown", &*shown), ("answer", "approve")];
    for verb in ["suspend", "resume"] {
        office
            .plane
            .command(&format!("/v1/sponsors/otto/{verb}"))
            .await;
        let answer = browser.post(&path, &fields).await;
        assert_eq!(answer.status, 401, "{verb}: {}", answer.text());
    }
    drop(browser);
    office.is(&id, "pending").await;
    office.plane.end().await;
}

#[tokio::test]
async fn an_administrators_credential_is_nobodys_approval() {
    let mut office = Office::open().await;
    let id = office.ask("otto").await;
    let named = office.plane.named_admin("otto").await;
    for verb in ["grant", "approve", "refuse", ""] {
        let path = format!("/v1/approvals/{id}/{verb}");
        let body = Some(json!({"by": "otto"}));
        let answer = office.plane.admin("POST", &path, body.clone()).await;
        assert_eq!(answer.status, 404, "{verb}: {}", answer.text());
        let answer = office.plane.signed(&named, "POST", &path, body).await;
        assert_eq!(answer.status, 404, "{verb}: {}", answer.text());
    }
    let path = format!("/v1/approvals/{id}");
    assert_eq!(office.plane.admin("POST", &path, None).await.status, 405);
    let unknown = office
        .plane
        .admin("GET", "/v1/approvals/ap-none", None)
        .await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    let all = office
        .plane
        .admin("GET", "/v1/approvals", None)
        .await
        .json();
    assert_eq!(all[0]["id"], id.as_str());
    // The list is to find one; what it is about is looked at one by one.
    assert!(all[0].get("shown").is_none(), "{all}");
    office.is(&id, "pending").await;
    office.plane.end().await;
}

/// A webhook's receiver, on this machine.
struct Receiver {
    got: UnboundedReceiver<(HeaderMap, Value)>,
    url: String,
    folder: tempfile::TempDir,
    more: String,
}

async fn take(
    State(got): State<UnboundedSender<(HeaderMap, Value)>>,
    headers: HeaderMap,
    body: Bytes,
) -> http::StatusCode {
    let _over = got.send((headers, serde_json::from_slice(&body).unwrap()));
    http::StatusCode::ACCEPTED
}

impl Receiver {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (sender, got) = unbounded_channel();
        let app = Router::new().fallback(take).with_state(sender);
        tokio::spawn(async move { axum::serve(listener, app).await });
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("webhook.secret");
        std::fs::write(&secret, format!("whsec_{}\n", STANDARD.encode([5; 32]))).unwrap();
        let more = format!(
            "[approvals]\nwebhook = \"{url}\"\nwebhook_secret = \"file:{}\"\n",
            secret.display()
        );
        Self {
            got,
            url,
            folder,
            more,
        }
    }

    async fn next(&mut self) -> (String, Value) {
        let (headers, body) = within("a message", self.got.recv()).await.unwrap();
        (headers["webhook-id"].to_str().unwrap().to_owned(), body)
    }
}

#[tokio::test]
async fn approvals_and_how_they_end_are_told_by_webhook_without_what_they_are_about() {
    let mut receiver = Receiver::start().await;
    let mut office = Office::with(&receiver.more).await;
    let id = office.ask("otto").await;
    let (message, body) = receiver.next().await;
    assert_eq!(message, format!("{id}_requested"));
    assert_eq!(body["type"], "approval.requested");
    let data = &body["data"];
    for (name, expected) in [
        ("approval", json!(id)),
        ("agent", json!("triage")),
        ("instance", json!(office.token.instance)),
        ("upstream", json!("files")),
        ("tool", json!("refund")),
        ("approvers", json!("otto")),
        (
            "url",
            json!(format!("{}/approve/{id}", Plane::public_url())),
        ),
    ] {
        assert_eq!(data[name], expected, "{name}: {body}");
    }
    let ends = data["until"].as_str().unwrap();
    assert!(ends > data["asked_at"].as_str().unwrap(), "{body}");
    assert!(!body.to_string().contains("roll"), "{body}");
    office.answer("otto", &id, "approve").await;
    let (message, body) = receiver.next().await;
    assert_eq!(message, format!("{id}_granted"));
    assert_eq!(body["type"], "approval.granted");
    office.answer("otto", &id, "refuse").await;
    assert_eq!(receiver.next().await.0, format!("{id}_refused"));
    let late = office.ask("noor").await;
    assert_eq!(receiver.next().await.0, format!("{late}_requested"));
    office.plane.clock.advance(Duration::from_mins(90));
    assert_eq!(receiver.next().await.0, format!("{late}_expired"));
    until("all of it is counted as taken", async || {
        let page = office.plane.ask("GET", "/metrics").send().await;
        let taken = "tipstaff_webhook_messages_total{result=\"taken\"} 5";
        page.text().lines().any(|line| line == taken)
    })
    .await;
    office.plane.end().await;
}

#[tokio::test]
async fn a_restart_tells_what_waits_again_and_doctor_says_when_nobody_listens() {
    let mut receiver = Receiver::start().await;
    let mut office = Office::with(&receiver.more).await;
    let id = office.ask("otto").await;
    let first = receiver.next().await;
    office.plane.restart().await;
    let again = receiver.next().await;
    assert_eq!(again, first, "the same, under the same id");
    let place = receiver.url.trim_end_matches("/hook").to_owned();
    let doctor = async |plane: &Plane| {
        let told = plane.admin("GET", "/v1/doctor", None).await.json();
        let mut told = told.as_array().unwrap().iter();
        told.find(|it| it["check"] == "webhook").cloned().unwrap()
    };
    let well = doctor(&office.plane).await;
    assert_eq!(well["status"], "ok", "{well}");
    // Its listener is gone, and the port with it.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    office.plane.stop().await.unwrap();
    office
        .plane
        .reconfigure(|setup| setup.tail = setup.tail.replace(&place, &nobody));
    office.plane.boot().await.unwrap();
    until("it is told that nobody listens", async || {
        doctor(&office.plane).await["status"] == "warn"
    })
    .await;
    let told = doctor(&office.plane).await;
    let text = told["finding"].as_str().unwrap();
    assert!(
        text.starts_with(&nobody) && !text.contains("/hook"),
        "{text}"
    );
    assert!(text.contains("1 message waits for it"), "{text}");
    // Calls and approvals do not wait for it.
    let done = office.answer("otto", &id, "approve").await;
    assert_eq!(done.status, 200, "{}", done.text());
    office.plane.end().await;
}

#[tokio::test]
async fn a_webhook_whose_secret_is_none_keeps_the_node_from_starting() {
    let receiver = Receiver::start().await;
    let mut office = Office::with(&receiver.more).await;
    office.plane.stop().await.unwrap();
    let secret = receiver.folder.path().join("webhook.secret");
    for wrong in [Some("correct horse battery staple"), None] {
        match wrong {
            Some(text) => std::fs::write(&secret, text).unwrap(),
            None => std::fs::remove_file(&secret).unwrap(),
        }
        let error = office.plane.boot().await.unwrap_err().to_string();
        assert!(error.starts_with("`approvals.webhook_secret`: "), "{error}");
        assert!(!error.contains("horse"), "{error}");
    }
    std::fs::write(&secret, format!("whsec_{}", STANDARD.encode([5; 32]))).unwrap();
    office.plane.boot().await.unwrap();
    office.plane.end().await;
}

#[tokio::test]
async fn doctor_says_that_calls_are_held_and_nobody_can_sign_in() {
    let plane = Plane::start().await;
    let doctor = async |plane: &Plane| {
        let told = plane.admin("GET", "/v1/doctor", None).await.json();
        let told = told.as_array().unwrap().iter();
        told.filter(|it| it["check"] == "approvals")
            .cloned()
            .collect::<Vec<_>>()
    };
    let told = doctor(&plane).await;
    assert_eq!(told[0]["status"], "fail", "{told:?}");
    let text = told[0]["finding"].as_str().unwrap();
    assert!(
        text.starts_with("`large-refunds-wait` holds calls"),
        "{text}"
    );
    plane
        .activate("@id(\"a\") permit (principal, action, resource);")
        .await
        .unwrap();
    assert!(doctor(&plane).await.is_empty());
    plane.end().await;
}
