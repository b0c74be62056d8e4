//! Workloads that start instances with a token of their own: a Kubernetes service account, a job of
//! a build service, a SPIFFE workload (RFC 7523 §2.1). The administrator says whose tokens are
//! believed, and by rules over their claims which agent such a workload is, and for what.
//!
//! Such a token lies in a file for an hour and is read again and again, so it is not used up. It is
//! tied instead: whoever shows it first ties it to the key that they prove in the same request, and
//! nobody with another key can use it after them. Shown without a key it is used up at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use register::Word;
use vocab::limits::{CLOCK_LEEWAY_SECONDS, WORKLOADS_REMEMBERED_MAX};
use vocab::{AgentId, Digest, PurposePath, Time};

use crate::foreign::{Claims, Foreign, ForeignError, ForeignTyp};
use crate::json::{Json, Object};
use crate::provider::{Provider, ProviderError};

/// The longest life of a workload's token that is accepted, in seconds: a day.
const LIFETIME_SECONDS_MAX: u64 = 24 * 60 * 60;
/// The longest SPIFFE ID (SPIFFE-ID §2.3), in bytes.
const SPIFFE_ID_BYTES_MAX: usize = 2048;

/// Why a workload's token started nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkloadError {
    /// The text is no token.
    #[error("the assertion cannot be used: {0}")]
    Form(#[from] ForeignError),
    /// Nobody's whom the configuration trusts.
    #[error("the assertion is by an issuer that this node does not trust")]
    Issuer,
    /// It is not good, or that cannot be told.
    #[error("the assertion by `{issuer}` is not accepted: {cause}")]
    Provider {
        /// The issuer's name in the configuration.
        issuer: Word,
        /// Why.
        cause: ProviderError,
    },
    /// A name that only looks like a SPIFFE ID.
    #[error(
        "the assertion's `sub` is no SPIFFE ID: its path has an empty segment, `.` or `..`, or a \
         character other than letters, digits, `.`, `-` and `_`"
    )]
    SpiffeId,
    /// No rule knows the workload.
    #[error("no rule of `workload.{issuer}` is about such a workload, or about that purpose")]
    Rule {
        /// The issuer's name in the configuration.
        issuer: Word,
    },
    /// Used by another.
    #[error(
        "the assertion was used before, with another key or with none; prove the same key, or have a \
         new one issued"
    )]
    Replayed,
    /// Issued before the node started, and shown without a key.
    #[error(
        "the assertion was issued before this node started, so it may have been used; prove a key \
         (DPoP), or have a new one issued"
    )]
    BeforeStart,
    /// Too much is remembered.
    #[error("too many assertions are in use to tell whether this one is new")]
    Full,
}

/// What one claim must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRule {
    /// The members on the way to it.
    path: Vec<String>,
    pattern: Pattern,
}

/// A text with `*` for a run of characters that stays between `/` and `:`, and `**` for any run.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Within,
    Any,
}

impl Pattern {
    fn read(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('*') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let any = after.strip_prefix('*');
            pieces.push(if any.is_some() {
                Piece::Any
            } else {
                Piece::Within
            });
            rest = any.unwrap_or(after);
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Self(pieces)
    }

    fn matches(&self, text: &str) -> bool {
        // Where the pattern can stand after each piece, as offsets into the text: linear in the
        // text for each piece, whatever the pattern.
        let mut at = vec![false; text.len() + 1];
        if let Some(first) = at.first_mut() {
            *first = true;
        }
        for piece in &self.0 {
            let mut next = vec![false; text.len() + 1];
            let mut run = false;
            for (offset, reached) in at.iter().enumerate() {
                let to = match piece {
                    Piece::Text(word) => {
                        let here = text
                            .get(offset..)
                            .is_some_and(|rest| rest.starts_with(word));
                        (*reached && here).then_some(offset + word.len())
                    }
                    Piece::Any => {
                        run |= *reached;
                        run.then_some(offset)
                    }
                    Piece::Within => {
                        let before = offset.checked_sub(1);
                        let before = before.and_then(|before| text.as_bytes().get(before));
                        run &= !matches!(before, Some(b'/' | b':'));
                        run |= *reached;
                        run.then_some(offset)
                    }
                };
                if let Some(slot) = to.and_then(|to| next.get_mut(to)) {
                    *slot = true;
                }
            }
            at = next;
        }
        at.last().copied().unwrap_or_default()
    }
}

impl ClaimRule {
    /// A rule that a claim, or a member of one (`kubernetes.io/namespace`), matches a pattern.
    pub fn new(path: &str, pattern: &str) -> Self {
        // As in a JSON pointer (RFC 6901 §3), for names that hold a `/`.
        let member = |name: &str| name.replace("~1", "/").replace("~0", "~");
        Self {
            path: path.split('/').map(member).collect(),
            pattern: Pattern::read(pattern),
        }
    }

    fn holds(&self, claims: &Object) -> bool {
        let Some((last, way)) = self.path.split_last() else {
            return false;
        };
        let mut object = claims;
        for name in way {
            match object.get(name) {
                Some(Json::Object(inner)) => object = inner,
                _ => return false,
            }
        }
        match object.get(last) {
            Some(Json::Text(text)) => self.pattern.matches(text),
            Some(Json::Number(number)) => self.pattern.matches(&number.to_string()),
            Some(Json::List(list)) => list
                .iter()
                .any(|one| matches!(one, Json::Text(text) if self.pattern.matches(text))),
            Some(Json::Other | Json::Object(_)) | None => false,
        }
    }
}

/// Which workloads are an agent, and for what they may act as it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadRule {
    /// What must hold of the claims: all of these, and there is at least one.
    pub claims: Vec<ClaimRule>,
    /// The agent.
    pub agent: AgentId,
    /// Why it acts: the request names this or narrower, or nothing.
    pub purpose: PurposePath,
}

/// An issuer whose workloads may start instances.
#[derive(Debug)]
pub struct Workloads {
    /// Its name in the configuration.
    pub name: Word,
    /// Its keys.
    pub provider: Provider,
    /// The SPIFFE trust domain that its tokens are of, where they say no issuer.
    pub spiffe: Option<String>,
    /// What `aud` must be.
    pub audiences: Vec<String>,
    /// The rules. The first that holds is the one.
    pub rules: Vec<WorkloadRule>,
}

/// What a workload's token came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) issuer: Word,
    pub(crate) subject: Digest,
    pub(crate) agent: AgentId,
    pub(crate) purpose: PurposePath,
    /// Names the token, for as long as it is valid.
    token: Digest,
    issued_at: u64,
    expires_at: u64,
}

impl Workloads {
    fn issued(&self, claimed: &Object) -> bool {
        let sub = claimed.text("sub").ok().flatten().unwrap_or_default();
        match (self.provider.issuer(), &self.spiffe) {
            (Some(issuer), _) => claimed.text("iss") == Ok(Some(issuer)),
            (None, Some(domain)) => sub
                .strip_prefix("spiffe://")
                .and_then(|rest| rest.strip_prefix(&**domain))
                .is_some_and(|path| path.starts_with('/')),
            (None, None) => false,
        }
    }

    fn read(
        &self,
        claims: &Claims,
        purpose: Option<&PurposePath>,
    ) -> Option<(AgentId, PurposePath)> {
        let rule = self.rules.iter().find(|rule| {
            rule.claims.iter().all(|claim| claim.holds(&claims.0))
                && !rule.claims.is_empty()
                && purpose.is_none_or(|purpose| purpose.is_at_or_below(&rule.purpose))
        })?;
        let purpose = purpose.unwrap_or(&rule.purpose).clone();
        Some((rule.agent.clone(), purpose))
    }
}

/// Whether a name claims to be a SPIFFE ID.
fn is_of_spiffe(subject: &str) -> bool {
    let scheme = subject.get(..7);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// Whether a name is a SPIFFE ID, so that rules see the path that everybody else sees: what is
/// decoded, or walked up, by somebody is another path for them.
fn is_spiffe_id(subject: &str) -> bool {
    let Some(rest) = subject.strip_prefix("spiffe://") else {
        return false;
    };
    let mut segments = rest.split('/');
    let domain = segments.next().unwrap_or_default();
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    let of_path = |b: u8| lower(b) || b.is_ascii_uppercase();
    subject.len() <= SPIFFE_ID_BYTES_MAX
        && !domain.is_empty()
        && domain.bytes().all(lower)
        && segments.all(|it| !["", ".", ".."].contains(&it) && it.bytes().all(of_path))
}

/// Finds out which agent a token's workload is.
pub(crate) async fn read(
    all: &[Workloads],
    assertion: &str,
    purpose: Option<&PurposePath>,
) -> Result<Workload, WorkloadError> {
    let token = Foreign::parse(assertion, ForeignTyp::Identity)?;
    let claimed = token.claimed()?;
    let issuer = all.iter().find(|issuer| issuer.issued(&claimed));
    let issuer = issuer.ok_or(WorkloadError::Issuer)?;
    let refused = |cause| WorkloadError::Provider {
        issuer: issuer.name.clone(),
        cause,
    };
    let audiences: Vec<&str> = issuer.audiences.iter().map(String::as_str).collect();
    let claims = issuer
        .provider
        .verify(&token, &audiences, LIFETIME_SECONDS_MAX)
        .await
        .map_err(refused)?;
    let subject = claims.text("sub")?;
    if is_of_spiffe(subject) && !is_spiffe_id(subject) {
        return Err(WorkloadError::SpiffeId);
    }
    let (agent, purpose) = issuer
        .read(&claims, purpose)
        .ok_or_else(|| WorkloadError::Rule {
            issuer: issuer.name.clone(),
        })?;
    let expires_at = claims.expires_at()?;
    Ok(Workload {
        subject: Digest::of(format!("{}\n{subject}", issuer.name).as_bytes()),
        issuer: issuer.name.clone(),
        agent,
        purpose,
        // What was signed, so that another spelling of the signature is the same token.
        token: Digest::of(token.signed().as_bytes()),
        issued_at: claims
            .0
            .seconds("iat")
            .map_err(ForeignError::from)?
            .unwrap_or(0),
        expires_at,
    })
}

/// Which tokens of workloads are tied to which keys.
#[derive(Debug, Default)]
pub(crate) struct Tied(Mutex<HashMap<Digest, Tie>>);

/// The key that a token is tied to, and until when, in seconds.
type Tie = (Option<Arc<str>>, u64);

impl Tied {
    /// Ties a token to the key that is proven, or finds it tied to that key already.
    pub(crate) fn tie(
        &self,
        workload: &Workload,
        key: Option<&Arc<str>>,
        now: Time,
        boot: Time,
    ) -> Result<(), WorkloadError> {
        let mut tied = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.as_secs();
        match tied.get(&workload.token) {
            Some((Some(owner), _)) if Some(owner) == key => return Ok(()),
            Some(_) => return Err(WorkloadError::Replayed),
            // What was shown before the start is forgotten. With a key nobody gains by that who
            // could not have been first; without one it would be a second use.
            None if key.is_none() && workload.issued_at <= boot.as_secs() => {
                return Err(WorkloadError::BeforeStart);
            }
            None => {}
        }
        if tied.len() >= WORKLOADS_REMEMBERED_MAX {
            tied.retain(|_, (_, until)| *until >= now);
            if tied.len() >= WORKLOADS_REMEMBERED_MAX {
                return Err(WorkloadError::Full);
            }
        }
        let until = workload.expires_at + CLOCK_LEEWAY_SECONDS;
        tied.insert(workload.token, (key.cloned(), until));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        let matched = Pattern::read(pattern).matches(text);
        assert_eq!(matched, expected, "{pattern} on {text}");
    }

    #[test]
    fn a_star_stays_between_separators() {
        check("acme/app", "acme/app", true);
        check("acme/app", "acme/application", false);
        check("acme/*", "acme/app", true);
        check("acme/*", "acme/app/more", false);
        check("acme/*", "acme/", true);
        check("*", "", true);
        check("*", "a:b", false);
        check("**", "a:b/c", true);
        check(
            "repo:acme/*:ref:refs/heads/main",
            "repo:acme/app:ref:refs/heads/main",
            true,
        );
        // A branch may be called what another repository is.
        check(
            "repo:acme/*:ref:refs/heads/main",
            "repo:acme/x:pull_request:ref:refs/heads/main",
            false,
        );
        check("repo:acme/*", "repo:acme-evil/x", false);
        check("a**z", "a:/z", true);
        check("a**z", "a:/zz", true);
        check("a*z", "a:z", false);
        check("ä*", "äb", true);
        check("", "", true);
        check("", "a", false);
    }

    proptest! {
        #[test]
        fn a_text_without_stars_matches_itself_alone(a in "[a-c/:é]{0,8}", b in "[a-c/:é]{0,8}") {
            prop_assert_eq!(Pattern::read(&a).matches(&b), a == b);
        }

        #[test]
        fn stars_match_what_is_put_in_their_place(a in "[a-c/:]{0,5}", b in "[a-cé]{0,5}", c in "[a-c/:]{0,5}") {
            let pattern = Pattern::read(&format!("{a}*{c}"));
            let whole = format!("{a}{b}{c}");
            prop_assert!(pattern.matches(&whole));
        }
    }

    #[test]
    fn path_tricks_are_no_spiffe_ids() {
        for (subject, good) in [
            ("spiffe://acme.example/ns/prod/sa/billing", true),
            ("spiffe://acme.example", true),
            ("spiffe://acme.example/...", true),
            ("spiffe://acme.example/ns/prod/../test/sa/billing", false),
            ("spiffe://acme.example/ns/./prod", false),
            ("spiffe://acme.example/ns//prod", false),
            ("spiffe://acme.example/ns/prod/", false),
            ("spiffe://acme.example/", false),
            ("spiffe://acme.example/ns%2fprod", false),
            ("spiffe://acme.example/ns/%2e%2e/prod", false),
            ("spiffe://acme.example/ns/prod?x", false),
            ("spiffe://acme.example/ns/prod#x", false),
            ("spiffe://acme.example/ns/prôd", false),
            ("spiffe://acme.example:80/ns", false),
            ("spiffe://a@acme.example/ns", false),
            ("spiffe://ACME.example/ns", false),
            ("spiffe:///ns", false),
            ("SPIFFE://acme.example/ns", false),
            ("spiffe:acme", false),
        ] {
            assert!(is_of_spiffe(subject));
            assert_eq!(is_spiffe_id(subject), good, "{subject}");
        }
        assert!(!is_spiffe_id(&format!("spiffe://a/{}", "x".repeat(2048))));
        assert!(!is_of_spiffe("repo:acme/app"));
    }

    #[test]
    fn claims_are_found_by_their_way() {
        let claims = Object::parse(
            br#"{"sub":"s","n":7,"l":["a","b"],"kubernetes.io":{"namespace":"prod"},"a/b":"c","o":{}}"#,
        )
        .unwrap();
        for (path, pattern, holds) in [
            ("sub", "s", true),
            ("Sub", "s", false),
            ("n", "7", true),
            ("l", "b", true),
            ("l", "c", false),
            ("kubernetes.io/namespace", "prod", true),
            ("kubernetes.io/namespace", "test", false),
            ("kubernetes.io", "**", false),
            ("a~1b", "c", true),
            ("o", "**", false),
            ("missing", "**", false),
            ("sub/x", "**", false),
        ] {
            let rule = ClaimRule::new(path, pattern);
            assert_eq!(rule.holds(&claims), holds, "{path} {pattern}");
        }
    }
}
