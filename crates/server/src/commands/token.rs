//! `tipstaff token` and `tipstaff connect`: what an agent runs, which cannot administer.

use std::sync::Arc;

use super::{Context, Failure, Outcome, Verdict};
use crate::cli::{AgentKeyArgs, Connect, Token};
use crate::config::FILE_NAME;
use crate::handing_on::{self, Call};
use crate::output;
use crate::token::{self, AskError, Asker, Granted, HandedOn, KeyFile};

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
    match ask(context, &asker, &token).await {
        Ok((granted, note)) => {
            output::print(&String::from_utf8_lossy(&granted.body))?;
            if let Some(note) = note {
                output::warn(&note);
            }
        }
        Err(Failure::Ask(AskError::Refused {
            status,
            code,
            description,
            body,
        })) => {
            output::print(&String::from_utf8_lossy(&body))?;
            if token.who.url.is_none()
                && let Some(failure) = context.no_upstream(&token.upstream)
            {
                let help = failure.help().unwrap_or_default();
                output::warn(&format!("note: {failure} ({help})"));
            }
            let asked = &token.handing_on;
            if asked.from.is_some() && asked.from_key.is_none() && !token.bearer {
                let own = token::default_dpop_file(&token.who.key);
                output::warn(&format!(
                    "note: the instance above was taken to hold the key in {}; where it holds \
                     another, as one of another agent does, name that with --from-key",
                    own.display()
                ));
            }
            let told = AskError::Refused {
                status,
                code,
                description,
                body,
            };
            return Err(Failure::Ask(told));
        }
        Err(failure) => return Err(failure),
    }
    Ok(Verdict::Good)
}

/// A token as it is asked for, and what is to be said about it.
async fn ask(
    context: &Context,
    asker: &Asker,
    token: &Token,
) -> Result<(Granted, Option<String>), Failure> {
    let (clock, rng) = (&context.clock, &context.rng);
    let asked = &token.handing_on;
    let own = token::default_dpop_file(&token.who.key);
    let below = asked.from.is_some() && !asked.once;
    let file = match (&token.dpop_key, below) {
        (Some(file), _) => file.clone(),
        (None, true) => token::below_dpop_file(&token.who.key),
        (None, false) => own.clone(),
    };
    let opened = if token.bearer {
        None
    } else if token.instance.is_some() {
        // No other key than the one that it has goes on with it.
        let key = token::dpop_key(&file)?;
        let granted = asker.ask(Some(&key), token.instance.as_ref(), clock, rng);
        return Ok((granted.await?, None));
    } else {
        Some(KeyFile::open(&file, rng)?)
    };
    let dpop = opened.as_ref().map(|it| &it.key);
    let keep = || opened.as_ref().map_or(Ok(()), KeyFile::keep);
    let call = match (&asked.call, asked.once) {
        (Some(file), true) if asked.exact => Some(Call::read(file)?),
        (Some(file), true) => Some(Call::read(file)?.compact()),
        (_, _) => None,
    };
    let subject = match &asked.from {
        Some(file) => Some(handing_on::subject(file)?),
        None if call.is_some() => {
            let granted = asker.ask(dpop, None, clock, rng).await?;
            Some(granted.token)
        }
        None => None,
    };
    let Some(subject) = subject else {
        let granted = asker.ask(dpop, None, clock, rng).await?;
        let note = (dpop.is_some() && token.dpop_key.is_none()).then(|| {
            format!(
                "note: the token is bound to the key in {}; asking again with it continues the \
                 instance",
                file.display()
            )
        });
        keep()?;
        return Ok((granted, note));
    };
    let details = match (&asked.authorization_details, &call) {
        (Some(file), _) => Some(handing_on::details(file)?),
        (None, call) => call.as_ref().map(|it| it.details(&token.upstream)),
    };
    let handed_on = HandedOn {
        details: details.as_deref(),
        max_calls: asked.max_calls,
        lifetime_s: asked.lifetime_s,
    };
    let held = match &asked.from_key {
        Some(file) => Some(token::dpop_key(file)?),
        None if below && own.exists() => Some(token::dpop_key(&own)?),
        None => None,
    };
    // Who holds a credential for one call proves it in the header; else the holder signs.
    let keys = if asked.once {
        (None, held.as_ref().or(dpop))
    } else {
        (held.as_ref(), dpop)
    };
    let granted = asker
        .hand_on(&subject, keys, &handed_on, clock, rng)
        .await?;
    let note = match (asked.once, keys.1) {
        (true, _) => Some(format!(
            "note: the token is good for one call within a minute, with exactly these bytes for its \
             arguments: {}",
            call.as_ref().map(Call::arguments).unwrap_or_default()
        )),
        (false, Some(_)) => Some(format!(
            "note: the token is bound to the key in {file}; the next one of the same instance is had \
             with `--instance {} --dpop-key {file}`",
            granted.instance,
            file = file.display()
        )),
        (false, None) => None,
    };
    keep()?;
    Ok((granted, note))
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
