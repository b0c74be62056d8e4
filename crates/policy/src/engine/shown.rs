//! What of a call is shown to Cedar.

use std::collections::BTreeSet;

use cedar_policy::{Context, RestrictedExpression};
use serde_json::{Map, Value};
use vocab::Time;

use crate::facts::{Facts, Target as Called};
use crate::findings::Direction;
use crate::json;
use crate::target::{Callable, MethodArgument, Target, UpstreamOptions};
use crate::tools::Refusal;

/// The arguments of the call, as an object.
pub(super) fn arguments(facts: &Facts, target: &Target) -> Result<Map<String, Value>, Refusal> {
    let plain = |text: String| Refusal {
        cause: text.clone(),
        reason: text,
    };
    match (&target.call, &facts.target) {
        (Callable::Tool(_), _) => json::object(facts.args.get()).ok_or_else(|| {
            plain("The arguments are not a JSON object in which each key is there once.".to_owned())
        }),
        (Callable::Method(method), Called::Method { name_or_uri, .. }) => {
            let (name, required) = match method.argument {
                MethodArgument::Uri => ("uri", true),
                MethodArgument::Name => ("name", true),
                MethodArgument::MaybeName => ("name", false),
            };
            match name_or_uri {
                None if required => Err(plain(format!("`{}` needs a `{name}`.", method.name))),
                None => Ok(Map::new()),
                Some(text) => Ok([(name.to_owned(), Value::String(text.clone()))]
                    .into_iter()
                    .collect()),
            }
        }
        (Callable::Method(_), Called::Tool { .. }) => {
            Err(plain("A tool is called as a tool.".to_owned()))
        }
    }
}

pub(super) fn check_arguments(
    target: &Target,
    args: Map<String, Value>,
    options: &UpstreamOptions,
) -> Result<Map<String, Value>, Refusal> {
    let Callable::Tool(tool) = &target.call else {
        return Ok(args);
    };
    let args = Value::Object(args);
    tool.check(&args, options.allow_undeclared)?;
    match args {
        Value::Object(args) => Ok(args),
        _ => Ok(Map::new()),
    }
}

/// What policy sees of a call beside its arguments.
pub(super) struct Seen<'a> {
    pub(super) proven: bool,
    pub(super) now: Option<Time>,
    pub(super) approved: bool,
    pub(super) findings: BTreeSet<String>,
    pub(super) direction: Direction,
    pub(super) labels: &'a BTreeSet<String>,
}

pub(super) fn context(
    args: Vec<(String, RestrictedExpression)>,
    canonical: Vec<(String, RestrictedExpression)>,
    untyped: &[Vec<String>],
    seen: &Seen<'_>,
) -> Option<Context> {
    let untyped = untyped
        .iter()
        .map(|path| RestrictedExpression::new_string(path.join(".")));
    let pairs = [
        (
            "args".to_owned(),
            RestrictedExpression::new_record(args).ok()?,
        ),
        (
            "canonical".to_owned(),
            RestrictedExpression::new_record(canonical).ok()?,
        ),
        (
            "proven".to_owned(),
            RestrictedExpression::new_bool(seen.proven),
        ),
        ("untyped".to_owned(), RestrictedExpression::new_set(untyped)),
        ("findings".to_owned(), set(&seen.findings)),
        (
            "direction".to_owned(),
            RestrictedExpression::new_string(seen.direction.as_str().to_owned()),
        ),
        ("labels".to_owned(), set(seen.labels)),
    ];
    let now = seen.now.map(|now| {
        let now = RestrictedExpression::new_datetime(datetime(now));
        ("now".to_owned(), now)
    });
    let approval = if seen.approved {
        let nothing_in_it = RestrictedExpression::new_record([]).ok()?;
        Some(("approval".to_owned(), nothing_in_it))
    } else {
        None
    };
    Context::from_pairs(pairs.into_iter().chain(now).chain(approval)).ok()
}

fn set(texts: &BTreeSet<String>) -> RestrictedExpression {
    let texts = texts.iter().cloned();
    RestrictedExpression::new_set(texts.map(RestrictedExpression::new_string))
}

/// Cedar's form of a moment, which has milliseconds.
fn datetime(now: Time) -> String {
    let mut text = now.to_string();
    text.truncate(text.len().saturating_sub(4));
    text.push('Z');
    text
}
