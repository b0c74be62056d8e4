//! `tipstaff inspection …`.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Context, Outcome, Verdict};
use crate::cli::InspectionCommand;
use crate::output::cell;

pub(super) async fn run(context: &Context, command: InspectionCommand) -> Outcome {
    let node = context.node()?;
    let told = match command {
        InspectionCommand::Show => node.get("/v1/inspection").await?,
        InspectionCommand::Reload => node.post("/v1/inspection/reload").await?,
    };
    context.show(&told, text)?;
    Ok(Verdict::Good)
}

fn text(it: &Value) -> String {
    let mut text = format!(
        "{} rules are in force.\nDigest    {}",
        it["rules"],
        cell(&it["digest"])
    );
    for (what, member) in [("File     ", "files"), ("Left out ", "left_out")] {
        for name in it[member].as_array().into_iter().flatten() {
            let _infallible = write!(text, "\n{what} {}", cell(name));
        }
    }
    text
}
