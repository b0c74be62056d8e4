//! `tipstaff init`: a folder that can be run at once and that teaches by its comments.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ledger::note;
use vocab::{LogName, Rng, TrustDomain};

use crate::config::{Config, ConfigError, FILE_NAME};
use crate::keys::{self, KeyError};

/// What was written.
#[derive(Debug, serde::Serialize)]
pub struct Written {
    /// The folder.
    pub dir: PathBuf,
    /// The configuration file.
    pub config: PathBuf,
    /// The logs' public keys, in signed-note form.
    pub vkeys: [String; 2],
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error("`{0}` is there already; nothing was changed")]
    Exists(String),
    /// A folder or file could not be written.
    #[error("cannot write `{path}`: {cause}")]
    Write {
        /// The path.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// A key could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The file we wrote could not be read back.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Writes a configuration, a policy folder, keys and log origins into `dir`.
pub fn init(dir: &Path, trust_domain: &TrustDomain, rng: &dyn Rng) -> Result<Written, InitError> {
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|cause| InitError::Write {
            path: path.display().to_string(),
            cause,
        })
    };
    let make = |path: &Path| {
        fs::create_dir_all(path).map_err(|cause| InitError::Write {
            path: path.display().to_string(),
            cause,
        })
    };
    let config_path = dir.join(FILE_NAME);
    for part in [&config_path, &dir.join("keys"), &dir.join("data")] {
        if part.exists() {
            return Err(InitError::Exists(part.display().to_string()));
        }
    }
    make(dir)?;
    let policies = dir.join("policies");
    make(&policies)?;
    let text = CONFIG.replace("{trust_domain}", trust_domain.as_str());
    let config = Config::parse(&config_path, &text)?;
    let mut vkeys = Vec::new();
    keys::make_folder(&config.keys)?;
    keys::make_folder(&config.agents())?;
    make(&config.data)?;
    for log in LogName::ALL {
        // The origin is random so that no two logs in the world share one, and fixed for ever.
        let origin = format!(
            "{trust_domain}/{log}/{}",
            keys::random_label(rng).map_err(KeyError::from)?
        );
        let signer = note::Signer::generate(&origin, rng)
            .map_err(|error| KeyError::Generate(error.to_string()))?;
        keys::write_secret(&keys::log_key(&config.keys, log), signer.to_text().expose())?;
        let vkey = signer.verifier().to_string();
        write(
            &config.data.join(format!("{log}.vkey")),
            &format!("{vkey}\n"),
        )?;
        vkeys.push(vkey);
    }
    keys::write_new_seed(&keys::token_key(&config.keys), rng)?;
    keys::write_new_seed(&keys::facts_key(&config.keys), rng)?;
    keys::write_new_seed(&crate::http::auditor_token(&config.keys), rng)?;
    let policy = policies.join("first.cedar");
    if !policy.exists() {
        write(&policy, POLICY)?;
        write(&policies.join("first.test.yaml"), POLICY_TEST)?;
    }
    // Last, so that a folder with a configuration is a folder that was finished.
    write(&config_path, &text)?;
    let [control, calls] = <[String; 2]>::try_from(vkeys).unwrap_or_default();
    Ok(Written {
        dir: dir.to_path_buf(),
        config: config_path,
        vkeys: [control, calls],
    })
}

const CONFIG: &str = include_str!("init/tipstaff.toml");
const POLICY: &str = include_str!("init/first.cedar");
const POLICY_TEST: &str = include_str!("init/first.test.yaml");
