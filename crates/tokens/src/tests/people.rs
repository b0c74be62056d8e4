//! What people's clients are held to at the token and the revocation endpoint.

use register::{CallLimits, Command, NewAgent, NewOwners, People, SignIn, Standing, Why};
use serde_json::{Value, json};
use vocab::{Digest, InstanceId};

use super::bench::{Bench, URL, headers, key, wait};
use super::forge::b64;
use super::token::shown;
use crate::form;
use crate::{
    Asked, Consent, DpopKey, OwnTokenRequest, SentBack, TokenError, TokenRequest, TokenResponse,
};

const REDIRECT: &str = "http://127.0.0.1:9876/callback";
const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-0123456789";

/// A bench with the agent `helper`, whom everybody may start.
struct World {
    bench: Bench,
}

impl World {
    fn new() -> Self {
        let bench = Bench::new();
        bench.execute(Command::AddAgent(Box::new(NewAgent {
            id: "helper".parse().unwrap(),
            sponsor: "maya".parse().unwrap(),
            purposes: vec!["help".parse().unwrap()],
            allow: None,
            max_instances: Some(20),
            allow_bearer: true,
            max_lifetime: None,
            idle: None,
            limits: CallLimits::default(),
            max_depth: None,
            max_children: None,
            people: Some(People::Everyone),
            owners: NewOwners::default(),
            key: None,
            software: "".parse().unwrap(),
            model: "".parse().unwrap(),
            environment: "".parse().unwrap(),
        })));
        Self { bench }
    }

    /// Registers a client, and gives its id.
    fn client(&self, more: Value) -> String {
        let mut body = json!({"client_name": "An editor", "redirect_uris": [REDIRECT]});
        let Value::Object(more) = more else { panic!() };
        body.as_object_mut().unwrap().extend(more);
        let told = self
            .bench
            .issuer
            .mcp_clients()
            .register(body.to_string().as_bytes())
            .unwrap();
        told["client_id"].as_str().unwrap().to_owned()
    }

    fn asked(&self, client: &str, more: &[(&str, &str)]) -> Asked {
        let challenge = b64(Digest::of(VERIFIER.as_bytes()).as_bytes());
        let resource = format!("{URL}/mcp/files");
        let mut all = vec![
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", REDIRECT),
            ("code_challenge", &*challenge),
            ("code_challenge_method", "S256"),
            ("resource", &*resource),
        ];
        all.extend(more);
        wait(self.bench.issuer.asked(&form::encode(&all))).unwrap()
    }

    /// A code that `maya` consented to.
    fn code(&self, client: &str, more: &[(&str, &str)]) -> String {
        let Asked::Person(request) = self.asked(client, more) else {
            panic!("nobody is asked")
        };
        let person = self
            .bench
            .control
            .view(|state| state.sponsors()[0].handle.clone());
        let consent = Consent {
            request: *request,
            person,
            sign_in: SignIn::Oidc,
            signed_in: 0,
            agent: "helper".parse().unwrap(),
            purpose: "help".parse().unwrap(),
        };
        self.bench.issuer.consented(consent).unwrap().unwrap()
    }

    fn ask(
        &self,
        parameters: &[(&str, &str)],
        key: Option<&DpopKey>,
    ) -> Result<TokenResponse, String> {
        let endpoint = self.bench.issuer.public_url().token_endpoint();
        let (now, rng) = (self.bench.now(), &*self.bench.rng);
        let proof = key.map(|key| key.proof("POST", &endpoint, None, now, rng).unwrap());
        let asked = self.bench.ask(&form::encode(parameters), proof.as_deref());
        asked.map_err(|error| shown(&error))
    }

    fn redeem(
        &self,
        client: &str,
        code: &str,
        key: Option<&DpopKey>,
    ) -> Result<TokenResponse, String> {
        let parameters = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("client_id", client),
            ("code_verifier", VERIFIER),
        ];
        self.ask(&parameters, key)
    }

    fn refresh(
        &self,
        client: &str,
        token: &str,
        key: Option<&DpopKey>,
    ) -> Result<TokenResponse, String> {
        let parameters = [
            ("grant_type", "refresh_token"),
            ("refresh_token", token),
            ("client_id", client),
        ];
        self.ask(&parameters, key)
    }

    /// Whether anything is ended by this.
    fn revoke(&self, client: &str, token: &str, more: &[(&str, &str)]) -> Result<bool, TokenError> {
        let mut all = vec![("client_id", client), ("token", token)];
        all.extend(more);
        let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
        let request = OwnTokenRequest::parse(&headers, form::encode(&all).as_bytes())?;
        let Some((actor, command)) = wait(self.bench.issuer.revocation(&request))? else {
            return Ok(false);
        };
        wait(self.bench.control.execute(actor, command))?;
        Ok(true)
    }

    fn ended(&self, instance: &InstanceId) -> Option<Why> {
        match self.bench.control.standing(instance, self.bench.now()) {
            Standing::Active(_) => None,
            Standing::Narrowed(why) => Some(why),
        }
    }
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-10
//= type=test
//# If they do not match, it MUST reject the request.
#[test]
fn a_code_is_for_the_key_that_was_named() {
    let world = World::new();
    let client = world.client(json!({}));
    let (named, other) = (DpopKey::new(key(40)), DpopKey::new(key(41)));
    let refused = "400 invalid_grant: the code is not valid, or was given for something else";
    for wrong in [None, Some(&other)] {
        let code = world.code(&client, &[("dpop_jkt", named.jkt())]);
        assert_eq!(world.redeem(&client, &code, wrong).unwrap_err(), refused);
    }
    let code = world.code(&client, &[("dpop_jkt", named.jkt())]);
    let given = world.redeem(&client, &code, Some(&named)).unwrap();
    assert_eq!(given.token_type, "DPoP");
}

//= https://www.rfc-editor.org/rfc/rfc9396#section-5
//= type=test
//# The AS MUST refuse to process any unknown authorization details type
#[test]
fn nobody_is_asked_for_a_part_and_gives_the_whole() {
    let world = World::new();
    let client = world.client(json!({}));
    for details in [
        r#"[{"type":"mcp_tool","locations":["files"],"identifier":"read"}]"#,
        r#"[{"type":"payment"}]"#,
    ] {
        let asked = world.asked(&client, &[("authorization_details", details)]);
        let Asked::Back(to, SentBack::Details) = asked else {
            panic!("{asked:?}")
        };
        assert!(to.contains("error=invalid_authorization_details"), "{to}");
    }
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-5.2
//= type=test
//# If the value is true, the authorization server MUST reject token requests from the client that do
//# not contain the DPoP header.
#[test]
fn a_client_that_wants_bound_tokens_gets_no_others() {
    let world = World::new();
    let bound = world.client(json!({"dpop_bound_access_tokens": true}));
    let holder = DpopKey::new(key(40));
    let refused = "400 invalid_dpop_proof: the client said of itself `dpop_bound_access_tokens`, \
         and the request has no `DPoP` header";
    let code = world.code(&bound, &[]);
    assert_eq!(world.redeem(&bound, &code, None).unwrap_err(), refused);
    let given = world.redeem(&bound, &code, Some(&holder)).unwrap();
    assert_eq!(given.token_type, "DPoP");
    let token = given.refresh_token.unwrap();
    assert_eq!(world.refresh(&bound, &token, None).unwrap_err(), refused);
    assert!(world.refresh(&bound, &token, Some(&holder)).is_ok());
    // Whoever does not say so may have either.
    let client = world.client(json!({"dpop_bound_access_tokens": false}));
    let code = world.code(&client, &[]);
    let given = world.redeem(&client, &code, None).unwrap();
    assert_eq!(given.token_type, "Bearer");
}

//= https://www.rfc-editor.org/rfc/rfc9449#section-5
//= type=test
//# When an authorization server supporting DPoP issues a refresh token to a public client that
//# presents a valid DPoP proof at the token endpoint, the refresh token MUST be bound to the
//# respective public key.
//= https://www.rfc-editor.org/rfc/rfc9449#section-5
//= type=test
//# The binding MUST be validated when the refresh token is later presented to get new access tokens.
#[test]
fn a_refresh_token_is_bound_to_the_key_of_its_code() {
    let world = World::new();
    let client = world.client(json!({}));
    let (holder, other) = (DpopKey::new(key(40)), DpopKey::new(key(41)));
    let code = world.code(&client, &[]);
    let given = world.redeem(&client, &code, Some(&holder)).unwrap();
    let token = given.refresh_token.unwrap();
    for wrong in [None, Some(&other)] {
        let refused = world.refresh(&client, &token, wrong).unwrap_err();
        assert!(
            refused.starts_with("400 invalid_grant: the refresh token is bound"),
            "{refused}"
        );
    }
    assert!(world.refresh(&client, &token, Some(&holder)).is_ok());
}

//= https://www.rfc-editor.org/rfc/rfc7009#section-2
//= type=test
//# Implementations MUST support the revocation of refresh tokens and SHOULD support the revocation of
//# access tokens (see Implementation Note).
#[test]
fn a_persons_client_revokes_its_refresh_token_or_its_access_token() {
    let world = World::new();
    let (client, other) = (
        world.client(json!({})),
        world.client(json!({"client_name": "B"})),
    );
    let given = || {
        world
            .redeem(&client, &world.code(&client, &[]), None)
            .unwrap()
    };
    for hint in ["refresh_token", "access_token", "whatever"] {
        for refresh in [true, false] {
            let one = given();
            let token = if refresh {
                one.refresh_token.as_deref().unwrap()
            } else {
                &one.access_token
            };
            let hint = [("token_type_hint", hint)];
            // Another client does nothing by it: of a refresh token it is not even told whose it is.
            match world.revoke(&other, token, &hint) {
                Ok(done) => assert!(refresh && !done),
                Err(error) => assert_eq!(error.word(), "another-agents-token"),
            }
            assert_eq!(world.ended(&one.instance), None);
            assert!(world.revoke(&client, token, &hint).unwrap());
            assert_eq!(world.ended(&one.instance), Some(Why::InstanceEnded));
            let refresh = one.refresh_token.as_deref().unwrap();
            assert!(
                world
                    .refresh(&client, refresh, None)
                    .unwrap_err()
                    .starts_with("400 invalid_grant")
            );
        }
    }
    assert!(!world.revoke(&client, "nonsense", &[]).unwrap());
    // Nor by an agent's token, or as nobody.
    let agents = world.bench.token();
    let error = world
        .revoke(&client, &agents.access_token, &[])
        .unwrap_err();
    assert_eq!(error.word(), "another-agents-token");
    let error = world
        .revoke("triage", &agents.access_token, &[])
        .unwrap_err();
    assert_eq!(
        (error.status().as_u16(), error.oauth_code()),
        (401, "invalid_client")
    );
    assert_eq!(world.ended(&agents.instance), None);
}

#[test]
fn a_persons_client_introspects_nothing() {
    let world = World::new();
    let client = world.client(json!({}));
    let given = world
        .redeem(&client, &world.code(&client, &[]), None)
        .unwrap();
    let body = form::encode(&[("client_id", &*client), ("token", &*given.access_token)]);
    let headers = headers(&[("content-type", "application/x-www-form-urlencoded")]);
    let request = OwnTokenRequest::parse(&headers, body.as_bytes()).unwrap();
    let error = world.bench.issuer.introspection(&request).unwrap_err();
    assert_eq!(error.oauth_code(), "invalid_client");
    assert!(TokenRequest::parse(&headers, body.as_bytes()).is_err());
}
