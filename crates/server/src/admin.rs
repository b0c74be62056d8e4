//! Administration: HTTP/1.1 on a Unix socket that knows who is calling.
//!
//! A caller is one of two:
//!
//! * a **local user**, by the peer credentials of the connection: root, or the user that the node
//!   runs as. That alone is not enough, since a stdio upstream runs as the node's user too, and
//!   most kernels let a confined child connect to any socket. So a local caller also shows the
//!   *cookie*, a random text in the data folder that is new with every start and that a confined
//!   child cannot read;
//! * a **named administrator**, by a request signed with their key ([`credential`]).
//!
//! Every command is carried out to its end even if whoever gave it goes away, and a cut is only
//! acknowledged when its barrier is on record.

mod approvals;
mod break_glass;
pub mod client;
pub mod credential;
mod cuts;
mod directory;
mod routes;
mod secrets;
pub mod tools;
pub mod wire;

pub use cuts::{Kill, newest};

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use http::StatusCode;
use ledger::{Actor, ActorKind, Log as _};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vocab::{AdminId, Digest, Secret};

use crate::keys;
use crate::node::Shared;
use credential::Gate;
use wire::Problem;

/// The header with which a local user shows the cookie.
pub const COOKIE: http::HeaderName = http::HeaderName::from_static("tipstaff-cookie");
/// Longest path that a socket can have everywhere, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Where the administration socket of a data folder is: in it, or, if that path is too long for a
/// socket, in a folder of this user's own under the system's temporary folder.
pub fn socket_path(data: &Path) -> PathBuf {
    let path = data.join("admin.sock");
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return path;
    }
    let label = Digest::of(data.as_os_str().as_encoded_bytes()).to_string();
    let label = label.get(..16).unwrap_or_default();
    std::env::temp_dir()
        .join(format!("tipstaff-{label}"))
        .join("admin.sock")
}

/// Where the cookie of a data folder is.
pub fn cookie_path(data: &Path) -> PathBuf {
    data.join("admin.cookie")
}

/// What the routes stand on.
#[derive(Debug)]
struct Admin {
    shared: Arc<Shared>,
    gate: Gate,
    cookie: Secret<String>,
    /// The user that the node runs as.
    uid: u32,
    tasks: TaskTracker,
}

/// Who connected, as the kernel says.
#[derive(Debug, Clone, Copy)]
struct Peer(Option<u32>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

/// An administrator whose credential was checked.
#[derive(Debug, Clone)]
struct Caller {
    id: AdminId,
    actor: Actor,
}

/// Listens on the administration socket until stopped.
pub fn listen(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> io::Result<()> {
    let path = socket_path(&shared.config.data);
    let uid = rustix::process::geteuid().as_raw();
    if let Some(folder) = path.parent().filter(|folder| *folder != shared.config.data) {
        own_folder(folder, uid)?;
    }
    // The data folder's lock is ours, so a socket that is there is a dead node's.
    remove(&path)?;
    let cookie = keys::random_label(&*shared.rng).map_err(io::Error::other)?;
    let cookie_path = cookie_path(&shared.config.data);
    remove(&cookie_path)?;
    keys::write_secret(&cookie_path, &cookie).map_err(io::Error::other)?;
    let listener = UnixListener::bind(&path)?;
    // Members of the group may connect, for they may have named credentials.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660))?;
    let admin = Arc::new(Admin {
        gate: Gate::new(shared.control_log.origin(), shared.clock.now()),
        shared: Arc::clone(shared),
        cookie: Secret::new(cookie),
        uid,
        tasks: tasks.clone(),
    });
    let app = routes::router(admin).into_make_service_with_connect_info::<Peer>();
    let stop = stop.clone();
    tasks.spawn(async move {
        let served = axum::serve(listener, app)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(error = %error, "The administration socket failed");
        }
        let _gone = fs::remove_file(&path);
        let _gone = fs::remove_file(&cookie_path);
    });
    Ok(())
}

/// A folder that is this user's alone; one that somebody else made first is refused.
fn own_folder(folder: &Path, uid: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Err(_) | Ok(()) => {}
    }
    let meta = fs::symlink_metadata(folder)?;
    if meta.is_dir() && meta.uid() == uid && meta.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!(
            "`{}` is not this user's own folder",
            folder.display()
        )))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

impl Admin {
    /// Who sent a request. One that carries a signature is judged by it alone.
    fn caller(
        &self,
        peer: Peer,
        parts: &http::request::Parts,
        body: &[u8],
    ) -> Result<Caller, Problem> {
        let mut signed = parts.headers.get_all(&credential::HEADER).iter();
        if let Some(header) = signed.next() {
            let target = parts
                .uri
                .path_and_query()
                .map_or("/", |target| target.as_str());
            let header = header.to_str().ok().filter(|_| signed.next().is_none());
            let now = self.shared.clock.now();
            let control = self.shared.plane.control();
            let key = header
                .ok_or(credential::Untrusted::Form)
                .and_then(|it| {
                    let request = (parts.method.as_str(), target, body);
                    self.gate.check(it, request, now, |id| {
                        control.view(|state| state.admin(id).map(|admin| admin.key.clone()))
                    })
                })
                .map_err(|error| {
                    self.shared
                        .plane
                        .refusals()
                        .note("admin-credential", "admin", None);
                    Problem::new(StatusCode::UNAUTHORIZED, "untrusted", &error)
                })?;
            return Ok(Caller::new(key.admin().clone(), key.credential()));
        }
        let Some(uid) = peer.0.filter(|uid| *uid == 0 || *uid == self.uid) else {
            self.shared
                .plane
                .refusals()
                .note("admin-peer", "admin", None);
            let who = peer
                .0
                .map_or_else(|| "this caller".to_owned(), |uid| format!("user {uid}"));
            let told = format!(
                "{who} may not administer this node; only root and the node's own user {} may",
                self.uid
            );
            return Err(
                Problem::new(StatusCode::FORBIDDEN, "not-an-administrator", &told).help(
                    "run the command as that user, or with a named credential: `--admin-key FILE` \
                 (an administrator makes one with `tipstaff admin add NAME --key-out FILE`)",
                ),
            );
        };
        let shown = parts
            .headers
            .get(&COOKIE)
            .map(http::HeaderValue::as_bytes)
            .unwrap_or_default();
        if !vocab::secret::same_bytes(shown, self.cookie.expose().as_bytes()) {
            self.shared
                .plane
                .refusals()
                .note("admin-cookie", "admin", None);
            let told = "the caller did not show what lies in `admin.cookie` in the data folder";
            return Err(Problem::new(StatusCode::FORBIDDEN, "no-cookie", &told)
                .help("use the `tipstaff` commands, which read it"));
        }
        let id: AdminId = format!("uid:{uid}")
            .parse()
            .map_err(|_| Problem::internal())?;
        Ok(Caller::new(id, "peer-uid".to_owned()))
    }
}

impl Caller {
    fn new(id: AdminId, credential: String) -> Self {
        let actor = Actor {
            kind: ActorKind::Person,
            id: id.to_string(),
            credential,
            verified: true,
        };
        Self { id, actor }
    }
}

#[cfg(test)]
mod tests;
