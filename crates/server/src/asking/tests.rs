use axum::Router;
use axum::extract::RawQuery;
use axum::http::HeaderMap;
use axum::routing::get;
use directory::poller::Standing;

use super::*;

/// A SCIM service that knows one person, `00u 1+"x"`.
async fn users(headers: HeaderMap, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let token = headers.get(AUTHORIZATION);
    if token.is_none_or(|it| it != "Bearer asking") {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let known = "filter=externalId%20eq%20%2200u%201%2B%5C%22x%5C%22%22\
                 &attributes=externalId,active&count=2";
    let told = if query.as_deref() == Some(known) {
        r#"{"totalResults":1,"Resources":[{"externalId":"00u 1+\"x\"","active":true}]}"#
    } else {
        r#"{"totalResults":0}"#
    };
    (StatusCode::OK, told.to_owned())
}

#[tokio::test]
async fn a_directory_is_asked_by_external_id_with_its_token() {
    let app = Router::new().route("/scim/Users", get(users));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let ask = async |token: &str, id: &str| {
        let scim = Scim {
            users: format!("http://{address}/scim/Users"),
            token: Some(Secret::new(token.to_owned())),
            timeout: ANSWER_TIMEOUT_MAX,
        };
        scim.ask(&id.parse().unwrap()).await
    };
    assert_eq!(ask("asking", "00u 1+\"x\"").await, Ok(Standing::Active));
    assert_eq!(ask("asking", "00u2").await, Ok(Standing::Gone));
    // No answer is no word about anybody.
    assert!(ask("other", "00u2").await.is_err());
    server.abort();
    let nobody = Scim {
        users: "http://127.0.0.1:9/Users".to_owned(),
        token: None,
        timeout: ANSWER_TIMEOUT_MAX,
    };
    assert!(nobody.ask(&"00u2".parse().unwrap()).await.is_err());
}
