#![expect(
    clippy::needless_pass_by_value,
    reason = "the cases are data, and read better without borrows"
)]

use proptest::prelude::*;
use serde_json::json;

use super::Meaning::{Cause as Of, Nothing};
use super::*;

const ISS: &str = "https://idp.example";
const AUD: &str = "https://gate.example/ssf/idp";

fn claims(uri: &str, payload: Value) -> Value {
    json!({
        "iss": ISS, "aud": AUD, "jti": "j-1", "iat": 1_795_254_000,
        "sub_id": {"format": "iss_sub", "iss": ISS, "sub": "00u1"},
        "events": {uri: payload},
    })
}

fn read(claims: &Value) -> Result<Set, SetError> {
    Set::read(claims.to_string().as_bytes(), ISS, AUD)
}

#[test]
fn every_event_has_its_meaning() {
    let check = |uri: &str, payload: Value, word: &str, expected: Meaning| {
        let set = read(&claims(uri, payload)).unwrap();
        assert_eq!(
            (set.events[0].word, &set.events[0].meaning),
            (word, &expected),
            "{uri}"
        );
    };
    let caep = |event: &str| format!("{CAEP}{event}");
    let risc = |event: &str| format!("{RISC}{event}");
    check(
        &caep("session-revoked"),
        json!({}),
        "session-revoked",
        Of(Cause::SessionRevoked),
    );
    check(
        &caep("token-claims-change"),
        json!({"claims": {"role": "ro-admin"}}),
        "token-claims-change",
        Of(Cause::ClaimsChanged),
    );
    for (change, expected) in [
        ("create", Nothing),
        ("revoke", Of(Cause::CredentialChanged)),
        ("update", Of(Cause::CredentialChanged)),
        ("delete", Of(Cause::CredentialChanged)),
        ("unheard-of", Of(Cause::CredentialChanged)),
    ] {
        let payload = json!({"credential_type": "password", "change_type": change});
        check(
            &caep("credential-change"),
            payload,
            "credential-change",
            expected,
        );
    }
    for (direction, expected) in [
        (json!("increase"), Nothing),
        (json!("decrease"), Of(Cause::AssuranceLowered)),
        (Value::Null, Of(Cause::AssuranceLowered)),
    ] {
        let payload = json!({"namespace": "NIST-AAL", "change_direction": direction});
        check(
            &caep("assurance-level-change"),
            payload,
            "assurance-level-change",
            expected,
        );
    }
    for (status, expected) in [
        ("compliant", Nothing),
        ("not-compliant", Of(Cause::DeviceNotCompliant)),
        ("", Of(Cause::DeviceNotCompliant)),
    ] {
        let payload = json!({"current_status": status});
        check(
            &caep("device-compliance-change"),
            payload,
            "device-compliance-change",
            expected,
        );
    }
    for (level, expected) in [
        (json!("LOW"), Risk::Low),
        (json!("MEDIUM"), Risk::Medium),
        (json!("HIGH"), Risk::High),
        (json!("SEVERE"), Risk::High),
        (json!(3), Risk::High),
        (Value::Null, Risk::High),
    ] {
        let payload = json!({"principal": "USER", "current_level": level});
        check(
            &caep("risk-level-change"),
            payload,
            "risk-level-change",
            Meaning::Risk(expected),
        );
    }
    for event in ["account-disabled", "account-purged"] {
        check(
            &risc(event),
            json!({"reason": "hijacking"}),
            event,
            Of(Cause::Leaves),
        );
    }
    check(
        &risc("account-enabled"),
        json!({}),
        "account-enabled",
        Meaning::Enabled,
    );
    for (event, expected) in [
        (
            "account-credential-change-required",
            Cause::CredentialChanged,
        ),
        ("credential-compromise", Cause::CredentialCompromised),
        ("identifier-changed", Cause::IdentifierChanged),
        ("identifier-recycled", Cause::IdentifierChanged),
        ("sessions-revoked", Cause::SessionRevoked),
    ] {
        check(&risc(event), json!({}), event, Of(expected));
    }
    let ssf = |event: &str| format!("{SSF}{event}");
    check(
        &ssf("verification"),
        json!({"state": "s1"}),
        "verification",
        Meaning::Verification(Some("s1".to_owned())),
    );
    check(
        &ssf("verification"),
        json!({}),
        "verification",
        Meaning::Verification(None),
    );
    check(
        &ssf("stream-updated"),
        json!({"status": "paused"}),
        "stream-updated",
        Meaning::Stopped,
    );
    check(
        &ssf("stream-updated"),
        json!({"status": "enabled"}),
        "stream-updated",
        Nothing,
    );
    for unknown in [
        caep("session-established"),
        caep("session-presented"),
        risc("opt-out-initiated"),
        risc("recovery-activated"),
        ssf("other"),
        "https://schemas.example/else".to_owned(),
    ] {
        check(&unknown, json!({}), "", Nothing);
    }
}

#[test]
fn subjects_come_in_their_formats() {
    let check = |subject: Value, expected: Vec<Subject>| {
        let mut claims = claims(&format!("{CAEP}session-revoked"), json!({}));
        claims["sub_id"] = subject.clone();
        assert_eq!(
            read(&claims).unwrap().events[0].subjects,
            expected,
            "{subject}"
        );
        // Drafts had it in the event.
        claims.as_object_mut().unwrap().remove("sub_id");
        claims["events"][format!("{CAEP}session-revoked")]["subject"] = subject;
        assert_eq!(read(&claims).unwrap().events[0].subjects, expected);
    };
    let iss_sub = json!({"format": "iss_sub", "iss": ISS, "sub": "00u1"});
    let named = Subject::IssSub {
        iss: ISS.to_owned(),
        sub: "00u1".to_owned(),
    };
    check(iss_sub.clone(), vec![named.clone()]);
    check(
        json!({"format": "opaque", "id": "x"}),
        vec![Subject::Opaque("x".to_owned())],
    );
    let email = Subject::Email("maya@acme.example".to_owned());
    check(
        json!({"format": "email", "email": "maya@acme.example"}),
        vec![email.clone()],
    );
    check(
        json!({"format": "complex", "user": iss_sub, "device": {"format": "opaque", "id": "d"}}),
        vec![named.clone()],
    );
    check(
        json!({"user": iss_sub, "session": {"format": "opaque", "id": "d"}}),
        vec![named.clone()],
    );
    check(
        json!({"format": "aliases", "identifiers": [
            iss_sub, {"format": "email", "email": "maya@acme.example"},
            {"format": "aliases", "identifiers": [{"format": "opaque", "id": "x"}]},
            {"format": "phone_number", "phone_number": "+1"},
        ]}),
        vec![named, email],
    );
    check(
        json!({"format": "phone_number", "phone_number": "+1"}),
        vec![],
    );
    check(
        json!({"format": "complex", "device": {"format": "opaque", "id": "d"}}),
        vec![],
    );
    // RISC, before its formats were those of RFC 9493.
    for old in ["iss-sub", "iss_sub", "id_token_claims"] {
        check(
            json!({"subject_type": old, "iss": ISS, "sub": "00u1"}),
            vec![Subject::IssSub {
                iss: ISS.to_owned(),
                sub: "00u1".to_owned(),
            }],
        );
    }
}

#[test]
fn an_event_that_says_nobody_in_a_form_that_is_read_is_refused() {
    for event in ["session-revoked", "risk-level-change"] {
        let mut claims = claims(&format!("{CAEP}{event}"), json!({}));
        claims["sub_id"] = json!({"iss": ISS, "sub": "00u1"});
        assert_eq!(read(&claims).unwrap_err().as_str(), "invalid_request");
        claims["sub_id"] = json!({});
        assert_eq!(read(&claims).unwrap_err().as_str(), "invalid_request");
        claims.as_object_mut().unwrap().remove("sub_id");
        assert_eq!(read(&claims).unwrap_err().as_str(), "invalid_request");
    }
}

#[test]
fn what_is_no_set_for_us_is_refused_in_the_words_of_rfc_8935() {
    let good = claims(&format!("{CAEP}session-revoked"), json!({}));
    assert!(read(&good).is_ok());
    let check = |name: &str, value: Value, err: &str| {
        let mut claims = good.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
        assert_eq!(read(&claims).unwrap_err().as_str(), err, "{name}: {value}");
    };
    check("iss", json!("https://evil.example"), "invalid_issuer");
    check("iss", json!([ISS]), "invalid_issuer");
    check("iss", Value::Null, "invalid_issuer");
    check("aud", json!("https://other.example"), "invalid_audience");
    check("aud", json!([]), "invalid_audience");
    check("aud", Value::Null, "invalid_audience");
    // Tokens that let somebody in are not SETs.
    check("exp", json!(1), "invalid_request");
    check("sub", json!("00u1"), "invalid_request");
    check("jti", Value::Null, "invalid_request");
    check("jti", json!(""), "invalid_request");
    check(
        "jti",
        json!("x".repeat(JTI_BYTES_MAX + 1)),
        "invalid_request",
    );
    check("iat", Value::Null, "invalid_request");
    check("iat", json!("now"), "invalid_request");
    check("events", Value::Null, "invalid_request");
    check("events", json!({}), "invalid_request");
    check("events", json!({"a": 1}), "invalid_request");
    let many: Map<String, Value> = (0..=EVENTS_MAX)
        .map(|i| (i.to_string(), json!({})))
        .collect();
    check("events", many.into(), "invalid_request");
    check("sub_id", json!("00u1"), "invalid_request");
    check(
        "sub_id",
        json!({"format": "iss_sub", "iss": ISS}),
        "invalid_request",
    );
    check(
        "sub_id",
        json!({"format": "opaque", "id": 1}),
        "invalid_request",
    );
    let many: Vec<Value> = vec![json!({"format": "opaque", "id": "x"}); ALIASES_MAX + 1];
    check(
        "sub_id",
        json!({"format": "aliases", "identifiers": many}),
        "invalid_request",
    );
    let several = json!(["https://other.example", AUD]);
    let mut claims = good.clone();
    claims["aud"] = several;
    assert!(read(&claims).is_ok());
    let twice = good
        .to_string()
        .replacen('{', r#"{"iss":"https://evil.example","#, 1);
    assert!(Set::read(twice.as_bytes(), ISS, AUD).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _read = Set::read(&bytes, ISS, AUD);
    }
}
