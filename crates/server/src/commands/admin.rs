//! `tipstaff admin …`: named administrators. The keys folder is the list of them, so whoever can
//! write there can add one.

use serde_json::json;
use vocab::AdminId;

use super::{Context, Outcome, Verdict};
use crate::admin::credential;
use crate::cli::AdminCommand;

pub(super) fn run(context: &Context, command: AdminCommand) -> Outcome {
    let keys = context.config()?.keys;
    match command {
        AdminCommand::Add { name, key_out } => {
            let vkey = credential::add(&keys, &name, &key_out, &context.rng)?;
            let added = json!({"name": name, "vkey": vkey});
            context.show(&added, |_| {
                format!(
                    "{name} may administer this node with `--admin-key {}`. Give them the file \
                     and keep no copy.",
                    key_out.display()
                )
            })?;
        }
        AdminCommand::List => {
            let names = credential::list(&keys)?;
            context.show(&json!(names), |_| {
                if names.is_empty() {
                    return "No named administrator; local users are root and the node's own."
                        .to_owned();
                }
                names
                    .iter()
                    .map(AdminId::as_str)
                    .collect::<Vec<_>>()
                    .join("\n")
            })?;
        }
        AdminCommand::Remove { name } => {
            credential::remove(&keys, &name)?;
            context.show(&json!({"removed": name}), |_| {
                format!("{name} may not administer this node any more")
            })?;
        }
    }
    Ok(Verdict::Good)
}
