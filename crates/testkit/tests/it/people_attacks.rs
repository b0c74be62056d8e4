//! Known attacks on sign-in, consent and codes (RFC 9700 §4, MCP security best practices), each by
//! its name.

use serde_json::{Value, json};
use testkit::idp::{encode, field, jwk, parameters, sign};
use testkit::{Answer, Browser, Idp, Plane, Setup};
use vocab::Clock as _;

use crate::people::{
    REDIRECT, VERIFIER, agree, authorize_path, call, challenge, code_for, location, redeem,
    refresh, register_client, returned, sign_in, with_idp, with_local_login,
};

fn error(answer: &Answer) -> Value {
    answer.json()["error"].clone()
}

/// A plane on which `maya` is signed in by the node's own login, and a client.
async fn signed_in(plane: &Plane) -> (Browser<'_>, String) {
    let client = register_client(plane, json!([REDIRECT])).await;
    let mut browser = Browser::new(plane);
    browser.local_login("maya").await;
    (browser, client)
}

async fn instances(plane: &Plane) -> usize {
    let all = plane.admin("GET", "/v1/instances", None).await.json();
    all.as_array().unwrap().len()
}

#[tokio::test]
async fn mix_up_is_noticed_before_a_code_goes_anywhere() {
    let (plane, idp) = with_idp("").await;
    let mut browser = Browser::new(&plane);
    // The answer names another provider, or none although this one always does; so do errors.
    for (from, to) in [
        (encode(idp.url()), encode("https://evil.example")),
        (encode(idp.url()), encode(&format!("{}/", idp.url()))),
        (format!("&iss={}", encode(idp.url())), String::new()),
    ] {
        let sent = location(&browser.get("/login").await);
        let back = idp.signs_in(&sent, &json!({"sub": "sub-maya"}));
        assert!(back.contains(&from));
        let answer = browser.get(&back.replace(&from, &to)).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
    }
    let sent = location(&browser.get("/login").await);
    let state = parameters(sent.split_once('?').unwrap().1)["state"].clone();
    let path =
        format!("/login/callback?error=access_denied&state={state}&iss=https://evil.example");
    assert_eq!(browser.get(&path).await.status, 403);
    assert!(idp.posts().is_empty(), "a code went to the token endpoint");
    assert!(!browser.cookies.contains_key("tipstaff"));
    plane.end().await;
}

#[tokio::test]
async fn code_injection_at_the_provider_fails_by_nonce_and_verifier() {
    let (plane, idp) = with_idp("").await;
    let (mut attacker, mut victim) = (Browser::new(&plane), Browser::new(&plane));
    let stolen = location(&attacker.get("/login").await);
    let own = location(&victim.get("/login").await);
    // A code that the provider gave for another browser's sign-in, under this one's state.
    let theirs = idp.signs_in(&stolen, &json!({"sub": "sub-maya"}));
    let query = |url: &str| parameters(url.split_once('?').unwrap().1);
    let (theirs, own) = (query(&theirs), query(&own));
    let path = format!(
        "/login/callback?code={}&state={}&iss={}",
        theirs["code"],
        own["state"],
        encode(idp.url())
    );
    assert_eq!(victim.get(&path).await.status, 403);
    // An ID token of another sign-in, if a provider does not hold its clients to PKCE.
    for claims in [
        json!({"sub": "sub-maya", "nonce": "another"}),
        json!({"sub": "sub-maya", "nonce": null}),
        json!({"sub": "sub-maya", "aud": "another client"}),
        json!({"sub": "sub-maya", "aud": ["tipstaff", "another"]}),
        json!({"sub": "sub-maya", "azp": "another"}),
        json!({"sub": "sub-maya", "iss": "https://evil.example"}),
        json!({"sub": "sub-maya", "exp": 1}),
        json!({"sub": null}),
    ] {
        let sent = location(&victim.get("/login").await);
        let answer = victim.get(&idp.signs_in(&sent, &claims)).await;
        assert_eq!(answer.status, 403, "{claims}");
        assert!(!victim.cookies.contains_key("tipstaff"), "{claims}");
    }
    plane.end().await;
}

#[tokio::test]
async fn login_csrf_fails_without_the_browser_that_began() {
    let (plane, idp) = with_idp("").await;
    let (mut attacker, mut victim) = (Browser::new(&plane), Browser::new(&plane));
    // The attacker signs in as themselves and has the victim's browser end it.
    let sent = location(&attacker.get("/login").await);
    let back = idp.signs_in(&sent, &json!({"sub": "sub-maya"}));
    assert_eq!(victim.get(&back).await.status, 400);
    victim.get("/login").await;
    assert_eq!(victim.get(&back).await.status, 400);
    assert!(!victim.cookies.contains_key("tipstaff"));
    // What a browser keeps is good for a while, for one state, and only as it was sealed.
    let mut late = Browser::new(&plane);
    let sent = location(&late.get("/login").await);
    let back = idp.signs_in(&sent, &json!({"sub": "sub-maya"}));
    let kept = late.cookies["tipstaff-login"].clone();
    late.cookies.insert(
        "tipstaff-login".to_owned(),
        format!("A{}", kept.split_at(1).1),
    );
    assert_eq!(late.get(&back).await.status, 400);
    late.cookies.insert("tipstaff-login".to_owned(), kept);
    plane.clock.advance(std::time::Duration::from_secs(601));
    assert_eq!(late.get(&back).await.status, 400);
    plane.end().await;
}

#[tokio::test]
async fn session_fixation_gains_nothing() {
    let (plane, idp) = with_idp("").await;
    let mut browser = Browser::new(&plane);
    // Somebody planted a session of their own, or one that they made up.
    for planted in ["made-up".to_owned(), {
        let mut attacker = Browser::new(&plane);
        sign_in(&mut attacker, &idp, "/login").await;
        attacker.cookies["tipstaff"].clone()
    }] {
        browser
            .cookies
            .insert("tipstaff".to_owned(), planted.clone());
        let sent = browser.get("/accept/helper").await;
        let sent = if sent.status == 200 {
            // It is the attacker's session: signing in anew leaves it.
            browser.cookies.remove("tipstaff");
            browser.get("/accept/helper").await
        } else {
            sent
        };
        browser
            .cookies
            .insert("tipstaff".to_owned(), planted.clone());
        let back = idp.signs_in(&location(&sent), &json!({"sub": "sub-maya"}));
        browser.get(&back).await;
        assert_ne!(browser.cookies["tipstaff"], planted);
        let mut old = Browser::new(&plane);
        old.cookies.insert("tipstaff".to_owned(), planted);
        assert_eq!(
            old.get("/accept/helper").await.status,
            303,
            "it is signed in yet"
        );
    }
    // Of two cookies of that name one is somebody else's, and nobody knows which.
    let value = &browser.cookies["tipstaff"];
    let two = format!("tipstaff={value}; tipstaff=other");
    let answer = plane
        .ask("GET", "/accept/helper")
        .header("cookie", two)
        .send()
        .await;
    assert_eq!(answer.status, 303);
    plane.end().await;
}

#[tokio::test]
async fn csrf_at_consent_and_acceptance_does_nothing() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    let page = browser.get(&authorize_path(&client, &[])).await;
    let number = field(&page, "number");
    let agreed = [("choice", "helper help"), ("answer", "agree")];
    // A form of another page knows no number, or one of the attacker's own.
    let mut attacker = Browser::new(&plane);
    attacker.local_login("maya").await;
    let theirs = field(&attacker.get(&authorize_path(&client, &[])).await, "number");
    for number in ["", "made-up", &theirs] {
        let fields = [&[("number", number)], &agreed[..]].concat();
        let answer = browser.post("/oauth/consent", &fields).await;
        assert_eq!(answer.status, 400, "{number}");
    }
    // The right number in a browser that is not signed in, or as another page's form.
    let fields = [&[("number", &*number)], &agreed[..]].concat();
    let mut stranger = Browser::new(&plane);
    assert_eq!(stranger.post("/oauth/consent", &fields).await.status, 400);
    let cookie = format!("tipstaff={}", browser.cookies["tipstaff"]);
    for origin in ["https://evil.example", "null"] {
        let answer = plane
            .ask("POST", "/oauth/consent")
            .header("cookie", &cookie)
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(testkit::idp::query(&fields))
            .send()
            .await;
        assert_eq!(answer.status, 403, "{origin}");
    }
    // A link agrees to nothing.
    let path = format!("/oauth/consent?{}", testkit::idp::query(&fields));
    assert_eq!(browser.get(&path).await.status, 405);
    // The question is still open, and is answered once.
    assert_eq!(browser.post("/oauth/consent", &fields).await.status, 303);
    assert_eq!(browser.post("/oauth/consent", &fields).await.status, 400);
    let terms = field(&browser.get("/accept/helper").await, "terms");
    for form in ["", "made-up"] {
        let fields = [("form", form), ("terms", &*terms)];
        assert_eq!(browser.post("/accept/helper", &fields).await.status, 403);
    }
    let agent = plane.admin("GET", "/v1/agents/helper", None).await.json();
    assert_eq!(agent["acceptance"], "asserted");
    plane.end().await;
}

#[tokio::test]
async fn clickjacking_finds_no_page_that_can_be_framed() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    for path in [
        &*authorize_path(&client, &[]),
        "/accept/helper",
        "/login",
        "/login/made-up",
        "/oauth/authorize",
    ] {
        let page = browser.get(path).await;
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{path}");
        assert!(policy.contains("default-src 'none'"), "{path}");
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(page.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(
            page.header("referrer-policy"),
            Some("same-origin"),
            "{path}"
        );
        assert!(!page.text().contains("<script"), "{path}");
    }
    plane.end().await;
}

#[tokio::test]
async fn confused_deputy_a_new_client_never_uses_an_old_consent() {
    let (plane, idp) = with_idp("").await;
    let client = register_client(&plane, json!([REDIRECT])).await;
    let mut browser = Browser::new(&plane);
    let page = sign_in(&mut browser, &idp, &authorize_path(&client, &[])).await;
    returned(&agree(&mut browser, &page, "helper help").await);
    // The person is signed in here and at the provider, which knows one static client. Another
    // client that sends them here gets a page, and so does the same one.
    let other = register_client(&plane, json!(["https://evil.example/callback"])).await;
    let before = instances(&plane).await;
    for path in [
        authorize_path(&other, &[("redirect_uri", "https://evil.example/callback")]),
        authorize_path(&client, &[]),
        format!("{}&prompt=none", authorize_path(&client, &[])),
    ] {
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200);
        assert!(page.text().contains("Let this program act for you?"));
    }
    let page = browser
        .get(&authorize_path(
            &other,
            &[("redirect_uri", "https://evil.example/callback")],
        ))
        .await;
    let text = page.text();
    assert!(
        text.contains("evil.example") && text.contains("Nobody vouches"),
        "{text}"
    );
    assert_eq!(instances(&plane).await, before);
    plane.end().await;
}

#[tokio::test]
async fn redirect_uri_tricks_send_nobody_anywhere() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    for uri in [
        "http://127.0.0.1:9876/callback/",
        "http://127.0.0.1:9876/callback?x=1",
        "http://127.0.0.1:9876/callback#x",
        "http://127.0.0.1:9876/callback/../evil",
        "http://127.0.0.1:9876/Callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.1:9876@evil.example/callback",
        "http://evil.example/callback",
        "http://localhost:9876/callback",
        "https://127.0.0.1:9876/callback",
        "//evil.example/callback",
        "javascript:alert(1)",
        "",
    ] {
        let answer = browser
            .get(&authorize_path(&client, &[("redirect_uri", uri)]))
            .await;
        assert_eq!(answer.status, 400, "{uri}");
        assert_eq!(answer.header("location"), None, "{uri}");
        assert!(!answer.text().contains("evil.example"), "{uri}");
    }
    // The one exception: the port that a program on this machine got.
    let other_port = authorize_path(&client, &[("redirect_uri", "http://127.0.0.1:1/callback")]);
    assert_eq!(browser.get(&other_port).await.status, 200);
    // And the code goes back with the URI that it came to.
    let code = code_for(&mut browser, &client).await;
    let refused = redeem(
        &plane,
        &client,
        &code,
        &[("redirect_uri", "http://127.0.0.1:1/callback")],
    )
    .await;
    assert_eq!(error(&refused), "invalid_grant");
    plane.end().await;
}

#[tokio::test]
async fn open_redirect_asks_before_it_leads_away() {
    let plane = with_local_login().await;
    let evil = "https://evil.example/phish";
    let client = register_client(&plane, json!([evil])).await;
    let mut browser = Browser::new(&plane);
    // Whoever registers anything could otherwise lead people from here to there.
    for change in [
        ("response_type", "token"),
        ("response_mode", "fragment"),
        ("code_challenge_method", "plain"),
        ("resource", "https://evil.example/mcp"),
        ("request", "eyJ"),
    ] {
        let answer = browser
            .get(&authorize_path(&client, &[("redirect_uri", evil), change]))
            .await;
        assert_eq!(answer.status, 400, "{change:?}");
        assert_eq!(answer.header("location"), None, "{change:?}");
        assert!(
            answer.text().contains("https://evil.example/phish?error="),
            "{change:?}"
        );
        assert!(answer.text().contains("&amp;iss="), "{change:?}");
    }
    // Nor does signing in lead anywhere but to where it began.
    for path in [
        "/login?return_to=https://evil.example",
        "/login/https:%2F%2Fevil.example",
    ] {
        assert_eq!(browser.get(path).await.header("location"), None, "{path}");
    }
    plane.end().await;
}

#[tokio::test]
async fn pkce_downgrade_is_refused() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    let short = challenge("x").split_at(42).0.to_owned();
    for changes in [
        &[("code_challenge", ""), ("code_challenge_method", "")][..],
        &[("code_challenge", "")],
        &[("code_challenge_method", "")],
        &[("code_challenge_method", "plain")],
        &[("code_challenge_method", "s256")],
        &[("code_challenge", &short)],
        &[(
            "code_challenge",
            "not base64url of 32 bytes, but 43 bytes!!!!",
        )],
    ] {
        let answer = browser.get(&authorize_path(&client, changes)).await;
        assert_eq!(answer.status, 400, "{changes:?}");
        assert!(
            answer.text().contains("error=invalid_request"),
            "{changes:?}"
        );
    }
    for verifier in [
        "",
        "another-verifier-that-is-long-enough-to-be-one-1",
        "short",
    ] {
        let code = code_for(&mut browser, &client).await;
        let refused = redeem(&plane, &client, &code, &[("code_verifier", verifier)]).await;
        let expected = if verifier.is_empty() {
            "invalid_request"
        } else {
            "invalid_grant"
        };
        assert_eq!(error(&refused), expected, "{verifier}");
        // Whoever has a code and not its verifier has stolen it: it is gone.
        if !verifier.is_empty() {
            let again = redeem(&plane, &client, &code, &[]).await;
            assert_eq!(error(&again), "invalid_grant");
        }
    }
    assert_eq!(instances(&plane).await, 0);
    plane.end().await;
}

/// What a security event does to whoever runs something, or is signed in, as `maya`.
pub(crate) async fn revoke_sessions(plane: &Plane) {
    let control = plane.gateway().control();
    let sponsor = control.view(|state| {
        let maya = state.sponsor_by_id(&"maya".parse().unwrap());
        maya.unwrap().handle.clone()
    });
    let signal = register::Signal {
        source: "ssf".parse().unwrap(),
        event: "session-revoked".parse().unwrap(),
        received_at: plane.now(),
        happened_at: None,
        id: None,
    };
    let command = register::Command::RevokeSessions { sponsor, signal };
    let actor = ledger::Actor::node("tester");
    control.execute(actor, command).await.unwrap();
}

/// What a suspension does that is lifted again while the browser's session would still be good.
async fn suspend_and_resume(plane: &Plane) {
    plane.command("/v1/sponsors/maya/suspend").await;
    plane.command("/v1/sponsors/maya/resume").await;
}

#[tokio::test]
async fn a_stolen_browser_session_ends_with_the_sessions_of_its_person() {
    let plane = with_local_login().await;
    ends_all_that_was_begun(&plane, revoke_sessions(&plane)).await;
    plane.end().await;
}

#[tokio::test]
async fn a_stolen_browser_session_does_not_come_back_when_a_suspension_is_lifted() {
    let plane = with_local_login().await;
    ends_all_that_was_begun(&plane, suspend_and_resume(&plane)).await;
    plane.end().await;
}

async fn ends_all_that_was_begun(plane: &Plane, cut: impl Future<Output = ()>) {
    let (mut browser, client) = signed_in(plane).await;
    // All that somebody can have begun: a code, an open question, an open page, a ticket.
    let code = code_for(&mut browser, &client).await;
    let number = field(&browser.get(&authorize_path(&client, &[])).await, "number");
    let page = browser.get("/accept/helper").await;
    let (form, terms) = (field(&page, "form"), field(&page, "terms"));
    let ticket = plane.admin("POST", "/v1/login", Some(json!({"id": "maya"})));
    let ticket = ticket.await.json()["url"].as_str().unwrap().to_owned();
    let ticket = ticket.strip_prefix(Plane::public_url()).unwrap();
    cut.await;
    assert_eq!(
        error(&redeem(plane, &client, &code, &[]).await),
        "invalid_grant"
    );
    let agreed = [
        ("number", &*number),
        ("choice", "helper help"),
        ("answer", "agree"),
    ];
    assert_eq!(browser.post("/oauth/consent", &agreed).await.status, 400);
    let accept = [("form", &*form), ("terms", &*terms)];
    assert_eq!(browser.post("/accept/helper", &accept).await.status, 401);
    assert_eq!(browser.get("/login").await.status, 401);
    let path = authorize_path(&client, &[]);
    assert_eq!(browser.get(&path).await.status, 401);
    let mut other = Browser::new(plane);
    let used = other.post(ticket, &[("answer", "sign-in")]).await;
    assert_eq!(used.status, 404);
    assert_eq!(instances(plane).await, 0);
    let agent = plane.admin("GET", "/v1/agents/helper", None).await.json();
    assert_eq!(agent["acceptance"], "asserted");
    // Whoever signs in again is signed in.
    browser.local_login("maya").await;
    let code = code_for(&mut browser, &client).await;
    assert_eq!(redeem(plane, &client, &code, &[]).await.status, 200);
}

/// Whoever kept the page of an agent that was theirs once accepts nothing with it.
#[tokio::test]
async fn a_stale_acceptance_form_is_refused_after_a_transfer_there_and_back() {
    let plane = with_local_login().await;
    let mut browser = Browser::new(&plane);
    browser.local_login("maya").await;
    let body = json!({"id": "otto", "name": "Otto", "email": "otto@example.com"});
    plane.admin("POST", "/v1/sponsors", Some(body)).await;
    let acceptance = async || {
        let agent = plane.admin("GET", "/v1/agents/helper", None).await.json();
        agent["acceptance"].clone()
    };
    for change in ["transfer", "lapse"] {
        let page = browser.get("/accept/helper").await;
        let (form, terms) = (field(&page, "form"), field(&page, "terms"));
        let stale = [("form", &*form), ("terms", &*terms)];
        if change == "transfer" {
            for to in ["otto", "maya"] {
                let body = Some(json!({"to": to}));
                let moved = plane
                    .admin("POST", "/v1/agents/helper/transfer", body)
                    .await;
                assert_eq!(moved.status, 200, "{}", moved.text());
            }
        } else {
            let signal = register::Signal {
                source: "scim".parse().unwrap(),
                event: "role-changed".parse().unwrap(),
                received_at: plane.now(),
                happened_at: None,
                id: None,
            };
            let agent = "helper".parse().unwrap();
            let lapse = register::Command::LapseAgent { agent, signal };
            let control = plane.gateway().control();
            let done = control.execute(ledger::Actor::node("tester"), lapse).await;
            done.unwrap();
        }
        let before = acceptance().await;
        let shown = browser.post("/accept/helper", &stale).await;
        assert!(shown.text().contains("changed while"), "{}", shown.text());
        assert_eq!(acceptance().await, before, "{change}");
        let terms = field(&shown, "terms");
        let fresh = [("form", &*form), ("terms", &*terms)];
        assert_eq!(browser.post("/accept/helper", &fresh).await.status, 200);
        assert_eq!(acceptance().await, "accepted", "{change}");
    }
    plane.end().await;
}

#[tokio::test]
async fn a_sign_in_begun_before_sessions_were_revoked_signs_nobody_in() {
    let (plane, idp) = with_idp("").await;
    signs_nobody_in(&plane, &idp, revoke_sessions(&plane)).await;
    signs_nobody_in(&plane, &idp, suspend_and_resume(&plane)).await;
    plane.end().await;
}

async fn signs_nobody_in(plane: &Plane, idp: &Idp, cut: impl Future<Output = ()>) {
    let mut browser = Browser::new(plane);
    let sent = location(&browser.get("/accept/helper").await);
    let back = idp.signs_in(&sent, &json!({"sub": "sub-maya"}));
    cut.await;
    let answer = browser.get(&back).await;
    assert_eq!(location(&answer), "/accept/helper");
    // There they are sent to the provider once more.
    let sent = location(&browser.get("/accept/helper").await);
    let back = idp.signs_in(&sent, &json!({"sub": "sub-maya"}));
    browser.get(&back).await;
    assert_eq!(browser.get("/accept/helper").await.status, 200);
}

#[tokio::test]
async fn code_replay_ends_what_the_code_gave() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    let code = code_for(&mut browser, &client).await;
    let given = redeem(&plane, &client, &code, &[]).await.json();
    let token = given["access_token"].as_str().unwrap();
    assert_eq!(call(&plane, token).await.status, 200);
    let again = redeem(&plane, &client, &code, &[]).await;
    assert_eq!(error(&again), "invalid_grant");
    assert_eq!(call(&plane, token).await.status, 401);
    let path = format!("/v1/instances/{}", given["instance"].as_str().unwrap());
    assert_eq!(
        plane.admin("GET", &path, None).await.json()["status"],
        "revoked"
    );
    let next = refresh(&plane, &client, given["refresh_token"].as_str().unwrap()).await;
    assert_eq!(error(&next), "invalid_grant");
    // Two at once: one is first, and neither keeps anything.
    let code = code_for(&mut browser, &client).await;
    let (one, two) = tokio::join!(
        redeem(&plane, &client, &code, &[]),
        redeem(&plane, &client, &code, &[])
    );
    assert!(one.status != 200 || two.status != 200);
    for answer in [one, two].iter().filter(|answer| answer.status == 200) {
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(call(&plane, &token).await.status, 401);
    }
    // A code is good for a minute.
    let code = code_for(&mut browser, &client).await;
    plane.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(
        error(&redeem(&plane, &client, &code, &[]).await),
        "invalid_grant"
    );
    plane.end().await;
}

#[tokio::test]
async fn code_injection_with_another_client_or_resource_fails() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    let other = register_client(&plane, json!([REDIRECT, "http://127.0.0.1/other"])).await;
    let resource = format!("{}/mcp/nothing", Plane::public_url());
    for change in [
        ("client_id", &*other),
        ("resource", &resource),
        ("redirect_uri", "http://127.0.0.1/other"),
    ] {
        let code = code_for(&mut browser, &client).await;
        let refused = redeem(&plane, &client, &code, &[change]).await;
        assert_ne!(refused.status, 200, "{change:?}");
    }
    // A made-up code, and one with the wrong name.
    assert_eq!(
        error(&redeem(&plane, &client, "made-up", &[]).await),
        "invalid_grant"
    );
    // A consent to what was not offered.
    for choice in ["triage help", "helper billing", "helper", "nobody help", ""] {
        let page = browser.get(&authorize_path(&client, &[])).await;
        assert_eq!(
            agree(&mut browser, &page, choice).await.status,
            400,
            "{choice}"
        );
    }
    assert_eq!(instances(&plane).await, 0);
    let refused = returned(&{
        let page = browser.get(&authorize_path(&client, &[])).await;
        let number = field(&page, "number");
        browser
            .post(
                "/oauth/consent",
                &[("number", &number), ("answer", "refuse")],
            )
            .await
    });
    assert_eq!(refused["error"], "access_denied");
    assert_eq!(refused["iss"], Plane::public_url());
    assert_eq!(refused["state"], "a state&more");
    plane.end().await;
}

#[tokio::test]
async fn refresh_replay_ends_the_instance() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    let code = code_for(&mut browser, &client).await;
    let given = redeem(&plane, &client, &code, &[]).await.json();
    let first = given["refresh_token"].as_str().unwrap().to_owned();
    let next = refresh(&plane, &client, &first).await.json();
    let token = next["access_token"].as_str().unwrap();
    assert_eq!(call(&plane, token).await.status, 200);
    // Another client's, a made-up one, one with its number changed: nothing happens by them.
    let other = register_client(&plane, json!(["http://127.0.0.1/other"])).await;
    let changed = first.replacen(".0.", ".1.", 1);
    assert_ne!(changed, first);
    for (client, token) in [
        (&other, &first),
        (&client, &changed),
        (&client, &"tsr_x".to_owned()),
    ] {
        let refused = refresh(&plane, client, token).await;
        assert_eq!(error(&refused), "invalid_grant");
    }
    assert_eq!(call(&plane, token).await.status, 200);
    // The one that was used: somebody has a copy, and nobody knows who.
    assert_eq!(
        error(&refresh(&plane, &client, &first).await),
        "invalid_grant"
    );
    assert_eq!(call(&plane, token).await.status, 401);
    let newest = next["refresh_token"].as_str().unwrap();
    assert_eq!(
        error(&refresh(&plane, &client, newest).await),
        "invalid_grant"
    );
    let kinds: Vec<_> = plane
        .ledger()
        .control
        .iter()
        .map(|line| line.kind)
        .collect();
    assert!(kinds.contains(&ledger::Kind::TokenRefreshed), "{kinds:?}");
    plane.end().await;
}

/// Whoever stole a refresh token, and whoever it was stolen from, use it at the same moment.
#[tokio::test]
async fn refresh_replay_by_two_racing_leaves_neither_with_a_token() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    for _ in 0..4 {
        let code = code_for(&mut browser, &client).await;
        let given = redeem(&plane, &client, &code, &[]).await.json();
        let stolen = given["refresh_token"].as_str().unwrap().to_owned();
        let use_it = || refresh(&plane, &client, &stolen);
        let (one, two, three) = tokio::join!(use_it(), use_it(), use_it());
        let answers = [one, two, three];
        let good: Vec<_> = answers.iter().filter(|it| it.status == 200).collect();
        assert!(good.len() <= 1, "{} of them got a token", good.len());
        for refused in answers.iter().filter(|it| it.status != 200) {
            assert_eq!(error(refused), "invalid_grant", "{}", refused.text());
        }
        // Nobody can tell who is who, so the instance is over, with all that it gave.
        for given in good.iter().map(|it| it.json()).chain([given.clone()]) {
            let token = given["access_token"].as_str().unwrap();
            assert_eq!(call(&plane, token).await.status, 401);
            let next = given["refresh_token"].as_str().unwrap();
            assert_eq!(
                error(&refresh(&plane, &client, next).await),
                "invalid_grant"
            );
        }
    }
    plane.end().await;
}

/// The answer that one request gets is shown to another: a client knows its own by `state`, and what
/// its code stands for is what was asked with that code's request.
#[tokio::test]
async fn state_swap_gives_no_token_for_what_another_request_asked() {
    let plane = with_local_login().await;
    let (mut browser, client) = signed_in(&plane).await;
    let verifiers = ["a".repeat(43), "b".repeat(43)];
    let mut codes = Vec::new();
    for (number, verifier) in verifiers.iter().enumerate() {
        let (state, challenge) = (format!("state-{number}"), challenge(verifier));
        let changes = [("state", &*state), ("code_challenge", &*challenge)];
        let page = browser.get(&authorize_path(&client, &changes)).await;
        let back = returned(&agree(&mut browser, &page, "helper help").await);
        assert_eq!(back["state"], state);
        assert_eq!(back["iss"], Plane::public_url());
        codes.push(back["code"].clone());
    }
    // Each with the verifier of the other; and after that with none.
    for (code, verifier) in codes.iter().zip(verifiers.iter().rev()) {
        let swapped = redeem(&plane, &client, code, &[("code_verifier", verifier)]).await;
        assert_eq!(error(&swapped), "invalid_grant");
    }
    for (code, verifier) in codes.iter().zip(&verifiers) {
        let late = redeem(&plane, &client, code, &[("code_verifier", verifier)]).await;
        assert_eq!(error(&late), "invalid_grant", "a code survived an attempt");
    }
    assert_eq!(instances(&plane).await, 0);
    plane.end().await;
}

/// Names that look like others, and hosts that one reader sees and another does not.
#[tokio::test]
async fn redirect_uris_with_users_look_alikes_and_odd_ports_are_not_registered() {
    let plane = with_local_login().await;
    for uri in [
        "https://app.example@evil.example/cb",
        "https://app.example:443@evil.example/cb",
        "https://app.example%40evil.example/cb",
        "https://\u{430}pp.example/cb",
        "https://app.example\u{ff0f}evil.example/cb",
        "https://app.example\u{2025}evil/cb",
        "https://app.example\\evil.example/cb",
        "http://localhost.evil.example/cb",
        "http://127.1/cb",
        "http://0177.0.0.1/cb",
        "http://[::ffff:127.0.0.1]/cb",
        "http://127.0.0.1:0/cb",
        "http://127.0.0.1:99999/cb",
        "https:/app.example/cb",
        "https://",
        "vbscript://x",
    ] {
        let body = json!({"redirect_uris": ["https://app.example/cb", uri]});
        let ask = plane.ask("POST", "/oauth/register").json(body.to_string());
        let answer = ask.send().await;
        assert_eq!(answer.status, 400, "{uri}");
        assert_eq!(error(&answer), "invalid_redirect_uri", "{uri}");
    }
    // In the form in which DNS has it, such a name is a name; people are shown just that.
    let spelled = "https://xn--pp-7jc.example/cb";
    let client = register_client(&plane, json!([spelled])).await;
    let mut browser = Browser::new(&plane);
    browser.local_login("maya").await;
    let path = authorize_path(&client, &[("redirect_uri", spelled)]);
    let page = browser.get(&path).await;
    assert!(
        page.text().contains("xn--pp-7jc.example"),
        "{}",
        page.text()
    );
    plane.end().await;
}

/// A token of the company's provider, or of another of our upstreams, is not one for this one.
#[tokio::test]
async fn token_passthrough_is_refused() {
    let (plane, idp) = with_idp("").await;
    let mut browser = Browser::new(&plane);
    let client = register_client(&plane, json!([REDIRECT])).await;
    let page = sign_in(&mut browser, &idp, &authorize_path(&client, &[])).await;
    let back = returned(&agree(&mut browser, &page, "helper help").await);
    let given = redeem(&plane, &client, &back["code"], &[]).await.json();
    let ours = given["access_token"].as_str().unwrap();
    assert_eq!(call(&plane, ours).await.status, 200);
    let resource = format!("{}/mcp/files", Plane::public_url());
    let claims: Value = json!({"aud": resource, "sub": "sub-maya", "client_id": "helper"});
    let mut as_ours = claims.clone();
    as_ours["iss"] = json!(Plane::public_url());
    for (what, token) in [
        ("an ID token", idp.issue("JWT", &claims)),
        ("its access token", idp.issue("at+jwt", &claims)),
        ("one that says it is ours", idp.issue("at+jwt", &as_ours)),
        (
            "a refresh token",
            given["refresh_token"].as_str().unwrap().to_owned(),
        ),
        ("a code", back["code"].clone()),
    ] {
        assert_eq!(call(&plane, &token).await.status, 401, "{what}");
    }
    plane.end().await;
}

#[tokio::test]
async fn registration_flooding_fills_nothing() {
    let plane = with_local_login().await;
    let before = plane.ledger().control.len();
    let mut ids = Vec::new();
    for port in 1..=500 {
        ids.push(register_client(&plane, json!([format!("http://127.0.0.1:{port}/cb")])).await);
    }
    assert_eq!(
        plane.ledger().control.len(),
        before,
        "registrations are stored"
    );
    // The first one is as good as the last, since none is kept.
    let mut browser = Browser::new(&plane);
    browser.local_login("maya").await;
    let redirect = ("redirect_uri", "http://127.0.0.1:1/cb");
    assert_eq!(
        browser
            .get(&authorize_path(&ids[0], &[redirect]))
            .await
            .status,
        200
    );
    // Nobody makes one up, or changes what is in one.
    let id = &ids[0];
    for made_up in [
        format!("{id}A"),
        id.replace("tipstaff.", "tipstaff.A"),
        id.rsplit_once('.').unwrap().0.to_owned(),
        "tipstaff.".to_owned(),
        "x".to_owned(),
        format!("tipstaff.{}", "A".repeat(4000)),
    ] {
        let answer = browser.get(&authorize_path(&made_up, &[redirect])).await;
        assert_eq!(answer.status, 400, "{made_up}");
    }
    for (body, code) in [
        (json!({"redirect_uris": []}), "invalid_client_metadata"),
        (
            json!({"redirect_uris": vec!["https://a.example/"; 11]}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["javascript:alert(1)"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": ["http://evil.example/"]}),
            "invalid_redirect_uri",
        ),
        (
            json!({"redirect_uris": ["https://a.example/"], "client_name": "\u{202e}x"}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["https://a.example/"], "client_name": "x".repeat(81)}),
            "invalid_client_metadata",
        ),
        (
            json!({"redirect_uris": ["https://a.example/"], "grant_types": ["implicit"]}),
            "invalid_client_metadata",
        ),
        (json!([]), "invalid_client_metadata"),
    ] {
        let answer = plane
            .ask("POST", "/oauth/register")
            .body(body.to_string())
            .send()
            .await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(error(&answer), code, "{body}");
    }
    plane.end().await;
}

/// A client that describes itself at an address of this machine.
async fn described(change: impl FnOnce(&mut Value)) -> (String, Idp) {
    let host = Idp::start().await;
    let id = format!("{}/client.json", host.url());
    let mut document = json!({
        "client_id": id, "client_name": "A described client", "redirect_uris": [REDIRECT],
    });
    change(&mut document);
    host.serve("/client.json", document);
    (id, host)
}

async fn development(loopback: bool) -> Plane {
    let plane = Plane::with(|setup: &mut Setup| {
        setup.environment = "development".to_owned();
        let login = format!("[login]\nlocal = true\nloopback_clients = {loopback}\n");
        setup.tail.push_str(&login);
    })
    .await;
    plane
        .register(
            "helper",
            json!({"people": "everyone", "purposes": ["help"]}),
        )
        .await;
    plane
}

#[tokio::test]
async fn a_client_that_describes_itself_is_known_by_its_document() {
    let plane = development(true).await;
    let (id, host) = described(|_| {}).await;
    let mut browser = Browser::new(&plane);
    browser.local_login("maya").await;
    let page = browser.get(&authorize_path(&id, &[])).await;
    assert!(
        page.text().contains("A described client"),
        "{}",
        page.text()
    );
    let back = returned(&agree(&mut browser, &page, "helper help").await);
    let given = redeem(&plane, &id, &back["code"], &[("code_verifier", VERIFIER)]).await;
    assert_eq!(given.status, 200, "{}", given.text());
    // It is kept for a while, and then read again.
    assert_eq!(host.served(), 1);
    plane.clock.advance(std::time::Duration::from_secs(301));
    browser.get(&authorize_path(&id, &[])).await;
    assert_eq!(host.served(), 2);
    for change in [
        json!({"client_id": "https://another.example/client.json"}),
        json!({"client_id": null}),
        json!({"client_secret": "x"}),
        json!({"token_endpoint_auth_method": "client_secret_basic"}),
        json!({"token_endpoint_auth_method": "private_key_jwt"}),
        json!({"redirect_uris": []}),
        json!({"redirect_uris": ["http://evil.example/"]}),
        json!({"client_name": null}),
        json!({"client_name": "\u{200b}"}),
    ] {
        let (id, host) = described(|document| {
            for (name, value) in change.as_object().unwrap() {
                document[name] = value.clone();
            }
        })
        .await;
        for _ in 0..2 {
            let refused = browser.get(&authorize_path(&id, &[])).await;
            assert_eq!(refused.status, 400, "{change}");
        }
        assert_eq!(host.served(), 2, "{change}: an error was kept");
    }
    plane.end().await;
}

/// Whoever can change a client's document is not the client whom a person agreed to.
#[tokio::test]
async fn a_document_that_changes_between_authorize_and_token_gains_nothing() {
    let plane = development(true).await;
    let host = Idp::start().await;
    let id = format!("{}/changing/client.json", host.url());
    let other = "https://app.example/callback";
    let document = |change: Value| {
        let mut document = json!({
            "client_id": id, "client_name": "A described client", "redirect_uris": [REDIRECT],
            "token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [jwk(1)]},
        });
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        host.serve("/changing/client.json", document);
    };
    let mut browser = Browser::new(&plane);
    browser.local_login("maya").await;
    let mut number = 0;
    let mut assertion = |seed: u8| {
        number += 1;
        let now = plane.clock.now().as_secs();
        let claims = json!({"iss": id, "sub": id, "aud": Plane::public_url(), "iat": now,
            "exp": now + 60, "jti": number.to_string()});
        sign(seed, "JWT", &claims)
    };
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    for (change, seed, redirect, expected) in [
        // As it was.
        (json!({}), Some(1), REDIRECT, None),
        // It proves nothing any more, or says that its keys are others.
        (
            json!({"token_endpoint_auth_method": "none", "jwks": null}),
            None,
            REDIRECT,
            Some("invalid_grant"),
        ),
        (
            json!({"jwks": {"keys": [jwk(2)]}}),
            Some(1),
            REDIRECT,
            Some("invalid_client"),
        ),
        // People are sent elsewhere: the code went where they were told that it goes.
        (
            json!({"redirect_uris": [other]}),
            Some(1),
            other,
            Some("invalid_grant"),
        ),
        // It is somebody else's, or none.
        (
            json!({"client_id": "https://evil.example/client.json"}),
            Some(1),
            REDIRECT,
            Some("invalid_client"),
        ),
    ] {
        document(json!({}));
        let code = code_for(&mut browser, &id).await;
        document(change.clone());
        let proof = seed.map(&mut assertion);
        let mut form = vec![("redirect_uri", redirect)];
        if let Some(proof) = &proof {
            form.extend([("client_assertion_type", kind), ("client_assertion", proof)]);
        }
        let answer = redeem(&plane, &id, &code, &form).await;
        assert_eq!(
            answer.json()["error"].as_str(),
            expected,
            "{change}: {}",
            answer.text()
        );
    }
    assert_eq!(instances(&plane).await, 1);
    // Nor is anybody sent to where it says now, by a request that was made for before.
    document(json!({"redirect_uris": [other]}));
    let refused = browser.get(&authorize_path(&id, &[])).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("location"), None);
    plane.end().await;
}

#[tokio::test]
async fn ssrf_by_a_clients_document_reaches_nothing_inside() {
    let plane = development(false).await;
    let (id, host) = described(|_| {}).await;
    let mut browser = Browser::new(&plane);
    browser.local_login("maya").await;
    let port = id
        .rsplit_once(':')
        .unwrap()
        .1
        .split('/')
        .next()
        .unwrap()
        .to_owned();
    for id in [
        id.clone(),
        id.replace("http:", "https:"),
        format!("https://localhost:{port}/client.json"),
        format!("https://[::1]:{port}/client.json"),
        format!("https://[::ffff:127.0.0.1]:{port}/client.json"),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        "https://10.0.0.1/client.json".to_owned(),
        "https://metadata.example".to_owned(),
        "https://a.example/../client.json".to_owned(),
        "https://a.example/%2e%2E/client.json".to_owned(),
        "https://a.example/client.json?x=1".to_owned(),
        "https://me@a.example/client.json".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://127.0.0.1/x".to_owned(),
    ] {
        let refused = browser.get(&authorize_path(&id, &[])).await;
        assert_eq!(refused.status, 400, "{id}");
        // Whoever named the address learns nothing of what is there.
        for told in ["refused", "timed out", "connection", "public"] {
            assert!(!refused.text().contains(told), "{id}: {}", refused.text());
        }
    }
    assert_eq!(host.served(), 0);
    plane.end().await;
}
