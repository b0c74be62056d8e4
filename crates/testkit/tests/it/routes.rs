//! The node's own routes: metadata, tokens, the logs' public side, health and metrics.

use std::fs;
use std::time::Duration;

use ledger::note::Verifier;
use ledger::tile::{self, Tile};
use ledger::{Checkpoint, hash};
use serde_json::{Value, json};
use store::Fault;
use testkit::{Answer, Plane, until};
use vocab::Digest;

use crate::common::{Client, ERAS, PUBLIC};

/// Path, status, media type.
//= https://www.rfc-editor.org/rfc/rfc8414#section-3.2
//= type=test
//# A successful response MUST use the 200 OK HTTP status code and return a JSON object using
//# the "application/json" content type
//= https://www.rfc-editor.org/rfc/rfc9728#section-3.2
//= type=test
//# A successful response MUST use the 200 OK HTTP status code and return a JSON object using
//# the application/json content type
const ROUTES: &[(&str, u16, &str)] = &[
    ("/.well-known/oauth-authorization-server", 200, JSON),
    ("/.well-known/oauth-protected-resource/mcp/files", 200, JSON),
    (
        "/.well-known/oauth-protected-resource/mcp/nobody",
        404,
        TEXT,
    ),
    ("/.well-known/oauth-protected-resource/mcp/%00", 404, TEXT),
    ("/oauth/jwks", 200, JSON),
    ("/ledger/control/checkpoint", 200, TEXT),
    ("/ledger/calls/vkey", 200, TEXT),
    ("/ledger/control/tile/0/000.p/1", 200, BYTES),
    ("/ledger/control/tile/0/000.p/255", 404, TEXT),
    ("/ledger/control/tile/0/%30%30%30.p/1", 404, TEXT),
    ("/ledger/control/tile/entries/000.p/1", 401, TEXT),
    ("/ledger/control/segments/0.seg", 404, TEXT),
    ("/ledger/../node.json", 404, TEXT),
    ("/healthz", 200, JSON),
    ("/readyz", 200, JSON),
    ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
    ("/nowhere", 404, TEXT),
];

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

fn expect(answer: &Answer, status: u16, what: &str) {
    assert_eq!(answer.status.as_u16(), status, "{what}: {:?}", answer.body);
}

#[tokio::test]
async fn every_route_answers_its_methods_by_its_names_alone() {
    let plane = Plane::start().await;
    for (path, status, media_type) in ROUTES {
        let answer = plane.ask("GET", path).send().await;
        expect(&answer, *status, path);
        assert_eq!(answer.header("content-type"), Some(*media_type), "{path}");
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
        let head = plane.ask("HEAD", path).send().await;
        expect(&head, *status, path);
        assert!(head.body.is_empty(), "{path}");
        let other = plane.ask("GET", path).header("host", "evil.example");
        expect(&other.send().await, 403, path);
        let origin = plane
            .ask("GET", path)
            .header("origin", "http://evil.example");
        expect(&origin.send().await, 403, path);
        if *path != "/nowhere" {
            let posted = plane.ask("POST", path).send().await;
            expect(&posted, 405, path);
            assert_eq!(posted.header("allow"), Some("GET,HEAD"), "{path}");
        }
    }
    let fetched = plane.ask("GET", "/oauth/token").send().await;
    expect(&fetched, 405, "/oauth/token");
    assert_eq!(fetched.header("allow"), Some("POST"));
    let ledger = plane.ledger_with_refusals().await;
    assert_eq!(ledger.refused("host-or-origin"), 2 * ROUTES.len() as u64);
    plane.end().await;
}

#[tokio::test]
async fn metadata_leads_from_an_upstream_to_a_token() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let get = async |path: &str| plane.ask("GET", path).send().await.json();
    //= https://www.rfc-editor.org/rfc/rfc9728#section-3
    //= type=test
    //# Protected resources supporting metadata MUST make a JSON document containing metadata as
    //# specified in Section 2 available at a URL
    //= https://www.rfc-editor.org/rfc/rfc9728#section-3.1
    //= type=test
    //# MUST be queried using an HTTP GET request at the previously specified URL.
    let resource = get("/.well-known/oauth-protected-resource/mcp/files").await;
    assert_eq!(
        resource["resource"],
        format!("{}/mcp/files", Plane::public_url())
    );
    //= https://www.rfc-editor.org/rfc/rfc8414#section-3
    //= type=test
    //# Authorization servers supporting metadata MUST make a JSON document containing metadata as
    //# specified in Section 2 available at a path
    //= https://www.rfc-editor.org/rfc/rfc8414#section-3.1
    //= type=test
    //# MUST be queried using an HTTP "GET" request at the previously specified path.
    let server = get("/.well-known/oauth-authorization-server").await;
    assert_eq!(resource["authorization_servers"], json!([server["issuer"]]));
    assert_eq!(
        server["token_endpoint"],
        format!("{}/oauth/token", Plane::public_url())
    );
    let key = agent.fresh_key();
    let answer = agent.token_request("files", Some(&key)).send().await;
    expect(&answer, 200, "a token");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["token_type"], "DPoP");
    let signed_by = answer.json()["access_token"].as_str().map(|token| {
        let header = token.split('.').next().unwrap().to_owned();
        let header =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, header);
        serde_json::from_slice::<Value>(&header.unwrap()).unwrap()["kid"].clone()
    });
    assert_eq!(
        get("/oauth/jwks").await["keys"][0]["kid"],
        signed_by.unwrap()
    );
    plane.end().await;
}

#[tokio::test]
async fn refused_tokens_say_why_in_the_words_of_oauth() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let good = agent.token_request("files", None);
    let form = "application/x-www-form-urlencoded";
    let long = "a=".to_owned() + &"a".repeat(65 * 1024);
    let longer = "a=".to_owned() + &"a".repeat(129 * 1024);
    let check = async |what: &str, ask: testkit::Ask, status: u16, code: &str| {
        let answer = ask.send().await;
        expect(&answer, status, what);
        assert_eq!(answer.json()["error"], code, "{what}: {}", answer.text());
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    };
    let typed = good.clone().header("content-type", "application/json");
    check("not a form", typed, 400, "invalid_request").await;
    let empty = plane
        .ask("POST", "/oauth/token")
        .header("content-type", form);
    check("nothing", empty.clone(), 400, "invalid_request").await;
    check("long", empty.clone().body(long), 400, "invalid_request").await;
    check("longer", empty.clone().body(longer), 413, "invalid_request").await;
    let other = empty.body("grant_type=password&username=a&password=b");
    check("another grant", other, 400, "unsupported_grant_type").await;
    let stranger = plane.agent("other").await.token_request("nobody", None);
    check("no upstream", stranger, 400, "invalid_target").await;
    expect(&good.clone().send().await, 200, "good");
    check("again", good, 401, "invalid_client").await;
    let ledger = plane.ledger_with_refusals().await;
    assert_eq!(ledger.refused("bad-token-request"), 5);
    assert_eq!(ledger.refused("unknown-resource"), 1);
    assert_eq!(ledger.refused("replayed-assertion"), 1);
    plane.end().await;
}

#[tokio::test]
async fn anyone_can_follow_the_logs_and_auditors_can_read_them() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let client = Client::new(&agent.token("files").await, ERAS[0]).await;
    for _ in 0..3 {
        client.call("read_text_file", PUBLIC).await;
    }
    plane.gateway().calls().publish().await.unwrap();
    let token = fs::read_to_string(plane.folder().join("keys/auditor.token")).unwrap();
    let get = async |path: &str| plane.ask("GET", path).send().await;
    let audit = async |path: &str, token: &str| {
        let ask = plane.ask("GET", path);
        ask.header("authorization", format!("Bearer {token}"))
            .send()
            .await
    };
    for log in ["control", "calls"] {
        let verifier: Verifier = get(&format!("/ledger/{log}/vkey"))
            .await
            .text()
            .trim()
            .parse()
            .unwrap();
        let checkpoint = get(&format!("/ledger/{log}/checkpoint")).await;
        assert_eq!(checkpoint.header("cache-control"), Some("no-cache"));
        let checkpoint = Checkpoint::open(checkpoint.text(), &verifier).unwrap();
        assert!(checkpoint.size > 0 && checkpoint.size < 256, "one tile");
        let size = checkpoint.size;
        let path = format!("/ledger/{log}/tile/0/000.p/{size}");
        let hashes = get(&path).await;
        assert_eq!(
            hashes.header("cache-control"),
            Some("public, max-age=31536000, immutable")
        );
        let hashes = tile::hashes(&hashes.body).unwrap();
        assert_eq!(root(&hashes), checkpoint.root, "{log}");
        let beyond = format!("/ledger/{log}/tile/0/000.p/{}", size + 100);
        expect(&get(&beyond).await, 404, &beyond);
        let entries = format!("/ledger/{log}/tile/entries/000.p/{size}");
        expect(&audit(&entries, "").await, 401, "no token");
        let wrong = audit(&entries, &token.trim().replace(['a', 'e'], "b")).await;
        expect(&wrong, 401, "a wrong token");
        assert_eq!(
            wrong.header("www-authenticate"),
            Some("Bearer realm=\"ledger\"")
        );
        let read = audit(&entries, token.trim()).await;
        expect(&read, 200, "an auditor");
        assert!(read.header("cache-control").unwrap().starts_with("private"));
        let leaves: Vec<_> = tile::entries(&read.body)
            .unwrap()
            .into_iter()
            .map(hash::leaf)
            .collect();
        assert_eq!(leaves, hashes, "{log}");
        let beyond = format!("/ledger/{log}/tile/entries/000.p/{}", size + 100);
        expect(&audit(&beyond, token.trim()).await, 404, &beyond);
    }
    fs::remove_file(plane.folder().join("keys/auditor.token")).unwrap();
    let path = "/ledger/control/tile/entries/000.p/1";
    expect(&audit(path, "").await, 401, "no token is kept");
    let tile: Tile = "tile/entries/000.p/1".parse().unwrap();
    assert!(path.ends_with(&tile.to_string()));
    plane.end().await;
}

/// The root over less than a tile of leaves.
fn root(leaves: &[Digest]) -> Digest {
    let mut frontier = ledger::tree::Frontier::new();
    for leaf in leaves {
        frontier.append(*leaf);
    }
    frontier.root()
}

/// Whether the node is ready, and the parts that are not.
async fn readiness(plane: &Plane) -> (u16, Vec<String>) {
    let answer = plane.ask("GET", "/readyz").send().await;
    let json = answer.json();
    let parts = json["parts"].as_array().unwrap().iter();
    let unwell = parts.filter(|part| part["ok"] == false);
    let names = unwell.map(|part| part["name"].as_str().unwrap().to_owned());
    assert_eq!(json["ready"], answer.status == 200, "{json}");
    (answer.status.as_u16(), names.collect())
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let plane = Plane::with(|setup| setup.ready = false).await;
    assert_eq!(readiness(&plane).await, (503, vec!["policy".to_owned()]));
    expect(
        &plane.ask("GET", "/healthz").send().await,
        200,
        "alive all the same",
    );
    plane.tools_known().await;
    plane.activate(testkit::plane::POLICIES).await.unwrap();
    assert_eq!(readiness(&plane).await, (200, vec![]));
    let agent = plane.agent("triage").await;
    let client = Client::new(&agent.token("files").await, ERAS[0]).await;
    // The first call makes the day's key, which is no part of the log.
    assert!(!client.call("read_text_file", PUBLIC).await.is_error());
    plane.faults.set(Fault::Full);
    assert!(client.call("read_text_file", PUBLIC).await.is_error());
    assert_eq!(readiness(&plane).await.0, 503);
    assert!(readiness(&plane).await.1.contains(&"calls-log".to_owned()));
    plane.faults.set(Fault::None);
    // Nobody calls a node that is not ready: it gets well by itself.
    until("the node is ready again", async || {
        readiness(&plane).await.0 == 200
    })
    .await;
    plane.clock.set_back(Duration::from_secs(20));
    assert_eq!(readiness(&plane).await, (503, vec!["clock".to_owned()]));
    plane.clock.set_forward(Duration::from_secs(20));
    assert_eq!(readiness(&plane).await, (200, vec![]));
    let (keyring, away) = (plane.data().join("keyring"), plane.folder().join("away"));
    fs::rename(&keyring, &away).unwrap();
    fs::write(&keyring, "").unwrap();
    assert_eq!(readiness(&plane).await, (503, vec!["keyring".to_owned()]));
    fs::remove_file(&keyring).unwrap();
    fs::rename(&away, &keyring).unwrap();
    assert_eq!(readiness(&plane).await, (200, vec![]));
    plane.end().await;
}

#[tokio::test]
async fn below_the_watermark_calls_are_refused_and_administration_goes_on() {
    let huge = "ledger = { refuse_free_mib = 17592186044415 }";
    let plane = Plane::with(|setup| setup.top = huge.to_owned()).await;
    until("the disk was looked at", async || {
        readiness(&plane).await.0 == 503
    })
    .await;
    assert_eq!(
        readiness(&plane).await.1,
        vec!["serving".to_owned(), "disk".to_owned()]
    );
    let agent = plane.agent("triage").await;
    let answer = agent.token_request("files", None).send().await;
    expect(&answer, 503, "a token");
    assert_eq!(answer.json()["error"], "temporarily_unavailable");
    let degraded = plane.gateway().control().view(|state| {
        let part = "disk".parse().unwrap();
        state.node().degraded.get(&part).map(ToString::to_string)
    });
    assert_eq!(degraded.as_deref(), Some("short"));
    plane.end().await;
}

#[tokio::test]
async fn a_paused_node_sends_nothing() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    for era in ERAS {
        let client = Client::new(&agent.token("files").await, era).await;
        let before = plane.files().calls();
        plane.gateway().life().pause();
        let refused = client.call("read_text_file", PUBLIC).await;
        plane.gateway().life().resume();
        assert!(
            refused.is_error() && refused.said().contains("disk space"),
            "{}",
            refused.json
        );
        assert_eq!(plane.files().calls(), before);
        assert!(!client.call("read_text_file", PUBLIC).await.is_error());
    }
    plane.end().await;
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let plane = Plane::start().await;
    let agent = plane.agent("triage").await;
    let client = Client::new(&agent.token("files").await, ERAS[0]).await;
    client.call("read_text_file", PUBLIC).await;
    client
        .call("read_text_file", r#"{"path":"/private/a"}"#)
        .await;
    plane
        .ask("GET", "/ledger/calls/tile/entries/000")
        .send()
        .await;
    let page = plane.ask("GET", "/metrics").send().await;
    let page = page.text();
    for (sample, value) in [
        ("tipstaff_serving", 1),
        ("tipstaff_decisions_total{effect=\"allow\"}", 1),
        (
            "tipstaff_decisions_total{effect=\"deny\",stage=\"policy\"}",
            1,
        ),
        ("tipstaff_outcomes_total{result=\"completed\"}", 1),
        (
            "tipstaff_refused_total{cause=\"not-an-auditor\",at=\"ledger\"}",
            1,
        ),
        ("tipstaff_calls_in_flight", 0),
        ("tipstaff_instances_active", 1),
        ("tipstaff_ledger_writable{log=\"calls\"}", 1),
    ] {
        assert!(
            page.lines().any(|line| line == format!("{sample} {value}")),
            "{sample} {value}\n{page}"
        );
    }
    for family in server::http::FAMILIES {
        let kind = if family.counter { "counter" } else { "gauge" };
        let typed = format!("# TYPE {} {kind}", family.name);
        assert_eq!(page.matches(&typed).count(), 1, "{typed}");
    }
    let named = |line: &str| {
        let name = line.split(['{', ' ']).next().unwrap();
        server::http::FAMILIES.iter().any(|it| it.name == name)
    };
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    samples.for_each(|line| assert!(named(line), "{line}"));
    plane.end().await;
}
