use vocab::rng::SystemRng;

use super::*;

const ORIGIN: &str = "acme.example/control/x";

struct Place {
    dir: tempfile::TempDir,
    gate: Gate,
    signer: Signer,
}

fn at(seconds: u64) -> Time {
    Time::from_secs(1_000_000 + seconds)
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let name: AdminId = "ops".parse().unwrap();
    let out = dir.path().join("ops.key");
    add(dir.path(), &name, &out, &SystemRng).unwrap();
    let signer = keys::read_secret(&out).unwrap().expose().parse().unwrap();
    let gate = Gate::new(dir.path(), ORIGIN, at(0));
    Place { dir, gate, signer }
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
    let check = |at| place.gate.check(&header, "POST", "/v1/agents", b"{}", at);
    assert_eq!(check(at(11)).unwrap().as_str(), "ops");
    assert_eq!(check(at(11)), Err(Untrusted::Replayed));
    let again = sign(&request(b"{}"), &place.signer, at(10), &SystemRng).unwrap();
    assert!(
        place
            .gate
            .check(&again, "POST", "/v1/agents", b"{}", at(12))
            .is_ok()
    );
}

#[test]
fn a_signature_is_for_one_request_at_one_time_on_one_node() {
    let place = place();
    let check = |signed: Request<'_>, time, (method, target, body): (&str, &str, &[u8])| {
        let header = sign(&signed, &place.signer, time, &SystemRng).unwrap();
        place
            .gate
            .check(&header, method, target, body, at(100))
            .err()
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
            .gate
            .check(header, "POST", "/v1/agents", b"{}", at(10))
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
    let name = "ops".parse().unwrap();
    assert_eq!(list(place.dir.path()).unwrap(), [name]);
    remove(place.dir.path(), &"ops".parse().unwrap()).unwrap();
    assert_eq!(check(&header(&place.signer)), Some(Untrusted::Signature));
}

#[test]
fn names_are_not_those_of_local_users_and_not_taken_twice() {
    let place = place();
    let check = |name: &str, out: &str| {
        let out = place.dir.path().join(out);
        let failed = add(place.dir.path(), &name.parse().unwrap(), &out, &SystemRng).err();
        (
            failed.map(|error| error.to_string()).unwrap_or_default(),
            out.exists(),
        )
    };
    assert!(check("uid:0", "a").0.contains("cannot be"));
    assert!(check("ops", "b").0.contains("already"));
    assert_eq!(check("other", "c"), (String::new(), true));
    // A file that is there is not overwritten.
    assert!(check("third", "c").0.contains("cannot write"));
    assert!(!folder(place.dir.path()).join("third").exists());
}
