//! `[approvals]`: how those who may approve are told.

use std::path::Path;

use serde::Deserialize;
use tokens::WebUrl;

use super::Reference;
use super::sign_in::{self, Wrong};

/// What goes for approvals.
#[derive(Debug, Clone, Default)]
pub struct Approvals {
    /// Who is told that some wait; nobody if none.
    pub webhook: Option<WebhookConfig>,
}

/// Where a message is sent for each approval.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Where.
    pub url: WebUrl,
    /// What messages are signed with.
    pub secret: Reference,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApprovals {
    #[serde(default)]
    webhook: Option<String>,
    #[serde(default)]
    webhook_secret: Option<String>,
}

/// What is configured, or the key that is wrong and why.
pub(super) fn approvals(raw: RawApprovals, base: &Path) -> Result<Approvals, Wrong> {
    let wrong = |key: &str, why: &str| (format!("approvals.{key}"), why.to_owned());
    let webhook = match (raw.webhook, raw.webhook_secret) {
        (None, None) => None,
        (Some(url), Some(secret)) => Some(WebhookConfig {
            url: sign_in::secure("approvals.webhook", &url)?,
            secret: match Reference::parse(&secret, base) {
                Ok(Reference::Plain(_)) => {
                    let why = "is a secret, so never `plain:`; use `env:NAME` or `file:PATH`";
                    return Err(wrong("webhook_secret", why));
                }
                Ok(reference) => reference,
                Err(why) => return Err(wrong("webhook_secret", &why.to_string())),
            },
        }),
        (Some(_), None) => {
            let why = "needs `webhook_secret`, with which messages are signed: a receiver could not \
                       tell them from anybody's";
            return Err(wrong("webhook", why));
        }
        (None, Some(_)) => {
            return Err(wrong("webhook_secret", "belongs to `webhook`, the address"));
        }
    };
    Ok(Approvals { webhook })
}
