//! The keys folder: one secret a file, readable by the node's user alone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::note::Signer;
use tokens::{Algorithm, Es256Key, PrivateKey, TokenSigner};
use vocab::rng::RngError;
use vocab::{LogName, Rng, Secret, rng};

use crate::output;

/// What a file with a P-256 key begins with; one with an Ed25519 key is its seed alone.
const ES256: &str = "ES256 ";

/// Why a key could not be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RngError),
    /// It could not be made.
    #[error("no key could be made: {0}")]
    Generate(String),
    /// It could not be written.
    #[error("cannot write the key file `{path}`: {cause}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It could not be read.
    #[error("cannot read the key file `{path}`: {cause}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It is not a key.
    #[error("`{path}` does not hold {what}")]
    Form {
        /// The file.
        path: String,
        /// What it should hold.
        what: &'static str,
    },
}

/// Where a log's signing key lies.
pub fn log_key(keys: &Path, log: LogName) -> PathBuf {
    keys.join(format!("{log}.skey"))
}

/// Where the key lies that is to sign a log next.
pub fn next_log_key(keys: &Path, log: LogName) -> PathBuf {
    keys.join(format!("{log}.next.skey"))
}

/// Where the key lies that signed a log before, and signs beside the present one.
pub fn past_log_key(keys: &Path, log: LogName) -> PathBuf {
    keys.join(format!("{log}.past.skey"))
}

/// Reads a key that signs a log.
pub fn read_log_key(path: &Path) -> Result<Signer, KeyError> {
    let text = read_secret(path)?;
    text.expose().parse().map_err(|_| KeyError::Form {
        path: path.display().to_string(),
        what: "a signed-note private key",
    })
}

/// Where the key that signs tokens lies.
pub fn token_key(keys: &Path) -> PathBuf {
    keys.join("token.key")
}

/// Where the key lies that is to sign tokens next.
pub fn next_token_key(keys: &Path) -> PathBuf {
    keys.join("token.next.key")
}

/// Makes a key that signs tokens, in a new file that appears whole or not at all.
pub fn write_token_key(path: &Path, algorithm: Algorithm, rng: &dyn Rng) -> Result<(), KeyError> {
    let text = match algorithm {
        Algorithm::EdDsa => {
            let seed = Secret::new(rng::bytes::<32>(rng)?);
            Secret::new(BASE64.encode(seed.expose()))
        }
        Algorithm::Es256 => {
            let key =
                Es256Key::generate().map_err(|error| KeyError::Generate(error.to_string()))?;
            Secret::new(format!("{ES256}{}", key.expose()))
        }
    };
    write_secret_whole(path, text.expose())
}

/// Reads a key that signs tokens.
pub fn read_token_key(path: &Path) -> Result<Arc<dyn TokenSigner>, KeyError> {
    let text = read_secret(path)?;
    let Some(es256) = text.expose().strip_prefix(ES256) else {
        return Ok(Arc::new(PrivateKey::from_seed(&read_seed(path)?)));
    };
    let key = Es256Key::parse(&Secret::new(es256.to_owned()));
    let key = key.map_err(|_| KeyError::Form {
        path: path.display().to_string(),
        what: "a P-256 key in PKCS#8",
    })?;
    Ok(Arc::new(key))
}

/// Where the key lies that authenticates what people's clients were given.
pub fn people_key(keys: &Path) -> PathBuf {
    keys.join("people.key")
}

/// Reads a secret of 32 bytes, or makes it if it is not there.
pub fn seed_or_new(path: &Path, rng: &dyn Rng) -> Result<Secret<[u8; 32]>, KeyError> {
    if !path.exists() {
        let seed = Secret::new(rng::bytes::<32>(rng)?);
        write_secret_whole(path, Secret::new(BASE64.encode(seed.expose())).expose())?;
    }
    read_seed(path)
}

/// Where the key that wraps the facts' group keys lies.
pub fn facts_key(keys: &Path) -> PathBuf {
    keys.join("facts.key")
}

/// Makes the folder, closed to others.
pub fn make_folder(path: &Path) -> Result<(), KeyError> {
    fs::create_dir_all(path)
        .and_then(|()| restrict(path, 0o700))
        .map_err(|cause| KeyError::Write {
            path: path.display().to_string(),
            cause,
        })
}

/// Writes a secret to a new file that only this user can read.
pub fn write_secret(path: &Path, text: &str) -> Result<(), KeyError> {
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(path)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|cause| KeyError::Write {
        path: path.display().to_string(),
        cause,
    })
}

/// Writes a secret to a new file that appears whole or not at all.
pub fn write_secret_whole(path: &Path, text: &str) -> Result<(), KeyError> {
    let write = || {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        // What the next line says of a folder that is not there names a file nobody asked for.
        fs::metadata(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|cause| KeyError::Write {
        path: path.display().to_string(),
        cause,
    })
}

/// Writes 32 fresh random bytes, base 64, to a new file.
pub fn write_new_seed(path: &Path, rng: &dyn Rng) -> Result<(), KeyError> {
    let seed = Secret::new(rng::bytes::<32>(rng)?);
    let text = Secret::new(BASE64.encode(seed.expose()));
    write_secret(path, text.expose())
}

/// Reads a secret's text, without its last line break.
pub fn read_secret(path: &Path) -> Result<Secret<String>, KeyError> {
    let text = fs::read_to_string(path).map_err(|cause| KeyError::Read {
        path: path.display().to_string(),
        cause,
    })?;
    let text = Secret::new(text);
    Ok(Secret::new(text.expose().trim_end().to_owned()))
}

/// Reads 32 bytes written by [`write_new_seed`].
pub fn read_seed(path: &Path) -> Result<Secret<[u8; 32]>, KeyError> {
    let text = read_secret(path)?;
    let bytes = BASE64
        .decode(text.expose())
        .ok()
        .and_then(|bytes| bytes.try_into().ok());
    bytes.map(Secret::new).ok_or_else(|| KeyError::Form {
        path: path.display().to_string(),
        what: "32 bytes in base 64",
    })
}

/// A label of 130 random bits in base 32.
pub fn random_label(rng: &dyn Rng) -> Result<String, RngError> {
    Ok(vocab::id::base32(&rng::bytes::<16>(rng)?))
}

/// The keys folder and the keys in it, as far as others than their owner may reach them.
pub fn open_to_others(keys: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(keys).into_iter().flatten();
    let files = files.filter_map(|file| Some(file.ok()?.path()));
    let mut open: Vec<_> = std::iter::once(keys.to_path_buf())
        .chain(files)
        .filter(|path| is_open_to_others(path).unwrap_or(false))
        .collect();
    open.sort();
    open
}

/// Reads a secret that a person names on the command line, and tells them if others may read it.
pub fn read_named_secret(path: &Path) -> Result<Secret<String>, KeyError> {
    let text = read_secret(path)?;
    if is_open_to_others(path).unwrap_or(false) {
        let path = path.display();
        output::warn(&format!(
            "warning: the key file `{path}` can be read by others; chmod go= '{path}', and if \
             somebody may have read it, make a new key"
        ));
    }
    Ok(text)
}

/// Whether others than the owner can read the file.
pub fn is_open_to_others(path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        Ok(fs::metadata(path)?.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        fs::metadata(path).map(|_| false)
    }
}

fn restrict(path: &Path, mode: u32) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }
    #[cfg(not(unix))]
    {
        let _ = (path, mode);
        Ok(())
    }
}
