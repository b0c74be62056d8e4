//! `[ssf.NAME]`: who sends security events about people, and how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use directory::ssf::Formats;
use register::Word;
use serde::Deserialize;
use tokens::WebUrl;

use super::{Jwks, Reference};

/// A stream of security events.
#[derive(Debug)]
pub struct Signals {
    /// Who makes them.
    pub issuer: WebUrl,
    /// Whom they are for; none: the stream's own URL here.
    pub audience: Option<String>,
    /// Where the issuer's keys are; none: where its configuration document says.
    pub jwks: Option<Jwks>,
    /// Who vouches for people in `iss_sub`; none: the issuer.
    pub subject_issuer: Option<String>,
    /// Which names say who somebody is.
    pub formats: Formats,
    /// What a transmitter that pushes has in `Authorization`; none: it does not push.
    pub authorization: Option<Reference>,
    /// The state that verifications must have.
    pub state: Option<String>,
    /// Where events are asked for; none: they are not.
    pub poll: Option<Poll>,
}

/// Asking for events (RFC 8936).
#[derive(Debug)]
pub struct Poll {
    /// Where.
    pub url: WebUrl,
    /// What we have in `Authorization: Bearer`.
    pub token: Option<Reference>,
    /// How often.
    pub every: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSignals {
    issuer: String,
    #[serde(default)]
    audience: Option<String>,
    #[serde(default)]
    jwks: Option<String>,
    #[serde(default)]
    subject_issuer: Option<String>,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
    #[serde(default)]
    authorization: Option<String>,
    #[serde(default)]
    state: Option<String>,
    #[serde(default)]
    poll_url: Option<String>,
    #[serde(default)]
    poll_token: Option<String>,
    #[serde(default)]
    poll_s: Option<u64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Subject {
    IssSub,
    Opaque,
    Email,
}

/// Every stream, or the key that is wrong and why.
pub(super) fn signals(
    raw: BTreeMap<String, RawSignals>,
    base: &Path,
) -> Result<BTreeMap<Word, Signals>, (String, String)> {
    let mut all = BTreeMap::new();
    for (name, raw) in raw {
        let key = format!("ssf.{name}");
        let name: Word = name
            .parse()
            .map_err(|error: vocab::IdError| (key.clone(), error.to_string()))?;
        let stream = stream(raw, base).map_err(|(part, why)| (format!("{key}.{part}"), why))?;
        all.insert(name, stream);
    }
    Ok(all)
}

fn stream(raw: RawSignals, base: &Path) -> Result<Signals, (&'static str, String)> {
    let url = |key: &'static str, text: &str| {
        let url = text.parse::<WebUrl>();
        url.map_err(|error| (key, format!("`{text}`: {error}")))
    };
    let reference = |key: &'static str, text: Option<String>| {
        let read = text.map(|text| Reference::parse(&text, base));
        read.transpose().map_err(|why| (key, why.to_string()))
    };
    let poll_url = raw.poll_url.as_deref().map(|it| url("poll_url", it));
    let poll_url = poll_url.transpose()?;
    let poll_token = reference("poll_token", raw.poll_token)?;
    let authorization = reference("authorization", raw.authorization)?;
    let poll = match poll_url {
        Some(url) => Some(Poll {
            url,
            token: poll_token,
            every: super::seconds("poll_s", raw.poll_s, 60)?,
        }),
        None if poll_token.is_some() || raw.poll_s.is_some() => {
            return Err((
                "poll_url",
                "is needed where anything else of polling is said".into(),
            ));
        }
        None => None,
    };
    if poll.is_none() && authorization.is_none() {
        return Err((
            "authorization",
            "needs `authorization`, so that the transmitter can push, or `poll_url`".to_owned(),
        ));
    }
    let jwks = match raw.jwks.as_deref() {
        None => None,
        Some(text) => Some(match text.strip_prefix("file:") {
            Some(path) => Jwks::File(base.join(PathBuf::from(path))),
            None => Jwks::Url(url("jwks", text)?),
        }),
    };
    let formats = raw.subjects.map_or_else(Formats::default, |all| Formats {
        iss_sub: all.contains(&Subject::IssSub),
        opaque: all.contains(&Subject::Opaque),
        email: all.contains(&Subject::Email),
    });
    Ok(Signals {
        issuer: url("issuer", &raw.issuer)?,
        audience: raw.audience,
        jwks,
        subject_issuer: raw.subject_issuer,
        formats,
        authorization,
        state: raw.state,
        poll,
    })
}

/// `[directory]`: where the company's directory is asked about active sponsors.
#[derive(Debug, Clone)]
pub struct AskDirectory {
    /// Its SCIM service.
    pub url: WebUrl,
    /// What we have in `Authorization: Bearer`.
    pub token: Option<Reference>,
    /// How often everybody is asked about.
    pub every: Duration,
    /// How long an answer holds; none: for ever.
    pub fresh: Option<Duration>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAsk {
    url: String,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    every_s: Option<u64>,
    #[serde(default)]
    fresh_s: Option<u64>,
    #[serde(default)]
    stale: Stale,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Stale {
    #[default]
    Suspend,
    Ignore,
}

/// Where the directory is asked, or the key that is wrong and why.
pub(super) fn ask(raw: RawAsk, base: &Path) -> Result<AskDirectory, (&'static str, String)> {
    let url = raw.url.parse();
    let url = url.map_err(|error: tokens::WebUrlError| {
        ("directory.url", format!("`{}`: {error}", raw.url))
    })?;
    let token = raw.token.map(|text| Reference::parse(&text, base));
    let every = super::seconds("directory.every_s", raw.every_s, 60)?;
    let fresh = super::seconds("directory.fresh_s", raw.fresh_s, 900)?;
    if fresh <= every {
        let why = "must be more than `every_s`, or every answer is old before the next";
        return Err(("directory.fresh_s", why.to_owned()));
    }
    Ok(AskDirectory {
        url,
        token: token
            .transpose()
            .map_err(|why| ("directory.token", why.to_string()))?,
        every,
        fresh: (raw.stale == Stale::Suspend).then_some(fresh),
    })
}
