//! What the tests share: one client for both eras.

use std::fs;
use std::path::Path;

use http::StatusCode;
use mcp::Era;
use serde_json::Value;
use testkit::{Ask, Legacy, Modern, Reply, Token};

/// Both.
pub(crate) const ERAS: [Era; 2] = [Era::Modern, Era::Legacy];

/// A client of either era.
#[derive(Debug, Clone)]
pub(crate) enum Client {
    Modern(Modern),
    Legacy(Legacy),
}

impl Client {
    pub(crate) async fn new(token: &Token, era: Era) -> Self {
        match era {
            Era::Modern => Self::Modern(token.modern()),
            Era::Legacy => Self::Legacy(token.legacy().await),
        }
    }

    pub(crate) fn ask_call(&self, tool: &str, arguments: &str) -> Ask {
        match self {
            Self::Modern(client) => client.ask_call(tool, arguments),
            Self::Legacy(client) => client.ask_call(tool, arguments),
        }
    }

    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Reply {
        self.ask_call(tool, arguments).send().await.into()
    }

    /// A request about `name`, which the modern era repeats in a header.
    pub(crate) async fn request(&self, method: &str, name: Option<&str>, params: &str) -> Reply {
        match self {
            Self::Modern(client) => client.ask(method, name, params).send().await.into(),
            Self::Legacy(client) => client.request(method, params).await,
        }
    }

    /// A call that is under way.
    pub(crate) fn spawn_call(&self, tool: &str, arguments: &str) -> tokio::task::JoinHandle<Reply> {
        let ask = self.ask_call(tool, arguments);
        tokio::spawn(async move { ask.send().await.into() })
    }
}

/// The arguments of a call that the default policies permit to anybody.
pub(crate) const ANY: &str = r#"{"n":1}"#;
/// Of one that they permit to `triage`.
pub(crate) const PUBLIC: &str = r#"{"path":"/public/a.txt"}"#;

/// That the sender was told to prove who it is, and why it did not.
pub(crate) fn assert_challenged(reply: &Reply, status: u16, why: &str) {
    assert_eq!(
        reply.status,
        StatusCode::from_u16(status).unwrap(),
        "{}",
        reply.json
    );
    let challenge = reply.headers.get_all("www-authenticate").iter();
    let challenges: Vec<_> = challenge.map(|it| it.to_str().unwrap()).collect();
    assert!(
        challenges.iter().any(|it| it.contains(why)),
        "{why}: {challenges:?}"
    );
    assert!(
        challenges
            .iter()
            .all(|it| it.contains("resource_metadata=")),
        "{challenges:?}"
    );
}

/// The error's code.
pub(crate) fn code(json: &Value) -> i64 {
    json["error"]["code"].as_i64().unwrap_or_default()
}

/// Copies the files of a folder, and of those in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
