//! `tipstaff token` and `tipstaff connect`: what an agent runs, which cannot administer.

use std::sync::Arc;

use super::{Context, Failure, Outcome, Verdict};
use crate::cli::{AgentKeyArgs, Connect, Token};
use crate::config::FILE_NAME;
use crate::output;
use crate::token::{self, AskError, Asker};

/// The agent, as it was named on the command line. Without `--url` it turns to the node that runs
/// here, if one does, else to the one that its key file names.
fn asker(
    context: &Context,
    who: &AgentKeyArgs,
    upstream: &vocab::UpstreamName,
) -> Result<Asker, Failure> {
    // Without a configuration the key file says where; one that was named must be there.
    if context.path.as_os_str() != FILE_NAME && !context.path.exists() {
        context.config()?;
    }
    let url = who.url.clone().or_else(|| context.local_url());
    Ok(Asker::new(
        &who.agent,
        &who.key,
        who.purpose.clone(),
        upstream.clone(),
        url.as_deref(),
    )?)
}

pub(super) async fn run(context: &Context, token: Token) -> Outcome {
    let asker = asker(context, &token.who, &token.upstream)?;
    let chosen = token.dpop_key.is_some();
    let file = token
        .dpop_key
        .unwrap_or_else(|| token::default_dpop_file(&token.who.key));
    let dpop = if token.bearer {
        None
    } else {
        Some(token::dpop_key(&file, &context.rng)?)
    };
    match asker
        .ask(dpop.as_ref(), None, &context.clock, &context.rng)
        .await
    {
        Ok(granted) => {
            output::print(&String::from_utf8_lossy(&granted.body))?;
            if dpop.is_some() && !chosen {
                output::warn(&format!(
                    "note: the token is bound to the key in {}; asking again with it continues \
                     the instance",
                    file.display()
                ));
            }
        }
        Err(AskError::Refused {
            status,
            code,
            description,
            body,
        }) => {
            output::print(&String::from_utf8_lossy(&body))?;
            if token.who.url.is_none()
                && let Some(failure) = context.no_upstream(&token.upstream)
            {
                let help = failure.help().unwrap_or_default();
                output::warn(&format!("note: {failure} ({help})"));
            }
            let told = AskError::Refused {
                status,
                code,
                description,
                body,
            };
            return Err(Failure::Ask(told));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Verdict::Good)
}

pub(super) async fn connect(context: &Context, connect: Connect) -> Outcome {
    if connect.who.url.is_none()
        && let Some(failure) = context.no_upstream(&connect.upstream)
    {
        return Err(failure);
    }
    let asker = asker(context, &connect.who, &connect.upstream)?;
    let (clock, rng) = (Arc::new(context.clock), Arc::new(context.rng));
    crate::connect::run(asker, clock, rng).await?;
    Ok(Verdict::Good)
}
