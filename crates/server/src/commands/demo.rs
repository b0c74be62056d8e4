//! `tipstaff demo`.

use super::{Context, Failure, Outcome, Verdict};
use crate::cli::Demo;
use crate::output;

pub(super) fn run(context: &Context, demo: &Demo) -> Outcome {
    let exe = std::env::current_exe()
        .map_err(|error| Failure::Other(format!("this program cannot find itself: {error}")))?;
    let mut unheard = None;
    let mut say = |text: &str| {
        // Steps are for people; with `--json` they go where they do not disturb the object.
        if context.json {
            output::warn(text);
        } else if let Err(error) = output::print(text) {
            unheard = Some(error);
        }
    };
    let done = crate::demo::run(&exe, demo.keep, &mut say)?;
    if let Some(error) = unheard {
        return Err(error.into());
    }
    if context.json {
        output::print(&done.to_string())?;
    }
    Ok(Verdict::Good)
}
