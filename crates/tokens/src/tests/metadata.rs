//! What the node says about itself, to the letter.

use serde_json::{Value, json};

use super::bench::{Bench, key};

fn check(document: &Value, expected: &str) {
    assert_eq!(
        serde_json::to_string_pretty(document).unwrap(),
        expected.trim()
    );
}

//= https://www.rfc-editor.org/rfc/rfc8414#section-3.3
//= type=test
//# The "issuer" value returned MUST be identical to the authorization server's issuer identifier
//# value
//= https://www.rfc-editor.org/rfc/rfc8414#section-2
//= type=test
//# response_types_supported REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc8414#section-2
//= type=test
//# This is REQUIRED unless only the implicit grant type is supported.
//= https://www.rfc-editor.org/rfc/rfc8414#section-2
//= type=test
//# MUST be present if either of these authentication methods are specified in the
//# "revocation_endpoint_auth_methods_supported" entry.
//= https://www.rfc-editor.org/rfc/rfc8414#section-2
//= type=test
//# MUST be present if either of these authentication methods are specified in the
//# "introspection_endpoint_auth_methods_supported" entry.
//= https://www.rfc-editor.org/rfc/rfc8414#section-2
//= type=test
//# MUST be present if either of these authentication methods are specified in the
//# "token_endpoint_auth_methods_supported" entry.
//= https://www.rfc-editor.org/rfc/rfc8414#section-2
//= type=test
//# The value "none" MUST NOT be used.
#[test]
fn authorization_server() {
    check(
        &Bench::new().issuer.metadata_as(),
        include_str!("golden/authorization-server.json"),
    );
}

//= https://www.rfc-editor.org/rfc/rfc9728#section-2
//= type=test
//# resource REQUIRED.
//= https://www.rfc-editor.org/rfc/rfc9728#section-3.3
//= type=test
//# The resource value returned MUST be identical to the protected resource's resource identifier
//# value
//= https://www.rfc-editor.org/rfc/rfc9728#section-3.3
//= type=test
//# MUST be identical to the URL that the client used to make the request to the resource server.
//= https://www.rfc-editor.org/rfc/rfc9728#section-3.2
//= type=test
//# Parameters with zero values MUST be omitted from the response.
#[test]
fn protected_resource() {
    let issuer = &Bench::new().issuer;
    let document = issuer.metadata_resource(&"files".parse().unwrap()).unwrap();
    check(&document, include_str!("golden/protected-resource.json"));
    assert_eq!(issuer.metadata_resource(&"none".parse().unwrap()), None);
}

#[test]
fn keys() {
    check(
        &Bench::new().issuer.jwks(),
        include_str!("golden/jwks.json"),
    );
}

#[test]
fn a_key_that_was_replaced_verifies_until_its_tokens_expire() {
    let mut bench = Bench::new();
    let (old, new) = (key(200), key(201));
    let kids = |bench: &Bench| -> Vec<Value> {
        let document = bench.issuer.jwks();
        document["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key["kid"].clone())
            .collect()
    };
    let token = bench.token().access_token;
    bench.advance(1);
    bench.issuer = bench.restarted(201);
    assert_eq!(
        kids(&bench),
        [
            json!(**new.public().thumbprint()),
            json!(**old.public().thumbprint())
        ]
    );
    bench.advance(1);
    let authorization = format!("DPoP {token}");
    let call = |bench: &Bench| {
        bench.call(&[
            ("authorization", &authorization),
            ("dpop", &bench.proof(&token)),
        ])
    };
    assert!(call(&bench).is_ok());
    // Another restart does not move the end.
    bench.advance(100);
    bench.issuer = bench.restarted(201);
    bench.advance(197);
    assert!(call(&bench).is_ok());
    assert_eq!(kids(&bench).len(), 2);
    bench.advance(2);
    assert_eq!(kids(&bench), [json!(**new.public().thumbprint())]);
    bench.issuer = bench.restarted(201);
    assert_eq!(call(&bench).unwrap_err().word(), "unknown-token-key");
}

#[test]
fn a_second_change_of_key_leaves_both_before_it() {
    let mut bench = Bench::new();
    for seed in [201, 202] {
        bench.advance(10);
        bench.issuer = bench.restarted(seed);
    }
    assert_eq!(bench.issuer.jwks()["keys"].as_array().unwrap().len(), 3);
    bench.advance(290);
    assert_eq!(bench.issuer.jwks()["keys"].as_array().unwrap().len(), 2);
}
