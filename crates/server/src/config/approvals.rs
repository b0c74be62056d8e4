//! `[approvals]`: how long they last, and how those who may approve are told.

use std::path::Path;
use std::time::Duration;

use register::ApprovalSettings;
use serde::Deserialize;
use tokens::WebUrl;

use super::Reference;
use super::sign_in::{self, Wrong};

/// What goes for approvals.
#[derive(Debug, Clone, Default)]
pub struct Approvals {
    /// How long they last, and how many wait.
    pub settings: ApprovalSettings,
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
    lasts_minutes: Option<u64>,
    #[serde(default)]
    pending_per_instance: Option<usize>,
    #[serde(default)]
    webhook: Option<String>,
    #[serde(default)]
    webhook_secret: Option<String>,
}

/// What is configured, or the key that is wrong and why.
pub(super) fn approvals(raw: RawApprovals, base: &Path) -> Result<Approvals, Wrong> {
    let wrong = |key: &str, why: &str| (format!("approvals.{key}"), why.to_owned());
    let mut settings = ApprovalSettings::default();
    if let Some(minutes) = raw.lasts_minutes {
        if !(1..=1_440).contains(&minutes) {
            return Err(wrong("lasts_minutes", "must be from 1 to 1440 (one day)"));
        }
        settings.lasts = Duration::from_mins(minutes);
    }
    if let Some(most) = raw.pending_per_instance {
        if !(1..=settings.per_agent).contains(&most) {
            return Err(wrong("pending_per_instance", "must be from 1 to 64"));
        }
        settings.per_instance = most;
    }
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
    Ok(Approvals { settings, webhook })
}
