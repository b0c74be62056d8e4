//! The client of the administration socket: how the command line finds the node and speaks to it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ledger::note::{Signer, Verifier};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::UnixStream;
use vocab::{Clock, LogName, Rng, Secret};

use super::credential::{self, SignError};
use super::wire::Problem;
use crate::config::{Config, ConfigError};
use crate::keys::{self, KeyError};

/// Why the node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No node runs on this data folder.
    #[error(
        "no node is running on `{data}`; start one with `tipstaff up` (with the same `--config`), or \
         wait for one that is just starting or stopping"
    )]
    NoNode {
        /// The data folder.
        data: String,
    },
    /// Files of the node cannot be read by this user.
    #[error(
        "`{path}` cannot be read: {cause}; administration is for root, the user that the node runs \
         as, and with `--admin-key` the members of that user's group"
    )]
    NotReadable {
        /// The file.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// `node.json` is not what a node writes.
    #[error("`{path}` is not what a node writes; is one of another version running?")]
    State {
        /// The file.
        path: String,
    },
    /// Whoever answers on the socket is not the node.
    #[error(
        "what answers on `{path}` runs as user {found}, and the node's files belong to user \
         {expected}; nothing was sent"
    )]
    Impostor {
        /// The socket.
        path: String,
        /// Who answers.
        found: u32,
        /// Who should.
        expected: u32,
    },
    /// The conversation broke off.
    #[error(
        "the node broke off the conversation: {0}; whether the command was carried out is not known"
    )]
    Broken(String),
    /// The node's answer is not one.
    #[error("the node answered something that is not an answer; is it of another version?")]
    Answer,
    /// The administrator's key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The request could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The node refused.
    #[error("{message}", message = .0.message)]
    Refused(Problem),
}

impl AdminError {
    /// Whether it is certain that the node did nothing of what it was asked.
    pub fn is_undone(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Answer => false,
            Self::Refused(problem) => problem.status.is_client_error(),
            Self::Config(_)
            | Self::NoNode { .. }
            | Self::NotReadable { .. }
            | Self::State { .. }
            | Self::Impostor { .. }
            | Self::Key(_)
            | Self::Sign(_) => true,
        }
    }
}

/// What a running node writes into `data/node.json`.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeFile {
    /// The URL that clients use.
    pub url: String,
    /// The administration socket.
    pub admin: PathBuf,
    /// The process.
    pub pid: u32,
    /// The program's version.
    pub version: String,
}

impl NodeFile {
    /// Reads it, if a node that was not killed wrote one.
    pub fn read(data: &Path) -> Result<Self, AdminError> {
        let path = data.join("node.json");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                return Err(AdminError::NoNode {
                    data: data.display().to_string(),
                });
            }
            Err(cause) => {
                return Err(AdminError::NotReadable {
                    path: path.display().to_string(),
                    cause,
                });
            }
        };
        serde_json::from_str(&text).map_err(|_| AdminError::State {
            path: path.display().to_string(),
        })
    }
}

/// How a request shows who sends it.
#[derive(Debug)]
enum Credential {
    Local(Secret<String>),
    Named(Box<Signer>),
}

/// A way to the running node.
#[derive(Debug)]
pub struct Client<'a> {
    node: NodeFile,
    owner: u32,
    data: PathBuf,
    audience: String,
    credential: Credential,
    clock: &'a dyn Clock,
    rng: &'a dyn Rng,
}

impl<'a> Client<'a> {
    /// Finds the node of a configuration. With `admin_key`, requests are signed with that key;
    /// else they come from the local user.
    pub fn find(
        config: &Config,
        admin_key: Option<&Path>,
        clock: &'a dyn Clock,
        rng: &'a dyn Rng,
    ) -> Result<Self, AdminError> {
        let data = &config.data;
        let node = NodeFile::read(data)?;
        let unreadable = |path: &Path| {
            let path = path.display().to_string();
            move |cause| AdminError::NotReadable { path, cause }
        };
        let state = data.join("node.json");
        let owner = fs::metadata(&state).map_err(unreadable(&state))?.uid();
        let (audience, credential) = match admin_key {
            None => {
                let path = super::cookie_path(data);
                let cookie = match fs::read_to_string(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(AdminError::NoNode {
                            data: data.display().to_string(),
                        });
                    }
                    read => Secret::new(read.map_err(unreadable(&path))?),
                };
                let cookie = Secret::new(cookie.expose().trim_end().to_owned());
                (String::new(), Credential::Local(cookie))
            }
            Some(path) => {
                let bad = |path: &Path, what| KeyError::Form {
                    path: path.display().to_string(),
                    what,
                };
                let text = keys::read_named_secret(path)?;
                let signer: Signer = text
                    .expose()
                    .parse()
                    .map_err(|_| bad(path, "an administrator's key"))?;
                let path = data.join(format!("{}.vkey", LogName::Control));
                let vkey = fs::read_to_string(&path).map_err(unreadable(&path))?;
                let vkey: Verifier = vkey
                    .trim_end()
                    .parse()
                    .map_err(|_| bad(&path, "the control log's public key"))?;
                (vkey.name().to_owned(), Credential::Named(Box::new(signer)))
            }
        };
        Ok(Self {
            node,
            owner,
            data: data.clone(),
            audience,
            credential,
            clock,
            rng,
        })
    }

    /// What the running node wrote about itself.
    pub const fn node(&self) -> &NodeFile {
        &self.node
    }

    /// Asks.
    pub async fn get(&self, target: &str) -> Result<Value, AdminError> {
        self.send(Method::GET, target, Vec::new()).await
    }

    /// Gives a command without a body.
    pub async fn post(&self, target: &str) -> Result<Value, AdminError> {
        self.send(Method::POST, target, Vec::new()).await
    }

    /// Gives a command.
    pub async fn post_json<T: Serialize + Sync>(
        &self,
        target: &str,
        body: &T,
    ) -> Result<Value, AdminError> {
        let body = serde_json::to_vec(body).map_err(|_| AdminError::Answer)?;
        self.send(Method::POST, target, body).await
    }

    async fn send(&self, method: Method, target: &str, body: Vec<u8>) -> Result<Value, AdminError> {
        let stream = self.connect().await?;
        let mut request = Request::builder()
            .method(&method)
            .uri(target)
            .header(HOST, "tipstaff")
            .header(CONTENT_TYPE, "application/json");
        request = match &self.credential {
            Credential::Local(cookie) => request.header(super::COOKIE, cookie.expose()),
            Credential::Named(signer) => {
                let audience = &self.audience;
                let signed = credential::Request {
                    audience,
                    method: method.as_str(),
                    target,
                    body: &body,
                };
                let header = credential::sign(&signed, signer, self.clock.now(), self.rng)?;
                request.header(credential::HEADER, header)
            }
        };
        let broken = |error: &dyn std::fmt::Display| AdminError::Broken(error.to_string());
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(&error))?;
        let driver = tokio::spawn(connection);
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| broken(&error))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| broken(&error))?;
        driver.abort();
        let body = body.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|_| AdminError::Answer);
        }
        let problem: Problem = serde_json::from_slice(&body).map_err(|_| AdminError::Answer)?;
        Err(AdminError::Refused(Problem { status, ..problem }))
    }

    async fn connect(&self) -> Result<UnixStream, AdminError> {
        let path = &self.node.admin;
        let stream = UnixStream::connect(path)
            .await
            .map_err(|cause| match cause.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AdminError::NoNode {
                    data: self.data.display().to_string(),
                },
                _ => AdminError::NotReadable {
                    path: path.display().to_string(),
                    cause,
                },
            })?;
        // The socket may lie in a shared folder: only who wrote the node's files is the node.
        let found = stream
            .peer_cred()
            .map_err(|error| AdminError::Broken(error.to_string()))?;
        if found.uid() != self.owner {
            return Err(AdminError::Impostor {
                path: path.display().to_string(),
                found: found.uid(),
                expected: self.owner,
            });
        }
        Ok(stream)
    }
}
