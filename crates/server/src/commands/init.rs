//! `tipstaff init`.

use super::{Context, Failure, Outcome, Verdict};
use crate::cli::Init;

pub(super) fn run(context: &Context, init: &Init) -> Outcome {
    let written = crate::init::init(&init.dir, &init.trust_domain, &context.rng)?;
    let value =
        serde_json::to_value(&written).map_err(|error| Failure::Other(error.to_string()))?;
    context.show(&value, |_| {
        let go = match init.dir.to_str() {
            Some("." | "") => String::new(),
            _ => format!("  cd {}\n", init.dir.display()),
        };
        format!(
            "{} is ready: tipstaff.toml, policies/, keys/, agents/ and data/.\n\n\
             The logs' public keys, to keep where you trust them (`ledger verify --vkeys`):\n  \
             {}\n  {}\n\n\
             Next, name an upstream in tipstaff.toml and permit something in policies/first.cedar; then\n\
             {go}  tipstaff up\n\n\
             and in another terminal, in that folder:\n  \
             tipstaff doctor\n  \
             tipstaff sponsor add maya --name \"Maya Lindqvist\" --email maya@example.com\n  \
             tipstaff agent add triage --sponsor maya --purpose triage --key-out agents/triage.key\n",
            init.dir.display(),
            written.vkeys[0],
            written.vkeys[1],
        )
    })?;
    Ok(Verdict::Good)
}
