//! `[openbao.NAME]`: servers that secrets of upstreams are read from, and as whom.

use std::collections::BTreeMap;
use std::path::Path;

use broker::BaoAuth;
use serde::Deserialize;
use tokens::WebUrl;

use super::{Config, Reference, sign_in};

/// `[openbao.NAME]`.
#[derive(Debug, Clone)]
pub struct BaoConfig {
    /// Where it is.
    pub address: WebUrl,
    /// The namespace there.
    pub namespace: Option<String>,
    /// As whom it is asked.
    pub auth: BaoAuth,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawBao {
    address: String,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    approle: Option<RawAppRole>,
    #[serde(default)]
    kubernetes: Option<RawKubernetes>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAppRole {
    role_id: String,
    secret_id: String,
    #[serde(default)]
    mount: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKubernetes {
    role: String,
    jwt: String,
    #[serde(default)]
    mount: Option<String>,
}

/// A key below the table, and what is wrong with it.
type Wrong = (String, String);

pub(super) fn servers(
    raw: BTreeMap<String, RawBao>,
    base: &Path,
) -> Result<BTreeMap<String, BaoConfig>, Wrong> {
    let mut all = BTreeMap::new();
    for (name, raw) in raw {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || !name.bytes().all(letter) {
            let message = "a server's name is letters, digits, `-` and `_`".to_owned();
            return Err((format!("openbao.{name}"), message));
        }
        let server = server(raw, base)
            .map_err(|(key, message)| (format!("openbao.{name}.{key}"), message))?;
        all.insert(name, server);
    }
    Ok(all)
}

fn server(raw: RawBao, base: &Path) -> Result<BaoConfig, (&'static str, String)> {
    let address = sign_in::secure("address", &raw.address);
    let address = address.map_err(|(_, message)| ("address", message))?;
    if address.as_str().contains('?') {
        return Err((
            "address",
            "has no query, as in `https://bao.acme.example:8200`".to_owned(),
        ));
    }
    let is_part = |it: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"-._/".contains(&b);
        !it.is_empty() && it.bytes().all(letter) && !it.split('/').any(|it| it == "..")
    };
    if raw.namespace.as_deref().is_some_and(|it| !is_part(it)) {
        return Err(("namespace", "is a path, as in `team/a`".to_owned()));
    }
    let secret = |key: &'static str, text: &str| match Reference::parse(text, base) {
        Ok(Reference::Plain(_) | Reference::OpenBao(_)) => {
            let message = "is a secret of this machine: `env:NAME`, `file:PATH` or `vault:NAME`";
            Err((key, message.to_owned()))
        }
        Ok(source) => Ok(source),
        Err(why) => Err((key, why.to_string())),
    };
    let mounted = |key: &'static str, mount: Option<String>, default: &str| {
        let mount = mount.unwrap_or_else(|| default.to_owned());
        let why = "is where the auth method is mounted, as in `approle`";
        is_part(&mount)
            .then_some(mount)
            .ok_or((key, why.to_owned()))
    };
    let auth = match (raw.token, raw.approle, raw.kubernetes) {
        (Some(token), None, None) => BaoAuth::Token(secret("token", &token)?),
        (None, Some(it), None) => BaoAuth::AppRole {
            mount: mounted("approle.mount", it.mount, "approle")?,
            role_id: it.role_id,
            secret_id: secret("approle.secret_id", &it.secret_id)?,
        },
        (None, None, Some(it)) => BaoAuth::Kubernetes {
            mount: mounted("kubernetes.mount", it.mount, "kubernetes")?,
            role: it.role,
            jwt: secret("kubernetes.jwt", &it.jwt)?,
        },
        _ => {
            let message = "has one of `token`, `approle` and `kubernetes`: as whom it is asked";
            return Err(("token", message.to_owned()));
        }
    };
    Ok(BaoConfig {
        address,
        namespace: raw.namespace,
        auth,
    })
}

/// Whether every reference to a server stands where it can, and names one that there is.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    for (key, reference) in crate::secrets::references(config) {
        let Reference::OpenBao(wanted) = reference else {
            continue;
        };
        let is_upstream = key.starts_with("upstream.") && !key.ends_with(".oauth.client_secret");
        if !is_upstream {
            let message = "`openbao:` can stand in `env` and `headers` of upstreams only";
            return Err((key, message.to_owned()));
        }
        if !config.openbao.contains_key(&wanted.store) {
            let store = &wanted.store;
            return Err((key, format!("there is no table `[openbao.{store}]`")));
        }
    }
    Ok(())
}
