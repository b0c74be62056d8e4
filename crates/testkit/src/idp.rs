//! The company's identity provider, and a person's browser, both in a test's hands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use vocab::{Clock as _, Digest};

use crate::wire::{Answer, Ask};
use crate::{MockClock, Plane};

/// What the node is known as at the provider.
pub const CLIENT_ID: &str = "tipstaff";
/// The secret that goes with it.
pub const CLIENT_SECRET: &str = "s3cret/+";

/// An identity provider.
#[derive(Debug, Clone)]
pub struct Idp {
    url: String,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Mutex<Option<Arc<MockClock>>>,
    /// The seed of the key that signs.
    key: Mutex<u8>,
    /// What is said otherwise in the discovery document.
    said: Mutex<Value>,
    codes: Mutex<HashMap<String, Value>>,
    /// Forms that reached the token endpoint, with their `Authorization`.
    posts: Mutex<Vec<(String, Option<String>)>>,
    asked: Mutex<Vec<String>>,
    /// Other documents, by their paths, and how often they were read.
    documents: Mutex<HashMap<String, Value>>,
    served: Mutex<usize>,
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

/// A token of these claims, signed by the key of a seed.
pub fn sign(seed: u8, typ: &str, claims: &Value) -> String {
    let header = json!({"alg": "EdDSA", "typ": typ, "kid": format!("k{seed}")}).to_string();
    let signed = format!(
        "{}.{}",
        b64(header.as_bytes()),
        b64(claims.to_string().as_bytes())
    );
    let signature = b64(pair(seed).sign(signed.as_bytes()).as_ref());
    format!("{signed}.{signature}")
}

/// The public key of a seed.
pub fn jwk(seed: u8) -> Value {
    let x = b64(pair(seed).public_key().as_ref());
    json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": format!("k{seed}")})
}

impl Idp {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let inner = Arc::new(Inner {
            clock: Mutex::default(),
            key: Mutex::new(1),
            said: Mutex::new(json!({})),
            codes: Mutex::default(),
            posts: Mutex::default(),
            asked: Mutex::default(),
            documents: Mutex::default(),
            served: Mutex::default(),
        });
        let idp = Self { url, inner };
        let app = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .fallback(document)
            .with_state(idp.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        idp
    }

    /// Its identifier.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// `[login]` of a node that trusts it; `more` comes beside.
    pub fn config(&self, more: &str) -> String {
        format!(
            "[login]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\n\
             client_secret = \"plain:{CLIENT_SECRET}\"\n{more}\n",
            self.url
        )
    }

    /// Says something else in its discovery document; null leaves it out.
    pub fn say(&self, name: &str, value: Value) {
        self.inner.said.lock().unwrap()[name] = value;
    }

    /// Signs with another key from now on, and shows that alone.
    pub fn rotate(&self) {
        *self.inner.key.lock().unwrap() += 1;
    }

    /// Signs a token of these claims. Of those that every token has, what is missing is added.
    pub fn issue(&self, typ: &str, claims: &Value) -> String {
        let now = self.now();
        let mut whole = json!({"iss": self.url, "iat": now, "exp": now + 300});
        for (name, value) in claims.as_object().unwrap() {
            whole[name] = value.clone();
        }
        whole
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        sign(*self.inner.key.lock().unwrap(), typ, &whole)
    }

    fn now(&self) -> u64 {
        let clock = self.inner.clock.lock().unwrap();
        clock.as_ref().expect("a clock").now().as_secs()
    }

    /// Uses the clock of a plane.
    pub fn keep_time(&self, plane: &Plane) {
        *self.inner.clock.lock().unwrap() = Some(Arc::clone(&plane.clock));
    }

    /// A person signs in where the node sent them, and is sent back: the path and query at the node.
    /// `claims` go over those of an honest ID token.
    pub fn signs_in(&self, sent_to: &str, claims: &Value) -> String {
        let (endpoint, query) = sent_to.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{}/authorize", self.url));
        let asked = parameters(query);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["client_id"], CLIENT_ID);
        assert_eq!(asked["code_challenge_method"], "S256");
        assert!(asked["scope"].split(' ').any(|it| it == "openid"));
        assert!(asked["state"].len() >= 43 && asked["nonce"].len() >= 43);
        let mut whole = json!({"aud": CLIENT_ID, "nonce": asked["nonce"]});
        for (name, value) in claims.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let code = format!("code-{}", self.inner.codes.lock().unwrap().len());
        let kept = json!({
            "claims": whole,
            "challenge": asked["code_challenge"],
            "redirect_uri": asked["redirect_uri"],
        });
        self.inner.codes.lock().unwrap().insert(code.clone(), kept);
        let back = asked["redirect_uri"].split_once("//").unwrap().1;
        let path = back.split_once('/').unwrap().1;
        let iss = encode(&self.url);
        format!(
            "/{path}?code={code}&state={}&iss={iss}",
            encode(&asked["state"])
        )
    }

    /// Serves another document; what lies below `/changing/` holds for no time.
    pub fn serve(&self, path: &str, document: Value) {
        let mut documents = self.inner.documents.lock().unwrap();
        documents.insert(path.to_owned(), document);
    }

    /// How often other documents were read.
    pub fn served(&self) -> usize {
        *self.inner.served.lock().unwrap()
    }

    /// How often its documents were asked for.
    pub fn asked(&self) -> usize {
        self.inner.asked.lock().unwrap().len()
    }

    /// Forms that reached its token endpoint.
    pub fn posts(&self) -> Vec<(String, Option<String>)> {
        self.inner.posts.lock().unwrap().clone()
    }
}

async fn discovery(State(idp): State<Idp>) -> Response {
    idp.inner.asked.lock().unwrap().push("discovery".to_owned());
    let mut document = json!({
        "issuer": idp.url,
        "authorization_endpoint": format!("{}/authorize", idp.url),
        "token_endpoint": format!("{}/token", idp.url),
        "jwks_uri": format!("{}/jwks", idp.url),
        "authorization_response_iss_parameter_supported": true,
    });
    let said = idp.inner.said.lock().unwrap().clone();
    for (name, value) in said.as_object().unwrap() {
        document[name] = value.clone();
    }
    document
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    axum::Json(document).into_response()
}

async fn document(State(idp): State<Idp>, uri: http::Uri) -> Response {
    *idp.inner.served.lock().unwrap() += 1;
    let found = idp.inner.documents.lock().unwrap().get(uri.path()).cloned();
    match found {
        Some(document) if uri.path().starts_with("/changing/") => {
            ([("cache-control", "no-store")], axum::Json(document)).into_response()
        }
        Some(document) => axum::Json(document).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn keys(State(idp): State<Idp>) -> Response {
    idp.inner.asked.lock().unwrap().push("jwks".to_owned());
    let seed = *idp.inner.key.lock().unwrap();
    axum::Json(json!({"keys": [jwk(seed)]})).into_response()
}

/// Redeems a code, once, for whoever knows the verifier and the secret.
async fn token(State(idp): State<Idp>, headers: HeaderMap, body: Bytes) -> Response {
    let form = String::from_utf8(body.to_vec()).unwrap();
    let authorization = headers.get("authorization");
    let authorization = authorization.map(|it| it.to_str().unwrap().to_owned());
    idp.inner
        .posts
        .lock()
        .unwrap()
        .push((form.clone(), authorization.clone()));
    let form = parameters(&form);
    let kept = idp.inner.codes.lock().unwrap().remove(&form["code"]);
    let pair = format!("{CLIENT_ID}:{}", encode(CLIENT_SECRET));
    let basic = base64::engine::general_purpose::STANDARD.encode(pair);
    let good = kept.filter(|kept| {
        let challenge = b64(Digest::of(form["code_verifier"].as_bytes()).as_bytes());
        kept["challenge"] == challenge.as_str()
            && kept["redirect_uri"] == form["redirect_uri"].as_str()
            && authorization == Some(format!("Basic {basic}"))
    });
    match good {
        Some(kept) => {
            let id_token = idp.issue("JWT", &kept["claims"]);
            axum::Json(json!({"access_token": "x", "token_type": "Bearer", "id_token": id_token}))
                .into_response()
        }
        None => (
            StatusCode::BAD_REQUEST,
            axum::Json(json!({"error": "invalid_grant"})),
        )
            .into_response(),
    }
}

/// A text as it stands in a query.
pub fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// A query or a form of these parameters.
pub fn query(parameters: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encode(value));
    parameters.iter().map(pair).collect::<Vec<_>>().join("&")
}

/// The parameters of a query or a form.
pub fn parameters(query: &str) -> HashMap<String, String> {
    tokens::read_form(query.as_bytes())
        .unwrap()
        .into_iter()
        .collect()
}

/// A person's browser, as far as cookies and forms go. It follows nothing by itself.
#[derive(Debug)]
pub struct Browser<'a> {
    plane: &'a Plane,
    /// Its cookies.
    pub cookies: HashMap<String, String>,
}

impl<'a> Browser<'a> {
    /// One that was nowhere yet.
    pub fn new(plane: &'a Plane) -> Self {
        Self {
            plane,
            cookies: HashMap::new(),
        }
    }

    fn ask(&self, method: &str, path: &str) -> Ask {
        let ask = self.plane.ask(method, path);
        if self.cookies.is_empty() {
            return ask;
        }
        let all: Vec<_> = self
            .cookies
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        ask.header("cookie", all.join("; "))
    }

    async fn send(&mut self, ask: Ask) -> Answer {
        let answer = ask.send().await;
        for cookie in answer.headers.get_all("set-cookie") {
            let (pair, attributes) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Opens a page.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(self.ask("GET", path)).await
    }

    /// Sends a form, as our own page does.
    pub async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let ask = self
            .ask("POST", path)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", Plane::public_url())
            .body(query(fields));
        self.send(ask).await
    }

    /// Signs in by a ticket of the node's own login.
    pub async fn local_login(&mut self, id: &str) {
        let body = json!({"id": id});
        let answer = self.plane.admin("POST", "/v1/login", Some(body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let url = answer.json()["url"].as_str().unwrap().to_owned();
        let path = url.strip_prefix(Plane::public_url()).unwrap().to_owned();
        let shown = self.get(&path).await;
        assert_eq!(shown.status, 200, "{}", shown.text());
        let done = self.post(&path, &[("answer", "sign-in")]).await;
        assert_eq!(done.status, 200, "{}", done.text());
    }
}

/// The value of a hidden field of a page.
pub fn field(page: &Answer, name: &str) -> String {
    let text = page.text();
    let marker = format!("name=\"{name}\" value=\"");
    let found = text.split_once(&marker);
    let (_, rest) = found.unwrap_or_else(|| panic!("no field {name}: {text}"));
    rest.split('"').next().unwrap().to_owned()
}
