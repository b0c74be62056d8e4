//! `tipstaff doctor`.

use std::fmt::Write as _;

use super::{Context, Failure, Outcome, Verdict};
use crate::admin::client::{AdminError, Client};
use crate::config::ConfigError;
use crate::doctor::{self, Finding, Level};
use crate::output::clean;

pub(super) async fn run(context: &Context) -> Outcome {
    let found = match context.config() {
        Err(error) => {
            let advice = match error {
                ConfigError::Unreadable { .. } => {
                    "name the file with `--config`; `tipstaff init DIR` writes a new one"
                }
                ConfigError::Syntax { .. } | ConfigError::Value { .. } => {
                    "mend it there; docs/reference/config.md has every key with an example"
                }
            };
            vec![Finding::fail("config", error.to_string(), advice)]
        }
        Ok(config) => {
            let mut found = doctor::of_files(&config, &context.clock);
            let key = context.admin_key.as_deref();
            let asked = match Client::find(&config, key, &context.clock, &context.rng) {
                Ok(node) => node.get("/v1/doctor").await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(value) => {
                    let of_node: Vec<Finding> =
                        serde_json::from_value(value).map_err(|_| AdminError::Answer)?;
                    found.extend(of_node);
                }
                Err(AdminError::NoNode { .. }) => found.extend(doctor::without_node(&config)),
                Err(error) => found.push(Finding::fail(
                    "node",
                    format!("it could not be asked: {error}"),
                    "run the command as the user that the node runs as",
                )),
            }
            found
        }
    };
    let worst = found
        .iter()
        .map(|finding| finding.status)
        .max()
        .unwrap_or(Level::Ok);
    let value = serde_json::to_value(&found).map_err(|error| Failure::Other(error.to_string()))?;
    context.show(&value, |_| text(&found))?;
    Ok(if worst == Level::Fail {
        Verdict::Wrong
    } else {
        Verdict::Good
    })
}

fn text(found: &[Finding]) -> String {
    let mut out = String::new();
    for finding in found {
        let mark = match finding.status {
            Level::Ok => "ok  ",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let _infallible = writeln!(
            out,
            "{mark}  {:<10} {}",
            finding.check,
            clean(&finding.found)
        );
        if let Some(advice) = &finding.advice {
            let _infallible = writeln!(out, "{:<16} → {}", "", clean(advice));
        }
    }
    out
}
