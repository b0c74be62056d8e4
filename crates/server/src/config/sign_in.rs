//! `[login]` and `[workload.NAME]`: whose word is taken for who somebody is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use register::Word;
use serde::Deserialize;
use tokens::{ClaimRule, PersonClaim, WebUrl, WorkloadRule};
use vocab::{AgentId, PurposePath};

use super::{Environment, Reference};

/// A key of a table, and what is wrong with its value.
pub(super) type Wrong = (String, String);

/// `[login]`.
#[derive(Debug)]
pub struct LoginConfig {
    /// The company's `OpenID` provider; none if none is configured.
    pub provider: Option<ProviderConfig>,
    /// Whether the node's own login signs people in: always in development without a provider.
    pub local: bool,
    /// Whether people's clients may describe themselves on this machine.
    pub loopback_clients: bool,
}

/// The company's `OpenID` provider.
#[derive(Debug)]
pub struct ProviderConfig {
    /// Its identifier.
    pub issuer: WebUrl,
    /// What it knows this node as.
    pub client_id: String,
    /// The secret that goes with it.
    pub client_secret: Option<Reference>,
    /// Which claims say who a person is.
    pub person: Vec<PersonClaim>,
    /// What is asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Whether its identity assertions start instances.
    pub identity_assertions: bool,
}

/// `[workload.NAME]`.
#[derive(Debug)]
pub struct WorkloadConfig {
    /// What its tokens say in `iss`.
    pub issuer: Option<WebUrl>,
    /// The SPIFFE trust domain of its tokens, where they say no issuer.
    pub spiffe: Option<String>,
    /// Where its keys are, if not where the issuer says.
    pub jwks: Option<Jwks>,
    /// What its tokens say in `aud`; none: this node's public URL.
    pub audience: Option<String>,
    /// Which workloads are which agent.
    pub rules: Vec<WorkloadRule>,
}

/// Where an issuer's keys are.
#[derive(Debug)]
pub enum Jwks {
    /// At an address.
    Url(WebUrl),
    /// In a file.
    File(PathBuf),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLogin {
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    client_id: Option<String>,
    #[serde(default)]
    client_secret: Option<String>,
    #[serde(default)]
    external_id: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    identity_assertions: bool,
    #[serde(default)]
    local: Option<bool>,
    #[serde(default)]
    loopback_clients: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWorkload {
    #[serde(default)]
    issuer: Option<String>,
    #[serde(default)]
    spiffe: Option<String>,
    #[serde(default)]
    jwks: Option<String>,
    #[serde(default)]
    audience: Option<String>,
    #[serde(default)]
    rule: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    agent: AgentId,
    purpose: PurposePath,
    claims: BTreeMap<String, String>,
}

fn wrong(key: &str, message: impl Into<String>) -> Wrong {
    (key.to_owned(), message.into())
}

/// Claims that a person can change, or that pass from one person to another.
const NOT_IDENTIFYING: [&str; 5] = ["email", "name", "nickname", "given_name", "family_name"];

pub(super) fn login(
    raw: RawLogin,
    environment: Environment,
    base: &Path,
) -> Result<LoginConfig, Wrong> {
    let development = environment == Environment::Development;
    if raw.loopback_clients && !development {
        return Err(wrong(
            "login.loopback_clients",
            "is for `environment = \"development\"`: in production clients describe themselves over \
             https",
        ));
    }
    let local = raw.local.unwrap_or(development && raw.issuer.is_none());
    let provider = if let Some(issuer) = raw.issuer {
        Some(ProviderConfig {
            issuer: secure("login.issuer", &issuer)?,
            client_id: raw.client_id.filter(|id| !id.is_empty()).ok_or_else(|| {
                wrong(
                    "login",
                    "needs `client_id`: what the provider knows this node as",
                )
            })?,
            client_secret: raw
                .client_secret
                .map(|text| Reference::parse(&text, base))
                .transpose()
                .map_err(|why| wrong("login.client_secret", why.to_string()))?,
            person: person(raw.external_id, raw.id)?,
            scopes: raw.scopes,
            identity_assertions: raw.identity_assertions,
        })
    } else {
        let stray = [
            ("client_id", raw.client_id.is_some()),
            ("client_secret", raw.client_secret.is_some()),
            ("external_id", raw.external_id.is_some()),
            ("id", raw.id.is_some()),
            ("scopes", !raw.scopes.is_empty()),
            ("identity_assertions", raw.identity_assertions),
        ];
        if let Some((key, _)) = stray.into_iter().find(|(_, given)| *given) {
            return Err(wrong(
                &format!("login.{key}"),
                "belongs to `issuer`, which is not there",
            ));
        }
        None
    };
    Ok(LoginConfig {
        provider,
        local,
        loopback_clients: raw.loopback_clients,
    })
}

fn person(external_id: Option<String>, id: Option<String>) -> Result<Vec<PersonClaim>, Wrong> {
    let mut claims = Vec::new();
    // By `sub` unless something else is said.
    let external_id = match (&external_id, &id) {
        (None, None) => Some("sub".to_owned()),
        _ => external_id,
    };
    for (key, claim) in [("login.external_id", &external_id), ("login.id", &id)] {
        if let Some(claim) = claim
            && (claim.is_empty() || NOT_IDENTIFYING.contains(&claim.as_str()))
        {
            return Err(wrong(
                key,
                format!(
                    "`{claim}` does not say who somebody is: it can be changed, or pass to somebody \
                     else; use `sub`, or a claim that the provider keeps for one person"
                ),
            ));
        }
    }
    claims.extend(external_id.map(PersonClaim::ExternalId));
    claims.extend(id.map(PersonClaim::Id));
    Ok(claims)
}

/// An address that the administrator names: `https`, or on this machine.
pub(super) fn secure(key: &str, text: &str) -> Result<WebUrl, Wrong> {
    let url: WebUrl = text
        .parse()
        .map_err(|error| wrong(key, format!("`{text}`: {error}")))?;
    let authority = url.authority();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        Some(_) | None => authority,
    };
    if !url.is_https() && !matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
        return Err(wrong(
            key,
            format!("`{text}` is not https; in plain only an address on this machine can be"),
        ));
    }
    Ok(url)
}

pub(super) fn workloads(
    raw: BTreeMap<String, RawWorkload>,
    base: &Path,
) -> Result<BTreeMap<Word, WorkloadConfig>, Wrong> {
    let mut all: BTreeMap<Word, WorkloadConfig> = BTreeMap::new();
    for (name, raw) in raw {
        let key = format!("workload.{name}");
        let name: Word = name
            .parse()
            .map_err(|error: vocab::IdError| wrong(&key, error.to_string()))?;
        let one = workload(&key, raw, base)?;
        let twin =
            |other: &WorkloadConfig| other.issuer == one.issuer && other.spiffe == one.spiffe;
        if all.values().any(twin) {
            return Err(wrong(
                &key,
                "is the same issuer as another; put the rules into one table",
            ));
        }
        all.insert(name, one);
    }
    Ok(all)
}

fn workload(key: &str, raw: RawWorkload, base: &Path) -> Result<WorkloadConfig, Wrong> {
    let part = |part: &str| format!("{key}.{part}");
    let issuer = raw
        .issuer
        .map(|issuer| secure(&part("issuer"), &issuer))
        .transpose()?;
    match (&issuer, &raw.spiffe) {
        (Some(_), None) => {}
        (None, Some(domain)) => {
            let letter =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
            if domain.is_empty() || !domain.chars().all(letter) {
                let message = "is a trust domain, as in `acme.example`, without `spiffe://`";
                return Err(wrong(&part("spiffe"), message));
            }
        }
        _ => {
            return Err(wrong(
                key,
                "needs either `issuer`, what its tokens say in `iss`, or `spiffe`, the trust domain \
                 of tokens that say no issuer",
            ));
        }
    }
    let jwks = match raw
        .jwks
        .as_deref()
        .map(|text| (text, text.strip_prefix("file:")))
    {
        None => None,
        Some((_, Some(path))) => Some(Jwks::File(base.join(path))),
        Some((text, None)) => Some(Jwks::Url(secure(&part("jwks"), text)?)),
    };
    if issuer.is_none() && jwks.is_none() {
        return Err(wrong(
            key,
            "needs `jwks`: nobody says where the keys of a trust domain are",
        ));
    }
    if raw.rule.is_empty() {
        return Err(wrong(
            key,
            "needs at least one `[[workload.NAME.rule]]`: without one nobody is an agent",
        ));
    }
    let mut rules = Vec::new();
    for rule in raw.rule {
        if rule.claims.is_empty() {
            return Err(wrong(
                &part("rule"),
                "has no `claims`: it would make every workload of the issuer that agent",
            ));
        }
        rules.push(WorkloadRule {
            claims: rule
                .claims
                .iter()
                .map(|(path, pattern)| ClaimRule::new(path, pattern))
                .collect(),
            agent: rule.agent,
            purpose: rule.purpose,
        });
    }
    Ok(WorkloadConfig {
        issuer,
        spiffe: raw.spiffe,
        jwks,
        audience: raw.audience,
        rules,
    })
}
