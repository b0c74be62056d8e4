//! People sign in, and their clients get tokens: the ways that must work.

use ledger::Kind;
use serde_json::{Value, json};
use testkit::idp::{field, parameters, query};
use testkit::{Answer, Browser, Idp, Plane, until};
use vocab::Digest;

use crate::common::ANY;

pub(crate) const REDIRECT: &str = "http://127.0.0.1:9876/callback";
pub(crate) const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-0123456789";

/// A plane with a provider, at which `maya` is `sub-maya`; everybody may start `helper`.
pub(crate) async fn with_idp(more: &str) -> (Plane, Idp) {
    let idp = Idp::start().await;
    let config = idp.config(more);
    let plane = Plane::with(|setup| setup.tail.push_str(&config)).await;
    idp.keep_time(&plane);
    helper(&plane).await;
    (plane, idp)
}

/// A plane with the node's own login.
pub(crate) async fn with_local_login() -> Plane {
    let plane = Plane::with(|setup| setup.tail.push_str("[login]\nlocal = true\n")).await;
    helper(&plane).await;
    plane
}

async fn helper(plane: &Plane) {
    plane
        .register(
            "helper",
            json!({"people": "everyone", "purposes": ["help", "triage"]}),
        )
        .await;
    let body = json!({"external_id": "sub-maya"});
    let linked = plane
        .admin("POST", "/v1/sponsors/maya/link", Some(body))
        .await;
    assert_eq!(linked.status, 200, "{}", linked.text());
}

pub(crate) fn challenge(verifier: &str) -> String {
    use base64::Engine as _;
    let digest = Digest::of(verifier.as_bytes());
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest.as_bytes())
}

/// Registers a client, and gives its id.
pub(crate) async fn register_client(plane: &Plane, redirects: Value) -> String {
    let body = json!({"client_name": "An editor", "redirect_uris": redirects});
    let answer = plane
        .ask("POST", "/oauth/register")
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["client_id"].as_str().unwrap().to_owned()
}

/// The path of a request for a code, with these parameters over those of an honest one; an empty
/// one is left out.
pub(crate) fn authorize_path(client: &str, changes: &[(&str, &str)]) -> String {
    let resource = format!("{}/mcp/files", Plane::public_url());
    let challenge = challenge(VERIFIER);
    let mut all = vec![
        ("response_type", "code"),
        ("client_id", client),
        ("redirect_uri", REDIRECT),
        ("state", "a state&more"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
        ("resource", &resource),
    ];
    for (name, value) in changes {
        all.retain(|(known, _)| known != name);
        if !value.is_empty() {
            all.push((name, value));
        }
    }
    format!("/oauth/authorize?{}", query(&all))
}

pub(crate) fn location(answer: &Answer) -> String {
    assert_eq!(answer.status, 303, "{}", answer.text());
    answer.header("location").unwrap().to_owned()
}

/// What a client got by its redirect.
pub(crate) fn returned(answer: &Answer) -> std::collections::HashMap<String, String> {
    let location = location(answer);
    let (to, query) = location.split_once('?').unwrap();
    assert_eq!(to, REDIRECT);
    parameters(query)
}

/// Agrees on a consent page.
pub(crate) async fn agree(browser: &mut Browser<'_>, page: &Answer, choice: &str) -> Answer {
    assert_eq!(page.status, 200, "{}", page.text());
    let number = field(page, "number");
    let fields = [
        ("number", &*number),
        ("choice", choice),
        ("answer", "agree"),
    ];
    browser.post("/oauth/consent", &fields).await
}

/// Signs in at the provider on the way to `path`, and gives the page at its end.
pub(crate) async fn sign_in(browser: &mut Browser<'_>, idp: &Idp, path: &str) -> Answer {
    let sent = location(&browser.get(path).await);
    let back = idp.signs_in(&sent, &json!({"sub": "sub-maya"}));
    let onward = location(&browser.get(&back).await);
    assert_eq!(onward, path);
    browser.get(&onward).await
}

/// A code, by a person who is signed in already.
pub(crate) async fn code_for(browser: &mut Browser<'_>, client: &str) -> String {
    let page = browser.get(&authorize_path(client, &[])).await;
    returned(&agree(browser, &page, "helper help").await)["code"].clone()
}

pub(crate) async fn redeem(
    plane: &Plane,
    client: &str,
    code: &str,
    changes: &[(&str, &str)],
) -> Answer {
    let mut all = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("client_id", client),
        ("code_verifier", VERIFIER),
    ];
    for (name, value) in changes {
        all.retain(|(known, _)| known != name);
        if !value.is_empty() {
            all.push((name, value));
        }
    }
    token_endpoint(plane, &all).await
}

pub(crate) async fn refresh(plane: &Plane, client: &str, token: &str) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("client_id", client),
    ];
    token_endpoint(plane, &form).await
}

pub(crate) async fn token_endpoint(plane: &Plane, form: &[(&str, &str)]) -> Answer {
    plane
        .ask("POST", "/oauth/token")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(query(form))
        .send()
        .await
}

/// What a call with a bearer token comes to.
pub(crate) async fn call(plane: &Plane, token: &str) -> Answer {
    let params = format!(r#""name":"anything","arguments":{ANY}"#);
    plane
        .bearer(token)
        .modern()
        .ask("tools/call", Some("anything"), &params)
        .send()
        .await
}

#[tokio::test]
async fn a_person_signs_in_consents_and_their_client_acts_for_them() {
    let (mut plane, idp) = with_idp("").await;
    let server = plane
        .ask("GET", "/.well-known/oauth-authorization-server")
        .send()
        .await
        .json();
    for (name, expected) in [
        ("code_challenge_methods_supported", json!(["S256"])),
        (
            "authorization_response_iss_parameter_supported",
            json!(true),
        ),
        ("client_id_metadata_document_supported", json!(true)),
        ("response_types_supported", json!(["code"])),
        //= https://www.rfc-editor.org/rfc/rfc8414#section-2
        //= type=test
        //# This is REQUIRED unless no grant types are supported that use the authorization
        //# endpoint.
        (
            "authorization_endpoint",
            json!(format!("{}/oauth/authorize", Plane::public_url())),
        ),
        (
            "revocation_endpoint_auth_methods_supported",
            json!(["private_key_jwt", "none"]),
        ),
    ] {
        assert_eq!(server[name], expected, "{name}");
    }
    let client = register_client(&plane, json!([REDIRECT])).await;
    let mut browser = Browser::new(&plane);
    let path = authorize_path(&client, &[]);
    let page = sign_in(&mut browser, &idp, &path).await;
    let text = page.text();
    assert!(
        text.contains("An editor") && text.contains("127.0.0.1:9876"),
        "{text}"
    );
    assert!(text.contains("a program on this computer"), "{text}");
    assert!(
        text.contains("helper for help") && text.contains("Some Person"),
        "{text}"
    );
    let back = returned(&agree(&mut browser, &page, "helper help").await);
    assert_eq!(back["state"], "a state&more");
    assert_eq!(back["iss"], Plane::public_url());
    let given = redeem(&plane, &client, &back["code"], &[]).await;
    assert_eq!(given.status, 200, "{}", given.text());
    assert_eq!(given.header("cache-control"), Some("no-store"));
    let given = given.json();
    assert_eq!(given["token_type"], "Bearer");
    assert_eq!(given["purpose"], "help");
    let token = given["access_token"].as_str().unwrap();
    assert_eq!(call(&plane, token).await.status, 200);
    let path = format!("/v1/instances/{}", given["instance"].as_str().unwrap());
    let instance = plane.admin("GET", &path, None).await.json();
    assert_eq!(instance["sponsor"], "maya");
    assert_eq!(instance["agent"], "helper");
    assert_eq!(instance["via"]["person"]["sign_in"], "oidc");
    // Each refresh token is good once, and the next one after it.
    let next = refresh(&plane, &client, given["refresh_token"].as_str().unwrap()).await;
    assert_eq!(next.status, 200, "{}", next.text());
    let next = next.json();
    assert_eq!(next["instance"], given["instance"]);
    assert_ne!(next["refresh_token"], given["refresh_token"]);
    assert_eq!(
        call(&plane, next["access_token"].as_str().unwrap())
            .await
            .status,
        200
    );
    // Which one is next is on record: a restart changes nothing.
    drop(browser);
    plane.restart().await;
    let after = refresh(&plane, &client, next["refresh_token"].as_str().unwrap()).await;
    assert_eq!(after.status, 200, "{}", after.text());
    plane.end().await;
}

#[tokio::test]
async fn a_client_that_proves_a_key_gets_tokens_bound_to_it() {
    let (plane, idp) = with_idp("").await;
    let client = register_client(&plane, json!([REDIRECT])).await;
    let mut browser = Browser::new(&plane);
    let page = sign_in(&mut browser, &idp, &authorize_path(&client, &[])).await;
    let code = returned(&agree(&mut browser, &page, "helper help").await)["code"].clone();
    let agent = plane.agent("triage").await;
    let (key, other) = (agent.fresh_key(), agent.fresh_key());
    let ask = async |form: &[(&str, &str)], key: Option<&tokens::DpopKey>| {
        let ask = plane
            .ask("POST", "/oauth/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(query(form));
        match key {
            Some(key) => ask.header("dpop", plane.endpoint_proof(key)).send().await,
            None => ask.send().await,
        }
    };
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", REDIRECT),
        ("client_id", &client),
        ("code_verifier", VERIFIER),
    ];
    let given = ask(&form, Some(&key)).await;
    assert_eq!(given.json()["token_type"], "DPoP", "{}", given.text());
    let token = given.json()["refresh_token"].as_str().unwrap().to_owned();
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", &token),
        ("client_id", &client),
    ];
    for wrong in [None, Some(&*other)] {
        let refused = ask(&form, wrong).await;
        assert_eq!(
            refused.json()["error"],
            "invalid_grant",
            "{}",
            refused.text()
        );
    }
    assert_eq!(ask(&form, Some(&key)).await.status, 200);
    plane.end().await;
}

#[tokio::test]
async fn who_started_an_instance_is_told_from_who_sponsors_its_agent() {
    let plane = with_local_login().await;
    plane.register("other", json!({"sponsor": "otto"})).await;
    let client = register_client(&plane, json!([REDIRECT])).await;
    let mut browser = Browser::new(&plane);
    browser.local_login("otto").await;
    let page = browser.get(&authorize_path(&client, &[])).await;
    let back = returned(&agree(&mut browser, &page, "helper triage").await);
    let given = redeem(&plane, &client, &back["code"], &[]).await.json();
    let id = given["instance"].as_str().unwrap();
    let path = format!("/v1/trace/{id}");
    let traced = plane.admin("GET", &path, None).await.json();
    assert_eq!(traced["instance"]["sponsor"], "otto");
    let hop = &traced["chain"][0];
    assert_eq!(hop["sponsor"], "maya");
    let agent = plane.admin("GET", "/v1/agents/helper", None).await.json();
    assert_eq!(agent["sponsor"], "maya");
    // What a suspension stops is told by who acts for them, too.
    let acting = async |who: &str| {
        let path = format!("/v1/sponsors/{who}");
        plane.admin("GET", &path, None).await.json()["acting"].clone()
    };
    assert_eq!(
        (acting("otto").await, acting("maya").await),
        (1.into(), 0.into())
    );
    let moved = plane
        .admin(
            "POST",
            "/v1/agents/helper/transfer",
            Some(json!({"to": "otto"})),
        )
        .await
        .json();
    let transferred = moved["records"][0]["index"].as_u64().unwrap();
    let traced = plane
        .admin("GET", &format!("/v1/trace/{id}"), None)
        .await
        .json();
    let hop = &traced["chain"][0];
    assert_eq!(hop["sponsor"], "otto");
    assert_eq!(hop["acceptance_record"], format!("control/{transferred}"));
    plane.end().await;
}

#[tokio::test]
async fn without_a_provider_the_nodes_own_login_serves_and_says_so() {
    let plane = with_local_login().await;
    let client = register_client(&plane, json!([REDIRECT])).await;
    let mut browser = Browser::new(&plane);
    let path = authorize_path(&client, &[]);
    let waiting = browser.get(&path).await;
    assert_eq!(waiting.status, 401);
    assert!(
        waiting.text().contains("tipstaff login ID"),
        "{}",
        waiting.text()
    );
    assert!(waiting.text().contains("http-equiv=\"refresh\""));
    browser.local_login("maya").await;
    let page = browser.get(&path).await;
    assert!(
        page.text().contains("No identity provider is configured"),
        "{}",
        page.text()
    );
    let back = returned(&agree(&mut browser, &page, "helper triage").await);
    let given = redeem(&plane, &client, &back["code"], &[]).await.json();
    let path = format!("/v1/instances/{}", given["instance"].as_str().unwrap());
    let instance = plane.admin("GET", &path, None).await.json();
    assert_eq!(instance["via"]["person"]["sign_in"], "local-login");
    let doctor = plane.admin("GET", "/v1/doctor", None).await.json();
    let found = doctor
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["check"] == "sign-in");
    assert_eq!(found.unwrap()["status"], "warn");
    plane.end().await;
}

#[tokio::test]
async fn a_sponsor_accepts_an_agent_and_what_they_saw_is_kept() {
    let plane = with_local_login().await;
    plane
        .register("porter", json!({"owners": {"technical": "maya"}}))
        .await;
    let mut browser = Browser::new(&plane);
    browser.local_login("maya").await;
    let page = browser.get("/accept/porter").await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.text().contains("Technical owner") && page.text().contains("maya"));
    let (form, terms) = (field(&page, "form"), field(&page, "terms"));
    let done = browser
        .post("/accept/porter", &[("form", &form), ("terms", &terms)])
        .await;
    assert_eq!(done.status, 200, "{}", done.text());
    let agent = plane.admin("GET", "/v1/agents/porter", None).await.json();
    assert_eq!(agent["sponsorship"], "verified");
    assert_eq!(agent["acceptance"], "accepted");
    assert_eq!(agent["sign_in"], "local-login");
    let kept = plane
        .gateway()
        .blobs()
        .get(&terms.parse().unwrap())
        .unwrap()
        .unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    assert_eq!(kept["agent"], "porter");
    assert_eq!(kept["purposes"], json!(["triage"]));
    assert!(!kept.to_string().contains("maya"), "{kept}");
    // What was not shown is not accepted.
    let path = "/v1/agents/porter/owners";
    plane
        .admin("POST", path, Some(json!({"business": "maya"})))
        .await;
    let stale = browser
        .post("/accept/porter", &[("form", &form), ("terms", &terms)])
        .await;
    assert!(
        stale.text().contains("changed while you were looking"),
        "{}",
        stale.text()
    );
    // Nor is it anybody else's to accept, or to know of.
    plane.register("others", json!({"sponsor": "tom"})).await;
    for path in ["/accept/others", "/accept/nobody", "/accept/%00"] {
        assert_eq!(browser.get(path).await.status, 404, "{path}");
    }
    plane.end().await;
}

#[tokio::test]
async fn a_deputy_takes_an_offered_agent_over_in_one_act() {
    let plane = with_local_login().await;
    let agent = plane.register("porter", json!({})).await;
    for other in ["tom", "otto"] {
        let id = format!("of-{other}");
        plane.register(&id, json!({"sponsor": other})).await;
    }
    let token = agent.token("files").await;
    let named = json!({"deputies": ["tom"]});
    let path = "/v1/sponsors/maya/deputies";
    let done = plane.admin("POST", path, Some(named)).await;
    assert_eq!(done.json()["deputies"], json!(["tom"]), "{}", done.text());
    let mut browser = Browser::new(&plane);
    browser.local_login("tom").await;
    // It is hers while she answers for it, and nobody else is told of it.
    assert_eq!(browser.get("/accept/porter").await.status, 404);
    assert!(!browser.get("/accept").await.text().contains("porter"));
    let offer = async || {
        let review = plane.admin("GET", "/v1/review", None).await.json();
        let agents = review["agents"].as_array().unwrap();
        let porter = agents.iter().find(|it| it["id"] == "porter").unwrap();
        porter["offered"][0].clone()
    };
    // What an administrator stopped, an administrator gives to somebody.
    plane.command("/v1/sponsors/maya/suspend").await;
    assert_eq!(offer().await["takes_over"], false);
    assert_eq!(browser.get("/accept/porter").await.status, 404);
    assert!(!browser.get("/accept").await.text().contains("porter"));
    plane.command("/v1/sponsors/maya/resume").await;
    let control = plane.gateway().control();
    let left = register::Command::SuspendSponsor {
        id: "maya".parse().unwrap(),
        signal: Some(register::Signal {
            source: "scim".parse().unwrap(),
            event: "deactivated".parse().unwrap(),
            received_at: vocab::Clock::now(&*plane.clock),
            happened_at: None,
            id: None,
        }),
    };
    let directory = ledger::Actor::node("it");
    control.execute(directory, left).await.unwrap();
    let offered = offer().await;
    assert_eq!(offered["relation"], "deputy");
    assert_eq!(offered["to"], "tom");
    assert_eq!(offered["takes_over"], true);

    let list = browser.get("/accept").await;
    assert!(list.text().contains("Take over porter"), "{}", list.text());
    assert!(list.text().contains("Accept of-tom"), "{}", list.text());
    let page = browser.get("/accept/porter").await;
    assert!(
        page.text().contains("you are their deputy"),
        "{}",
        page.text()
    );
    let (form, terms) = (field(&page, "form"), field(&page, "terms"));
    // Somebody who is offered nothing learns and gets nothing.
    let mut other = Browser::new(&plane);
    other.local_login("otto").await;
    assert_eq!(other.get("/accept/porter").await.status, 404);
    assert!(!other.get("/accept").await.text().contains("porter"));
    let theirs = field(&other.get("/accept/of-otto").await, "form");
    let fields = [("form", &*theirs), ("terms", &*terms)];
    assert_eq!(other.post("/accept/porter", &fields).await.status, 404);

    // The node says by itself how her own cut ended.
    until("her cut is certified", async || {
        let control = plane.gateway().control();
        control.view(|state| state.cuts().all(|cut| cut.certificate.is_some()))
    })
    .await;
    let before = plane.gateway().control().view(register::State::size);
    let fields = [("form", &*form), ("terms", &*terms)];
    let done = browser.post("/accept/porter", &fields).await;
    assert_eq!(done.status, 200, "{}", done.text());
    let porter = plane.admin("GET", "/v1/agents/porter", None).await.json();
    assert_eq!(porter["sponsor"], "tom");
    assert_eq!(porter["sponsorship"], "verified");
    assert_eq!(porter["acceptance"], "accepted");
    // One act of theirs, and the cut in it is certified.
    let tom = plane.admin("GET", "/v1/sponsors/tom", None).await.json();
    let ledger = plane.ledger();
    let index = usize::try_from(before).unwrap();
    let kinds = [Kind::AgentTransferred, Kind::AgentAccepted];
    for (entry, kind) in ledger.control[index..].iter().zip(kinds) {
        assert_eq!(entry.kind, kind);
        assert_eq!(json!(entry.actor.id), tom["handle"]);
        assert!(entry.actor.verified);
    }
    until("the cut is certified", async || {
        let control = plane.gateway().control();
        control.view(|state| state.cut(before).unwrap().certificate.is_some())
    })
    .await;
    let kept = plane.gateway().blobs().get(&terms.parse().unwrap());
    let kept: Value = serde_json::from_slice(&kept.unwrap().unwrap()).unwrap();
    assert_eq!(kept["sponsor"], tom["handle"]);
    assert_ne!(kept["taken_over_from"], Value::Null);
    // What ran under her is over, also when she is back; it starts anew under him.
    let (resume, despite) = (
        "/v1/sponsors/maya/resume",
        json!({"despite_directory": true}),
    );
    let resumed = plane.admin("POST", resume, Some(despite)).await;
    assert!(resumed.status.is_success(), "{}", resumed.text());
    let reply = token.modern().call("anything", ANY).await;
    assert!(!reply.status.is_success(), "{}", reply.json);
    let anew = agent.token("files").await.modern();
    assert_eq!(anew.call("anything", ANY).await.effect(), "allow");
    // Once it is taken, it is nobody else's to take, and sent again it is his own.
    let again = browser.post("/accept/porter", &fields).await;
    assert!(again.text().contains("changed while you were looking"));
    plane.end().await;
}

#[tokio::test]
async fn who_is_not_known_or_suspended_is_told_so_and_gets_nothing() {
    let (plane, idp) = with_idp("").await;
    let client = register_client(&plane, json!([REDIRECT])).await;
    let path = authorize_path(&client, &[]);
    // An address makes nobody known, whoever vouches for it.
    for claims in [
        json!({"sub": "sub-tom"}),
        json!({"sub": "x", "email": "maya@it.example", "email_verified": true}),
        json!({"sub": "maya"}),
    ] {
        let mut browser = Browser::new(&plane);
        let sent = location(&browser.get(&path).await);
        let refused = browser.get(&idp.signs_in(&sent, &claims)).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(refused.text().contains("You are not known here"));
        assert!(refused.text().contains(claims["sub"].as_str().unwrap()));
        assert!(!browser.cookies.contains_key("tipstaff"));
    }
    let mut browser = Browser::new(&plane);
    let page = sign_in(&mut browser, &idp, &path).await;
    plane.command("/v1/sponsors/maya/suspend").await;
    // Who was signed in is so no more, from the very next request.
    let refused = agree(&mut browser, &page, "helper help").await;
    assert_eq!(refused.status, 400);
    let sent = location(&browser.get(&path).await);
    let refused = browser
        .get(&idp.signs_in(&sent, &json!({"sub": "sub-maya"})))
        .await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("suspended"), "{}", refused.text());
    plane.end().await;
}

#[tokio::test]
async fn a_claim_of_the_configurations_can_be_the_id() {
    let (plane, idp) = with_idp("id = \"preferred_username\"").await;
    let mut browser = Browser::new(&plane);
    let sent = location(&browser.get("/login").await);
    let claims = json!({"sub": "x", "preferred_username": "maya"});
    assert_eq!(
        location(&browser.get(&idp.signs_in(&sent, &claims)).await),
        "/login"
    );
    let page = browser.get("/login").await;
    assert!(page.text().contains("As Some Person"), "{}", page.text());
    let out = browser.post("/logout", &[("form", "made-up")]).await;
    assert_eq!(out.status, 403);
    plane.end().await;
}

#[tokio::test]
async fn a_node_at_which_nobody_can_sign_in_offers_no_codes() {
    let plane = Plane::start().await;
    let server = plane
        .ask("GET", "/.well-known/oauth-authorization-server")
        .send()
        .await
        .json();
    assert_eq!(server["authorization_endpoint"], Value::Null);
    assert_eq!(server["response_types_supported"], json!([]));
    let mut browser = Browser::new(&plane);
    assert_eq!(browser.get("/login").await.status, 503);
    plane.agent("triage").await;
    let refused = plane
        .admin("POST", "/v1/login", Some(json!({"id": "maya"})))
        .await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    plane.end().await;
}
