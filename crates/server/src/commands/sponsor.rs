//! `tipstaff sponsor …`.

use serde_json::Value;

use super::{Context, Outcome, Verdict, certificate, changed, on_record};
use crate::admin::wire;
use crate::cli::SponsorCommand;
use crate::output::{Lines, Table, at, cell, count, time};

pub(super) async fn run(context: &Context, command: SponsorCommand) -> Outcome {
    let node = context.node()?;
    match command {
        SponsorCommand::Add { id, name, email } => {
            let new = wire::NewSponsor { id, name, email };
            let added = node.post_json("/v1/sponsors", &new).await?;
            context.show(&added, |it| {
                format!(
                    "{}\nWho they are was typed in by you: asserted, not verified.",
                    changed(it, "sponsor")
                )
            })?;
        }
        SponsorCommand::List => {
            context.show(&node.get("/v1/sponsors").await?, table)?;
        }
        SponsorCommand::Show { id } => {
            context.show(&node.get(&format!("/v1/sponsors/{id}")).await?, lines)?;
        }
        SponsorCommand::Suspend { id, wait } => {
            let done = node.post(&format!("/v1/sponsors/{id}/suspend")).await?;
            if wait {
                let handle = cell(at(&done, "/handle"));
                return certificate::waited(context, "sponsor", &handle).await;
            }
            context.show(&done, |it| {
                format!(
                    "{}\nNothing that they sponsor is permitted any more: {}.",
                    changed(it, "sponsor"),
                    agents(it)
                )
            })?;
        }
        SponsorCommand::Resume {
            id,
            despite_directory,
        } => {
            let done = node
                .post_json(
                    &format!("/v1/sponsors/{id}/resume"),
                    &wire::Resume { despite_directory },
                )
                .await?;
            context.show(&done, |it| changed(it, "sponsor"))?;
        }
        SponsorCommand::Link {
            id,
            external_id,
            replace,
        } => {
            let link = wire::Link {
                external_id,
                replace,
            };
            let done = node
                .post_json(&format!("/v1/sponsors/{id}/link"), &link)
                .await?;
            context.show(&done, |it| {
                let linked = if it["changed"] == true {
                    "is linked to"
                } else {
                    "was linked already to"
                };
                format!(
                    "sponsor {id} {linked} external id {}{}; the directory speaks for them, and they \
                     are {}",
                    cell(&it["external_id"]),
                    on_record(it),
                    cell(&it["status"])
                )
            })?;
        }
        SponsorCommand::Deputies { id, set, clear } => {
            let path = format!("/v1/sponsors/{id}");
            let sponsor = if set.is_empty() && !clear {
                node.get(&path).await?
            } else {
                let deputies = wire::Deputies { deputies: set };
                node.post_json(&format!("{path}/deputies"), &deputies)
                    .await?
            };
            context.show(&sponsor, |it| match cell(&it["deputies"]) {
                none if none.is_empty() => {
                    format!("sponsor {id} has no deputies{}", on_record(it))
                }
                deputies => format!("deputies of sponsor {id}: {deputies}{}", on_record(it)),
            })?;
        }
        SponsorCommand::Erase { id } => {
            let erased = node
                .post_json("/v1/erase", &wire::Erase { what: id })
                .await?;
            context.show(&erased, |it| {
                format!(
                    "What was sealed as {} is destroyed; records go on verifying.",
                    cell(&it["erased"])
                )
            })?;
        }
    }
    Ok(Verdict::Good)
}

/// `tipstaff login`.
pub(super) async fn login(context: &Context, id: vocab::SponsorId) -> Outcome {
    let node = context.node()?;
    let url = node
        .post_json("/v1/login", &wire::Login { id: id.clone() })
        .await?;
    context.show(&url, |it| {
        format!(
            "Open this within five minutes, in the browser that is to be signed in as {id}:\n  {}\n\
             Nobody but you vouches for who opens it: for development only.",
            cell(&it["url"])
        )
    })?;
    Ok(Verdict::Good)
}

fn agents(sponsor: &Value) -> String {
    let agents = match cell(&sponsor["agents"]) {
        none if none.is_empty() => "no agents".to_owned(),
        agents => format!("agents {agents}"),
    };
    match sponsor["acting"].as_u64() {
        None | Some(0) => agents,
        Some(acting) => {
            let instances = count(acting, "instance", "instances");
            format!("{agents}; nor what acts for them: {instances} of others' agents")
        }
    }
}

fn table(sponsors: &Value) -> String {
    let mut table = Table::new(["id", "name", "email", "status", "agents"]);
    for it in sponsors.as_array().into_iter().flatten() {
        // Who was erased is known by their handle.
        let id = if it["id"].is_null() {
            &it["handle"]
        } else {
            &it["id"]
        };
        table.row([
            cell(id),
            cell(&it["name"]),
            cell(&it["email"]),
            cell(&it["status"]),
            cell(&it["agents"]),
        ]);
    }
    table.text("There is no sponsor yet: tipstaff sponsor add ID --name NAME --email EMAIL")
}

fn lines(it: &Value) -> String {
    let mut lines = Lines::default();
    lines.line("id", cell(&it["id"]));
    lines.line("name", cell(&it["name"]));
    lines.line("email", cell(&it["email"]));
    lines.line(
        "status",
        format!("{} since {}", cell(&it["status"]), time(&it["since"])),
    );
    for hold in it["holds"].as_array().into_iter().flatten() {
        let by = match hold["by"].as_str() {
            Some(by) => format!(", by {by}"),
            None => String::new(),
        };
        lines.line(
            "stopped by",
            format!(
                "{}: {}, {}{by} ({})",
                cell(&hold["source"]),
                cell(&hold["event"]),
                time(&hold["at"]),
                cell(&hold["record"])
            ),
        );
    }
    lines.line("external id", cell(&it["external_id"]));
    lines.line("groups", cell(&it["groups"]));
    lines.line("agents", cell(&it["agents"]));
    if !it["deputies"].is_null() {
        lines.line("deputies", cell(&it["deputies"]));
    }
    if it["acting"].as_u64().is_some_and(|acting| acting > 0) {
        let text = format!("{} of others' agents act for them", it["acting"]);
        lines.line("instances", text);
    }
    lines.line(
        "handle",
        format!("{} (what records name)", cell(&it["handle"])),
    );
    lines.line("added", time(&it["added_at"]));
    lines.text()
}
