use std::sync::Mutex;

use tokens::{Document, Fetching, NamedBy, WebUrl};

use super::*;

/// What was posted, and what is answered.
#[derive(Debug)]
struct Posted {
    seen: Mutex<Vec<(String, String, Option<String>)>>,
    answer: Result<&'static str, FetchError>,
}

impl Fetch for Posted {
    fn get<'a>(&'a self, _: &'a WebUrl, _: NamedBy) -> Fetching<'a> {
        panic!("a token endpoint is sent a form")
    }

    fn post<'a>(
        &'a self,
        url: &'a WebUrl,
        form: Secret<String>,
        basic: Option<Secret<String>>,
    ) -> Fetching<'a> {
        Box::pin(async move {
            let basic = basic.map(|it| it.expose().clone());
            let seen = (url.to_string(), form.expose().clone(), basic);
            self.seen.lock().unwrap().push(seen);
            let body = self.answer.clone()?.as_bytes().to_vec();
            Ok(Document { body, fresh: None })
        })
    }
}

async fn asked(
    table: &str,
    answer: Result<&'static str, FetchError>,
) -> (Result<String, String>, (String, String, Option<String>)) {
    let text = format!(
        "trust_domain = \"a\"\n[upstream.a]\nurl = \"https://a.example/mcp\"\n[upstream.a.oauth]\n\
         token_url = \"https://idp.example/token\"\nclient_id = \"gate way\"\n\
         client_secret = \"vault:a\"\n{table}"
    );
    let config = crate::config::Config::parse(std::path::Path::new("/x.toml"), &text).unwrap();
    let oauth = config.upstreams.values().next().unwrap().oauth.clone();
    let seen = Mutex::default();
    let fetch = Arc::new(Posted { seen, answer });
    let endpoint = Endpoint::new(oauth.unwrap(), Arc::clone(&fetch) as _);
    let secret = Secret::new("p:w+ü%".to_owned());
    let answer = endpoint.ask(None, &secret).await;
    let answer = answer.map(|it| String::from_utf8(it.expose().clone()).unwrap());
    let seen = fetch.seen.lock().unwrap().remove(0);
    (answer, seen)
}

//= https://www.rfc-editor.org/rfc/rfc6749#section-4.4.2
//= type=test
//# The client MUST authenticate with the authorization server as described in Section 3.2.1.
#[tokio::test]
async fn a_client_says_who_it_is_in_a_header() {
    let table = "scope = \"a b\"\nresource = \"https://a.example/mcp\"";
    let (answer, (url, form, basic)) = asked(table, Ok("{}")).await;
    assert_eq!(answer.as_deref(), Ok("{}"));
    assert_eq!(url, "https://idp.example/token");
    assert_eq!(
        form,
        "grant_type=client_credentials&scope=a%20b&resource=https%3A%2F%2Fa.example%2Fmcp"
    );
    // `gate%20way:p%3Aw%2B%C3%BC%25`
    assert_eq!(
        basic.as_deref(),
        Some("Z2F0ZSUyMHdheTpwJTNBdyUyQiVDMyVCQyUyNQ==")
    );
}

//= https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
//= type=test
//# The parameters can only be transmitted in the request-body and MUST NOT be included in the
//# request URI.
#[tokio::test]
async fn or_in_the_form_and_never_in_the_url() {
    let (_, (url, form, basic)) = asked("client_auth = \"post\"", Ok("{}")).await;
    assert_eq!(url, "https://idp.example/token");
    assert_eq!(
        form,
        "grant_type=client_credentials&client_id=gate%20way&client_secret=p%3Aw%2B%C3%BC%25"
    );
    assert_eq!(basic, None);
}

#[tokio::test]
async fn a_refusal_is_told_by_its_standard_word_alone() {
    for (word, told) in [
        (Some("invalid_client"), true),
        (Some("invalid_target"), true),
        (Some("the-secret-itself"), false),
        (None, false),
    ] {
        let refusal = FetchError::Status {
            url: "https://idp.example/token".to_owned(),
            status: 401,
            error: word.map(str::to_owned),
        };
        let error = asked("", Err(refusal)).await.0.unwrap_err();
        assert!(error.contains("401"), "{error}");
        let is_there = word.is_some_and(|word| error.contains(word));
        assert_eq!(is_there, told, "{error}");
    }
}

#[test]
fn what_belongs_to_an_exchange_stands_nowhere_else() {
    let read = |table: &str| {
        let text = format!(
            "trust_domain = \"a\"\n[upstream.a]\nurl = \"https://a.example/mcp\"\n\
             [upstream.a.oauth]\ntoken_url = \"https://idp.example/token\"\nclient_id = \"gate\"\n\
             client_secret = \"vault:a\"\n{table}"
        );
        let config = crate::config::Config::parse(std::path::Path::new("/x.toml"), &text);
        config.map(|it| it.upstreams.values().next().unwrap().oauth.clone().unwrap())
    };
    for (key, value) in [
        ("issuer", "https://idp.example"),
        ("audience", "crm"),
        ("subject", "id"),
        ("revocation_url", "https://idp.example/revoke"),
    ] {
        let line = format!("{key} = \"{value}\"");
        let error = read(&line).unwrap_err().to_string();
        assert!(
            error.contains(key) && error.contains("token-exchange"),
            "{error}"
        );
        read(&format!("grant = \"token-exchange\"\n{line}")).unwrap();
    }
    let plain = read("grant = \"token-exchange\"")
        .unwrap()
        .exchange
        .unwrap();
    assert_eq!(plain.issuer, "https://idp.example/token");
    assert!(plain.revocation_url.is_none() && plain.audience.is_none());
    for (line, key) in [
        (
            "revocation_url = \"http://idp.example/revoke\"",
            "revocation_url",
        ),
        ("audience = \"a b\"", "audience"),
        ("issuer = \"\"", "issuer"),
        ("subject = \"email\"", "email"),
    ] {
        let error = read(&format!("grant = \"token-exchange\"\n{line}")).unwrap_err();
        assert!(error.to_string().contains(key), "{error}");
    }
}

/// The issuer is not asked to vouch where nothing says that tokens are exchanged.
#[tokio::test]
async fn without_an_exchange_nobody_is_vouched_for() {
    let text = "trust_domain = \"a\"\n[upstream.a]\nurl = \"https://a.example/mcp\"\n\
         [upstream.a.oauth]\ntoken_url = \"https://idp.example/token\"\nclient_id = \"gate\"\n\
         client_secret = \"vault:a\"\n";
    let config = crate::config::Config::parse(std::path::Path::new("/x.toml"), text).unwrap();
    let oauth = config.upstreams.values().next().unwrap().oauth.clone();
    let fetch = Arc::new(Posted {
        seen: Mutex::default(),
        answer: Ok("{}"),
    });
    let endpoint = Endpoint::new(oauth.unwrap(), Arc::clone(&fetch) as _);
    let secret = Secret::new("s".to_owned());
    let whom = "i-abcdefghijklmnopqrstuvwxyz".parse().unwrap();
    assert!(endpoint.ask(Some(&whom), &secret).await.is_err());
    assert!(fetch.seen.lock().unwrap().is_empty());
    // Nor is there anywhere to give a token back to.
    assert_eq!(endpoint.revoke(&secret, &secret).await, Ok(false));
    assert!(fetch.seen.lock().unwrap().is_empty());
}
