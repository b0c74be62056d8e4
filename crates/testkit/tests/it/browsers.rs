//! MCP clients that are pages in a browser: which may ask, and what a browser is told of it (CORS).

use serde_json::json;
use testkit::idp::query;
use testkit::{Answer, Ask, Plane};

use crate::common::ANY;

const LISTED: &str = "https://inspector.acme.example";
const HERE: &str = "http://localhost:6274";
const MCP: &str = "/mcp/files";

/// Where clients ask, and what for.
const OPEN: &[(&str, &str)] = &[
    ("/.well-known/oauth-authorization-server", "GET"),
    ("/.well-known/oauth-protected-resource/mcp/files", "GET"),
    ("/oauth/jwks", "GET"),
    ("/oauth/token", "POST"),
    ("/oauth/revoke", "POST"),
    ("/oauth/register", "POST"),
    (MCP, "POST, GET, DELETE"),
];

/// Where no other page has any business, with a method that is answered there.
const CLOSED: &[(&str, &str)] = &[
    ("/oauth/authorize", "GET"),
    ("/oauth/consent", "POST"),
    ("/oauth/introspect", "POST"),
    ("/login", "GET"),
    ("/login/callback", "GET"),
    ("/login/x", "POST"),
    ("/logout", "POST"),
    ("/accept/triage", "POST"),
    ("/access/v1/evaluation", "POST"),
    ("/access/v1/evaluations", "POST"),
    ("/access/v1/requests", "POST"),
    ("/access/v1/requests/x", "GET"),
    ("/.well-known/authzen-configuration", "GET"),
    ("/scim/v2/Users", "GET"),
    ("/ssf/x", "POST"),
    ("/ledger/control/checkpoint", "GET"),
    ("/healthz", "GET"),
    ("/metrics", "GET"),
    ("/nowhere", "GET"),
];

async fn production() -> Plane {
    Plane::with(|setup| setup.top = format!("allowed_origins = [\"{LISTED}\"]")).await
}

async fn development() -> Plane {
    Plane::with(|setup| setup.environment = "development".to_owned()).await
}

fn preflight(plane: &Plane, path: &str, origin: &str) -> Ask {
    plane
        .ask("OPTIONS", path)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type,DPoP,mcp-name,mcp-param-region,x-admin,cookie",
        )
}

/// What every answer to a page says, or does not say.
fn allowed(answer: &Answer) -> Option<&str> {
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert_ne!(answer.header("access-control-allow-origin"), Some("*"));
    answer.header("access-control-allow-origin")
}

#[tokio::test]
async fn a_page_that_is_listed_may_be_a_client() {
    for (plane, origin) in [(production().await, LISTED), (development().await, HERE)] {
        for (path, methods) in OPEN {
            let asked = preflight(&plane, path, origin).send().await;
            assert_eq!(asked.status, 204, "{path}");
            assert_eq!(allowed(&asked), Some(origin), "{path}");
            let told = |name| asked.header(name).unwrap();
            assert_eq!(told("access-control-allow-methods"), *methods, "{path}");
            assert_eq!(
                told("access-control-allow-headers"),
                "authorization, content-type, dpop, mcp-name, mcp-param-region"
            );
            assert_eq!(told("vary"), "origin");
            assert!(asked.body.is_empty());
            // Without a browser's question it is no method of the route's, and nobody is let in by it.
            let bare = plane
                .ask("OPTIONS", path)
                .header("origin", origin)
                .send()
                .await;
            let expected = if *path == MCP { 401 } else { 405 };
            assert_eq!(bare.status, expected, "{path}");
            assert_eq!(allowed(&bare), Some(origin), "{path}");
        }
        // Refusals can be read, and say where to go on.
        let refused = plane.ask("POST", MCP).header("origin", origin).send().await;
        assert_eq!(refused.status, 401);
        assert_eq!(allowed(&refused), Some(origin));
        assert!(
            refused
                .header("www-authenticate")
                .unwrap()
                .contains("resource_metadata")
        );
        let exposed = refused.header("access-control-expose-headers").unwrap();
        assert!(exposed.contains("www-authenticate") && exposed.contains("mcp-session-id"));
        plane.end().await;
    }
}

#[tokio::test]
async fn a_page_calls_with_its_token() {
    let plane = development().await;
    let agent = plane.agent("triage").await;
    let client = agent.token("files").await.modern();
    let params = format!(r#""name":"anything","arguments":{ANY}"#);
    let ask = || client.ask("tools/call", Some("anything"), &params);
    let called = ask().header("origin", HERE).send().await;
    assert_eq!(called.status, 200, "{}", called.text());
    assert_eq!(allowed(&called), Some(HERE));
    let other = ask().header("origin", "https://evil.example").send().await;
    assert_eq!(other.status, 403);
    plane.end().await;
}

/// DNS rebinding: the page's own name leads to this node. What gives it away is the name.
#[tokio::test]
async fn dns_rebinding_finds_the_node_closed() {
    for plane in [production().await, development().await] {
        for (path, _) in OPEN {
            for host in [
                "evil.example",
                "evil.example:7420",
                "localhost.evil.example:7420",
            ] {
                let origin = format!("http://{host}");
                let ask = || plane.ask("GET", path).header("host", host);
                for (what, ask) in [
                    ("named", ask()),
                    ("from itself", ask().header("origin", &origin)),
                    ("from a listed page", ask().header("origin", LISTED)),
                    ("from this machine", ask().header("origin", HERE)),
                    (
                        "asked first",
                        preflight(&plane, path, HERE).header("host", host),
                    ),
                ] {
                    let refused = ask.send().await;
                    assert_eq!(refused.status, 403, "{path} {host} {what}");
                    assert_eq!(allowed(&refused), None);
                }
            }
        }
        plane.end().await;
    }
}

#[tokio::test]
async fn a_page_that_is_not_listed_learns_nothing() {
    let (production, development) = (production().await, development().await);
    for (plane, strangers) in [
        (
            &production,
            &[
                "null",
                "https://evil.example",
                HERE,
                "http://127.0.0.1:7421",
            ][..],
        ),
        (
            &development,
            &[
                "null",
                "https://evil.example",
                LISTED,
                "http://localhost.evil.example",
            ],
        ),
    ] {
        for origin in strangers {
            for (path, _) in OPEN {
                for ask in [
                    preflight(plane, path, origin),
                    plane.ask("GET", path).header("origin", origin),
                    plane.ask("POST", path).header("origin", origin),
                    // Two origins are none.
                    plane
                        .ask("GET", path)
                        .header("origin", Plane::public_url())
                        .also("origin", origin),
                ] {
                    let refused = ask.send().await;
                    assert_eq!(refused.status, 403, "{path} {origin}");
                    assert_eq!(allowed(&refused), None, "{path} {origin}");
                }
            }
        }
    }
    production.end().await;
    development.end().await;
}

/// A page of another port of this machine is the same site, so a browser sends our cookies along.
#[tokio::test]
async fn what_is_not_for_clients_is_for_no_other_page() {
    for (plane, origin) in [(production().await, LISTED), (development().await, HERE)] {
        for (path, method) in CLOSED {
            let asked = preflight(&plane, path, origin).send().await;
            let sent = plane
                .ask(method, path)
                .header("origin", origin)
                .send()
                .await;
            assert_eq!(sent.status, 403, "{path}");
            for answer in [asked, sent] {
                assert!(answer.status.is_client_error(), "{path}");
                assert_eq!(allowed(&answer), None, "{path}");
            }
        }
        plane.end().await;
    }
}

#[tokio::test]
async fn a_page_registers_and_redeems_as_any_client() {
    let plane = development().await;
    let metadata = json!({"redirect_uris": [format!("{HERE}/callback")], "client_name": "A page"});
    let register = plane.ask("POST", "/oauth/register").header("origin", HERE);
    let registered = register.json(metadata.to_string()).send().await;
    assert_eq!(registered.status, 201, "{}", registered.text());
    assert_eq!(allowed(&registered), Some(HERE));
    let registered = registered.json();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", "x"),
        ("code_verifier", "x"),
        ("client_id", registered["client_id"].as_str().unwrap()),
    ];
    let redeem = plane
        .ask("POST", "/oauth/token")
        .header("origin", HERE)
        .header("content-type", "application/x-www-form-urlencoded");
    let refused = redeem.body(query(&form)).send().await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    assert_eq!(allowed(&refused), Some(HERE));
    plane.end().await;
}
