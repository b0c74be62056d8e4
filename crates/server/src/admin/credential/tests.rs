use vocab::rng::SystemRng;

use super::*;

const ORIGIN: &str = "acme.example/control/x";

struct Place {
    gate: Gate,
    signer: Signer,
}

impl Place {
    fn check(
        &self,
        header: &str,
        request: (&str, &str, &[u8]),
        now: Time,
    ) -> Result<String, Untrusted> {
        let own = AdminKey::try_from(self.signer.verifier().clone());
        let known = |id: &AdminId| own.ok().filter(|own| own.admin() == id);
        let key = self.gate.check(header, request, now, known)?;
        Ok(key.admin().to_string())
    }
}

fn at(seconds: u64) -> Time {
    Time::from_secs(1_000_000 + seconds)
}

fn place() -> Place {
    Place {
        gate: Gate::new(ORIGIN, at(0)),
        signer: Signer::generate("ops", &SystemRng).unwrap(),
    }
}

fn request(body: &[u8]) -> Request<'_> {
    Request {
        audience: ORIGIN,
        method: "POST",
        target: "/v1/agents",
        body,
    }
}

#[test]
fn a_signed_request_is_taken_once() {
    let place = place();
    let header = sign(&request(b"{}"), &place.signer, at(10), &SystemRng).unwrap();
    let check = |at| place.check(&header, ("POST", "/v1/agents", b"{}"), at);
    assert_eq!(check(at(11)).unwrap(), "ops");
    assert_eq!(check(at(11)), Err(Untrusted::Replayed));
    let again = sign(&request(b"{}"), &place.signer, at(10), &SystemRng).unwrap();
    assert!(
        place
            .check(&again, ("POST", "/v1/agents", b"{}"), at(12))
            .is_ok()
    );
}

#[test]
fn a_signature_is_for_one_request_at_one_time_on_one_node() {
    let place = place();
    let check = |signed: Request<'_>, time, sent: (&str, &str, &[u8])| {
        let header = sign(&signed, &place.signer, time, &SystemRng).unwrap();
        place.check(&header, sent, at(100)).err()
    };
    let sent = ("POST", "/v1/agents", &b"{}"[..]);
    assert_eq!(check(request(b"{}"), at(100), sent), None);
    assert_eq!(check(request(b"[]"), at(100), sent), Some(Untrusted::Other));
    let other = Request {
        method: "GET",
        ..request(b"{}")
    };
    assert_eq!(check(other, at(100), sent), Some(Untrusted::Other));
    let other = Request {
        target: "/v1/agents?x",
        ..request(b"{}")
    };
    assert_eq!(check(other, at(100), sent), Some(Untrusted::Other));
    let other = Request {
        audience: "elsewhere",
        ..request(b"{}")
    };
    assert_eq!(check(other, at(100), sent), Some(Untrusted::Other));
    assert_eq!(check(request(b"{}"), at(69), sent), Some(Untrusted::Time));
    assert_eq!(check(request(b"{}"), at(131), sent), Some(Untrusted::Time));
    assert_eq!(check(request(b"{}"), at(0), sent), Some(Untrusted::Time));
}

#[test]
fn only_keys_that_the_node_knows_open() {
    let place = place();
    let header = |signer: &Signer| sign(&request(b"{}"), signer, at(10), &SystemRng).unwrap();
    let check = |header: &str| {
        place
            .check(header, ("POST", "/v1/agents", b"{}"), at(10))
            .err()
    };
    let stranger = Signer::generate("ops", &SystemRng).unwrap();
    assert_eq!(check(&header(&stranger)), Some(Untrusted::Signature));
    let unknown = Signer::generate("eve", &SystemRng).unwrap();
    assert_eq!(check(&header(&unknown)), Some(Untrusted::Signature));
    assert_eq!(check("not base 64"), Some(Untrusted::Form));
    assert_eq!(check(&BASE64.encode("not a note")), Some(Untrusted::Form));
    let path = Signer::generate("../control.skey", &SystemRng).unwrap();
    assert_eq!(check(&header(&path)), Some(Untrusted::Form));
}
