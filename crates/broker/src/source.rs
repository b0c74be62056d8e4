//! Where a secret is to be found.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use vocab::{IdError, Secret, SecretName};
use zeroize::Zeroizing;

use crate::bao::BaoError;
use crate::vault::{Vault, VaultError};

/// Longest secret, in bytes: a certificate chain with its key fits.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;

/// Where a value is to be found: what configuration has in place of secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// An environment variable of the node.
    Env(String),
    /// A file's contents, without the line breaks at its end.
    File(PathBuf),
    /// A secret of the local vault.
    Vault(SecretName),
    /// A field of what an OpenBao or HashiCorp Vault server gives.
    OpenBao(BaoRef),
    /// A plain value that is no secret: `plain:VALUE`.
    Plain(String),
}

/// A field of what a server gives at a path: `openbao:NAME/PATH#FIELD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaoRef {
    /// What the configuration calls the server.
    pub store: String,
    /// What follows `/v1/` in its API.
    pub path: String,
    /// The field.
    pub field: String,
}

impl BaoRef {
    fn parse(text: &str) -> Option<Self> {
        let (rest, field) = text.split_once('#')?;
        let (store, path) = rest.split_once('/')?;
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        let part = |it: &str| !matches!(it, "" | "." | "..") && it.bytes().all(letter);
        let is_one = part(store) && path.split('/').all(part);
        let is_field = !field.is_empty() && field.bytes().all(|b| b.is_ascii_graphic());
        (is_one && is_field).then(|| Self {
            store: store.to_owned(),
            path: path.to_owned(),
            field: field.to_owned(),
        })
    }
}

/// Why a text is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It is something else, perhaps the secret itself; so it is not repeated.
    #[error(
        "a value is a reference: `env:NAME`, `file:PATH`, `vault:NAME`, `openbao:NAME/PATH#FIELD`, or \
         `plain:VALUE` for what is no secret; secrets are never written here"
    )]
    Form,
    /// It names no server, path and field.
    #[error(
        "`openbao:` is followed by NAME/PATH#FIELD: a table `[openbao.NAME]`, what follows `/v1/` in \
         the server's API (`secret/data/github`, `database/creds/reader`), and a field of it"
    )]
    OpenBao,
    /// No secret can have that name.
    #[error("`vault:` names {0}")]
    Name(IdError),
}

/// Why a value cannot be had. It never says anything of the value.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The variable is not set, or is not text.
    #[error("the environment variable `{name}` is not set, or is no text")]
    Unset {
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read `{path}`: {cause}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is a pipe, a device, a socket or a folder, which may let whoever reads it wait for ever.
    #[error("`{path}` is not a regular file; a secret lies in one", path = .path.display())]
    NoFile {
        /// What it is called.
        path: PathBuf,
    },
    /// It is longer than a secret can be.
    #[error("{from} holds more than {SECRET_BYTES_MAX} bytes")]
    TooLong {
        /// The source.
        from: String,
    },
    /// It is no text, or has a zero byte in it.
    #[error("{from} holds what is no text")]
    NoText {
        /// The source.
        from: String,
    },
    /// There is nothing in it.
    #[error("{from} is empty")]
    Empty {
        /// The source.
        from: String,
    },
    /// The vault does not give it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A server does not give it.
    #[error("{from}: {cause}")]
    Bao {
        /// The source.
        from: String,
        /// Why.
        cause: BaoError,
    },
    /// It is not to be had here.
    #[error("{from} can stand in `env` and `headers` of upstreams only")]
    Elsewhere {
        /// The source.
        from: String,
    },
}

impl Source {
    /// Reads a reference; paths are relative to `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ReferenceError> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(base.join(path))),
            Some(("vault", name)) => name.parse().map(Self::Vault).map_err(ReferenceError::Name),
            Some(("openbao", rest)) => {
                let reference = BaoRef::parse(rest).ok_or(ReferenceError::OpenBao)?;
                Ok(Self::OpenBao(reference))
            }
            Some(("plain", value)) => Ok(Self::Plain(value.to_owned())),
            _ => Err(ReferenceError::Form),
        }
    }

    /// Whether the value is a secret: all but `plain:` is.
    pub const fn is_secret(&self) -> bool {
        match self {
            Self::Env(_) | Self::File(_) | Self::Vault(_) | Self::OpenBao(_) => true,
            Self::Plain(_) => false,
        }
    }

    /// Whether reading it may wait for a disk.
    pub(crate) fn waits(&self, vault: &Vault) -> bool {
        match self {
            Self::File(_) => true,
            Self::Vault(name) => !vault.holds(name),
            Self::Env(_) | Self::OpenBao(_) | Self::Plain(_) => false,
        }
    }

    /// The value, as it is at this moment. May block on the disk.
    pub fn read(&self, vault: &Vault) -> Result<Secret<String>, SourceError> {
        let value = match self {
            Self::Env(name) => variable(name)?,
            Self::File(path) => file(path)?,
            Self::Vault(name) => vault.get(name)?,
            Self::OpenBao(_) => {
                let from = self.to_string();
                return Err(SourceError::Elsewhere { from });
            }
            Self::Plain(value) => return Ok(Secret::new(value.clone())),
        };
        self.checked(value)
    }

    /// A value, if it can be a secret.
    pub(crate) fn checked(&self, value: Secret<String>) -> Result<Secret<String>, SourceError> {
        let from = || self.to_string();
        if value.expose().len() > SECRET_BYTES_MAX {
            return Err(SourceError::TooLong { from: from() });
        }
        if value.expose().contains('\0') {
            return Err(SourceError::NoText { from: from() });
        }
        if value.expose().is_empty() {
            return Err(SourceError::Empty { from: from() });
        }
        Ok(value)
    }
}

/// As configuration writes it; a plain value is not repeated either, since people err.
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => write!(f, "`env:{name}`"),
            Self::File(path) => write!(f, "`file:{}`", path.display()),
            Self::Vault(name) => write!(f, "`vault:{name}`"),
            Self::OpenBao(it) => write!(f, "`openbao:{}/{}#{}`", it.store, it.path, it.field),
            Self::Plain(_) => f.write_str("`plain:…`"),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the environment is one of the places that configuration may name"
)]
fn variable(name: &str) -> Result<Secret<String>, SourceError> {
    let value = std::env::var(name);
    value.map(Secret::new).map_err(|_| SourceError::Unset {
        name: name.to_owned(),
    })
}

fn file(path: &Path) -> Result<Secret<String>, SourceError> {
    // Room for all of it, so that it is not moved and left behind while it grows.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX + 2));
    let limit = u64::try_from(SECRET_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let unreadable = |cause| SourceError::Unreadable {
        path: path.to_owned(),
        cause,
    };
    let file = open(path).map_err(unreadable)?;
    // What was opened is asked, for the name may mean another one by now.
    if !file.metadata().map_err(unreadable)?.is_file() {
        let path = path.to_owned();
        return Err(SourceError::NoFile { path });
    }
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| SourceError::NoText {
        from: Source::File(path.to_owned()).to_string(),
    })?;
    Ok(Secret::new(without_end(text).to_owned()))
}

/// Without waiting for whoever might write to a pipe.
fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
}

/// A value without the line breaks at its end, which editors and `echo` add.
pub(crate) fn without_end(text: &str) -> &str {
    text.trim_end_matches(['\r', '\n'])
}

#[cfg(test)]
mod tests;
