//! `tipstaff agent …`. An agent's key is made here: the node sees only its public half.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokens::{AgentKey, PrivateKey};
use vocab::AgentId;

use super::{Context, Failure, Outcome, Verdict, certificate, changed, on_record};
use crate::admin::wire;
use crate::cli::{AgentAdd, AgentCommand, OwnerArgs};
use crate::keys::KeyError;
use crate::output::{Lines, Table, at, cell, clean, time, warn};

pub(super) async fn run(context: &Context, command: AgentCommand) -> Outcome {
    let node = context.node()?;
    match command {
        AgentCommand::Add(new) => add(context, *new).await?,
        AgentCommand::RotateKey { id, key_out } => {
            let file = Reserved::new(&key_out)?;
            let key = PrivateKey::generate(&context.rng)?;
            let target = format!("/v1/agents/{id}/rotate-key");
            let done = node.post_json(&target, &public(&key)).await?;
            file.write(&id, key, &done)?;
            context.show(&done, |it| {
                format!(
                    "agent {id} has a new key{}, and the old one starts nothing any more\n{}",
                    on_record(it),
                    written(it, &key_out)
                )
            })?;
        }
        AgentCommand::List => context.show(&node.get("/v1/agents").await?, table)?,
        AgentCommand::Show { id } => {
            context.show(&node.get(&format!("/v1/agents/{id}")).await?, lines)?;
        }
        AgentCommand::Transfer { id, to } => {
            let done = node
                .post_json(&format!("/v1/agents/{id}/transfer"), &wire::Transfer { to })
                .await?;
            context.show(&done, |it| {
                format!(
                    "agent {id} has sponsor {} now{}; all that ran under {} is ended, and it is {}",
                    cell(&it["sponsor"]),
                    on_record(it),
                    it["past_sponsors"]
                        .as_array()
                        .and_then(|past| past.last())
                        .map(cell)
                        .unwrap_or_default(),
                    cell(&it["status"])
                )
            })?;
        }
        AgentCommand::Owners { id, none, owners } => {
            let owners = wire::NewOwners::from(owners);
            let named = [&owners.business, &owners.technical, &owners.policy];
            if !none && named.iter().all(|it| it.is_none()) {
                return Err(Failure::Other(
                    "name who owns the agent, every one of them each time; `--none` takes all away"
                        .to_owned(),
                ));
            }
            let done = node
                .post_json(&format!("/v1/agents/{id}/owners"), &owners)
                .await?;
            context.show(&done, |it| {
                let owner = |role: &str| match cell(at(it, &format!("/owners/{role}"))) {
                    nobody if nobody.is_empty() => "nobody".to_owned(),
                    somebody => somebody,
                };
                let same = if it["changed"] == true {
                    ""
                } else {
                    ", as before"
                };
                format!(
                    "agent {id} is owned by {} (business), {} (technical), {} (policy){same}{}",
                    owner("business"),
                    owner("technical"),
                    owner("policy"),
                    on_record(it)
                )
            })?;
        }
        AgentCommand::Suspend { id, wait: true } => {
            node.post(&format!("/v1/agents/{id}/suspend")).await?;
            return certificate::waited(context, "agent", id.as_str()).await;
        }
        AgentCommand::Suspend { id, wait: false } => change(context, &id, "suspend").await?,
        AgentCommand::Review { due } => {
            let mut found = node.get("/v1/review").await?;
            if let Some(agents) = found.get_mut("agents").and_then(Value::as_array_mut) {
                agents.retain(|it| !due || !notes(it).is_empty());
            }
            context.show(&found, reviews)?;
        }
        AgentCommand::Reviewed { id } => {
            let done = node.post(&format!("/v1/agents/{id}/review")).await?;
            context.show(&done, |it| {
                format!(
                    "agent {id} is on record as reviewed at {}{}; it is {}",
                    time(&it["reviewed_at"]),
                    on_record(it),
                    cell(&it["status"])
                )
            })?;
        }
        AgentCommand::Resume { id } => change(context, &id, "resume").await?,
        AgentCommand::Retire { id } => change(context, &id, "retire").await?,
    }
    Ok(Verdict::Good)
}

async fn change(context: &Context, id: &AgentId, verb: &str) -> Result<(), Failure> {
    let done = context
        .node()?
        .post(&format!("/v1/agents/{id}/{verb}"))
        .await?;
    context.show(&done, |it| changed(it, "agent"))
}

async fn add(context: &Context, new: AgentAdd) -> Result<(), Failure> {
    let node = context.node()?;
    let key = match &new.key_out {
        None => None,
        Some(path) => {
            let file = Reserved::new(path)?;
            Some((path, file, PrivateKey::generate(&context.rng)?))
        }
    };
    let agent = wire::NewAgent {
        id: new.id.clone(),
        sponsor: new.sponsor,
        purposes: new.purpose,
        allow: (!new.allow.is_empty()).then_some(new.allow),
        max_instances: new.max_instances,
        allow_bearer: new.allow_bearer,
        limits: register::CallLimits {
            calls_per_minute: new.calls_per_minute,
            calls_per_instance: new.calls_per_instance,
        },
        max_lifetime_s: new.max_lifetime_s,
        idle_s: new.idle_s,
        software: new.software.unwrap_or_default(),
        model: new.model.unwrap_or_default(),
        environment: new.environment.unwrap_or_default(),
        key: key.as_ref().map(|(_, _, key)| public(key)),
        people: new.people,
        max_depth: new.max_depth,
        max_children: new.max_children,
        owners: new.owners.into(),
    };
    let added = node.post_json("/v1/agents", &agent).await?;
    let told = match key {
        None => "It has no key: only people, workloads and other instances start it.".to_owned(),
        Some((path, file, key)) => {
            file.write(&new.id, key, &added)?;
            written(&added, path)
        }
    };
    for warning in at(&added, "/warnings").as_array().into_iter().flatten() {
        warn(&format!("warning: {}", clean(&cell(warning))));
    }
    context.show(&added, |it| {
        format!(
            "{}\nThat {} answers for it was typed in by you: asserted, not verified. They accept it, \
             signed in as themselves, at\n  {}\n{}",
            changed(it, "agent"),
            cell(&it["sponsor"]),
            cell(&it["accept_url"]),
            told
        )
    })
}

impl From<OwnerArgs> for wire::NewOwners {
    fn from(owners: OwnerArgs) -> Self {
        Self {
            business: owners.business,
            technical: owners.technical,
            policy: owners.policy,
        }
    }
}

fn public(key: &PrivateKey) -> wire::NewKey {
    wire::NewKey {
        jwk: key.public().to_jwk(),
        expires_at: None,
    }
}

fn written(it: &Value, path: &Path) -> String {
    format!(
        "Its key is in {} and is good until {}. It only starts instances; give it to the agent \
         and keep no copy.",
        path.display(),
        time(at(it, "/key/expires_at"))
    )
}

/// A key file that is there and empty until the node has taken the key. Dropped before that, it
/// is removed again.
struct Reserved {
    path: PathBuf,
    file: File,
    keep: bool,
}

impl Reserved {
    fn new(path: &Path) -> Result<Self, KeyError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        let file = file.map_err(|cause| KeyError::Write {
            path: path.display().to_string(),
            cause,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            keep: false,
        })
    }

    /// Writes the key, with what the node said about it.
    fn write(mut self, agent: &AgentId, key: PrivateKey, said: &Value) -> Result<(), Failure> {
        let lost = |why: &dyn std::fmt::Display| {
            Failure::Other(format!(
                "agent {agent} has the key, but it could not be written to `{}`: {why}; make \
                 another one with `tipstaff agent rotate-key {agent} --key-out FILE`",
                self.path.display()
            ))
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let file = AgentKey {
            agent: agent.clone(),
            issuer: text(&said["issuer"])
                .parse()
                .map_err(|error| lost(&error))?,
            key,
            expires_at: text(at(said, "/key/expires_at"))
                .parse()
                .map_err(|error| lost(&error))?,
        };
        let mut out = &self.file;
        out.write_all(file.to_file().expose().as_bytes())
            .and_then(|()| out.sync_all())
            .map_err(|error| lost(&error))?;
        self.keep = true;
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.keep {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

fn table(agents: &Value) -> String {
    let mut table = Table::new(["id", "sponsor", "status", "purposes", "live", "key expires"]);
    for it in agents.as_array().into_iter().flatten() {
        table.row([
            cell(&it["id"]),
            cell(&it["sponsor"]),
            cell(&it["status"]),
            cell(&it["purposes"]),
            format!("{} of {}", it["live_instances"], it["max_instances"]),
            time(at(it, "/key/expires_at")),
        ]);
    }
    table.text(
        "There is no agent yet: tipstaff agent add ID --sponsor SPONSOR --purpose ID --key-out FILE",
    )
}

/// Why somebody should look at an agent.
fn notes(it: &Value) -> String {
    let of = [
        ("overdue", "review overdue"),
        ("orphaned", "orphaned"),
        ("dormant", "dormant"),
        ("sponsor_changed", "sponsor changed since acceptance"),
    ];
    let notes = of.iter().filter(|(name, _)| it[*name] == true);
    let notes = notes.map(|(_, note)| *note);
    let lapsed = (it["acceptance"] == "lapsed").then_some("to be accepted again");
    notes.chain(lapsed).collect::<Vec<_>>().join(", ")
}

fn reviews(found: &Value) -> String {
    let not_since = match found["looked_since"].as_str() {
        Some(_) => format!("not since {}", time(&found["looked_since"])),
        None => "never".to_owned(),
    };
    let mut table = Table::new([
        "sponsor",
        "agent",
        "status",
        "accepted",
        "last used",
        "unused",
        "due",
        "look because",
    ]);
    for it in found["agents"].as_array().into_iter().flatten() {
        table.row([
            cell(&it["sponsor"]),
            cell(&it["id"]),
            cell(&it["status"]),
            cell(&it["acceptance"]),
            match it["last_used_at"].as_str() {
                Some(_) => time(&it["last_used_at"]),
                None => not_since.clone(),
            },
            cell(&it["unused"]),
            time(&it["due_at"]),
            notes(it),
        ]);
    }
    let mut out = table.text("No agent to look at.");
    for it in found["agents"].as_array().into_iter().flatten() {
        for offer in it["offered"].as_array().into_iter().flatten() {
            let _infallible = write!(
                out,
                "\n{} is offered to {}, the {} of its sponsor{}: {}",
                cell(&it["id"]),
                cell(&offer["to"]),
                cell(&offer["relation"]),
                match offer["takes_over"].as_bool() {
                    Some(false) =>
                        ", whom an administrator stopped, so they cannot take it over themselves",
                    Some(true) | None => "",
                },
                cell(&offer["command"])
            );
        }
    }
    for it in found["agents"].as_array().into_iter().flatten() {
        for part in it["unused_handed_on"].as_array().into_iter().flatten() {
            for detail in part["details"].as_array().into_iter().flatten() {
                let _infallible = write!(
                    out,
                    "\n{} of {} did not use what was handed on to it: {} at {}",
                    cell(&part["instance"]),
                    cell(&it["id"]),
                    cell(&detail["identifier"]),
                    cell(&detail["locations"])
                );
            }
        }
    }
    if !found["looked_since"].is_null() {
        let _infallible = write!(
            out,
            "\nCalls were read back to {} only, and what was used before that is shown as not used; the \
             next look reads further back.",
            time(&found["looked_since"])
        );
    }
    out
}

/// How the sponsor stands behind the agent.
fn acceptance(it: &Value) -> String {
    let said = cell(&it["acceptance"]);
    match it["sign_in"].as_str() {
        Some(sign_in) if said == "accepted" => format!("{said}, signed in by {sign_in}"),
        _ => format!(
            "{said}; its sponsor accepts it at /accept/{} of the node",
            cell(&it["id"])
        ),
    }
}

fn lines(it: &Value) -> String {
    let mut lines = Lines::default();
    lines.line("id", cell(&it["id"]));
    lines.line("sponsor", cell(&it["sponsor"]));
    lines.line(
        "status",
        format!("{} since {}", cell(&it["status"]), time(&it["since"])),
    );
    lines.line("narrowed by", cell(&it["narrowed_by"]));
    lines.line("BREAK-GLASS", cell(&it["break_glass"]));
    lines.line("acceptance", acceptance(it));
    lines.line("business owner", cell(at(it, "/owners/business")));
    lines.line("technical owner", cell(at(it, "/owners/technical")));
    lines.line("policy owner", cell(at(it, "/owners/policy")));
    lines.line("purposes", cell(&it["purposes"]));
    lines.line(
        "at most",
        if it["allow"].is_null() {
            "whatever the policies permit".to_owned()
        } else {
            cell(&it["allow"])
        },
    );
    lines.line(
        "instances",
        format!(
            "{} live, at most {}",
            it["live_instances"], it["max_instances"]
        ),
    );
    lines.line(
        "an instance",
        format!(
            "lives {} s at most, {} s idle",
            it["max_lifetime_s"], it["idle_s"]
        ),
    );
    lines.line("calls a minute", cell(at(it, "/limits/calls_per_minute")));
    lines.line(
        "calls of an instance",
        cell(at(it, "/limits/calls_per_instance")),
    );
    lines.line(
        "bearer tokens",
        if it["allow_bearer"] == true {
            "allowed"
        } else {
            ""
        },
    );
    lines.line(
        "key",
        if it["key"].is_null() {
            "none: people, workloads or other instances start it".to_owned()
        } else {
            format!(
                "{}, {} until {}",
                cell(at(it, "/key/kid")),
                cell(at(it, "/key/status")),
                time(at(it, "/key/expires_at"))
            )
        },
    );
    lines.line("software", cell(&it["software"]));
    lines.line("model", cell(&it["model"]));
    lines.line("environment", cell(&it["environment"]));
    lines.line("added", time(&it["added_at"]));
    lines.text()
}
