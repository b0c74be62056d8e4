//! Administration: who may not, and what is not taken from those who may.

use serde_json::json;
use testkit::Plane;

#[tokio::test]
async fn administration_is_for_administrators() {
    let plane = Plane::start().await;
    plane.agent("triage").await;
    for cookie in [
        None,
        Some(""),
        Some("x"),
        Some("aaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ] {
        for (method, path) in [("GET", "/v1/agents"), ("POST", "/v1/agents/triage/suspend")] {
            let answer = plane.admin_with(method, path, None, cookie).await;
            assert_eq!(answer.status, 403, "{cookie:?}: {}", answer.text());
        }
    }
    // And not over TCP at all.
    for path in ["/v1/agents", "/v1/status"] {
        let answer = plane.ask("GET", path).send().await;
        assert_eq!(answer.status, 404, "{}", answer.text());
    }
    // A key that the program would rather not hold, or cannot use.
    let x = "A".repeat(43);
    for jwk in [
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "d": x}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": "AA"}),
        json!({"kty": "OKP", "crv": "X25519", "x": x}),
        json!({"kty": "oct", "k": x}),
        json!({"kty": "RSA", "n": x, "e": "AQAB"}),
        json!({}),
        json!("x"),
    ] {
        let agent = json!({"id": "new", "sponsor": "maya", "purposes": ["a"], "key": {"jwk": jwk}});
        let key = json!({"jwk": jwk});
        for (path, body) in [("/v1/agents", agent), ("/v1/agents/triage/rotate-key", key)] {
            let answer = plane.admin("POST", path, Some(body)).await;
            assert_eq!(answer.status, 400, "{path} {jwk}: {}", answer.text());
            assert!(!answer.text().contains(&x), "{path} {}", answer.text());
        }
    }
    let long = json!({"id": "x".repeat(300_000)});
    assert_eq!(
        plane.admin("POST", "/v1/sponsors", Some(long)).await.status,
        400
    );
    for (path, body, status) in [
        ("/v1/agents/nobody/suspend", None, 404),
        ("/v1/agents/triage/promote", None, 404),
        ("/v1/nothing", None, 404),
        ("/v1/sponsors", Some(json!({"id": "x"})), 400),
        (
            "/v1/sponsors",
            Some(json!({"id": "x", "name": "x", "email": "x@it.example", "role": "king"})),
            400,
        ),
        (
            "/v1/sponsors",
            Some(json!({"id": "a b", "name": "x", "email": "x@it.example"})),
            400,
        ),
        (
            "/v1/sponsors",
            Some(json!({"id": "maya", "name": "x", "email": "x@it.example"})),
            409,
        ),
    ] {
        let answer = plane.admin("POST", path, body).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(
            answer.json()["message"].is_string(),
            "{path}: {}",
            answer.text()
        );
    }
    plane.end().await;
}
