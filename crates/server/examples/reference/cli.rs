//! The command line, from its definition.

use clap::{Command, CommandFactory as _};

use crate::add;

/// How wide the help is written.
const WIDTH: usize = 98;

pub(crate) fn page() -> String {
    let mut page = "\
# Command line

Every command that prints a result takes `--json` and then prints one JSON value; lists are arrays.
`ledger export` prints one JSON object a line, with `--json` or without.

| exit code | means |
|---|---|
| 0 | done |
| 1 | refused, or found wrong |
| 2 | the command line was wrong |

`tipstaff` finds its node through `--config`: the data folder that the configuration names has a
socket for administration. `ledger` commands need no node: `--data` names a data folder or a copy.
"
    .to_owned();
    let mut root = server::cli::Cli::command().term_width(WIDTH);
    root.build();
    command(&mut page, &mut root);
    page
}

fn command(page: &mut String, command_here: &mut Command) {
    let name = command_here.get_bin_name().unwrap_or("tipstaff").to_owned();
    let help = command_here.render_long_help().to_string();
    let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
    add(
        page,
        format_args!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n")),
    );
    for sub in command_here.get_subcommands_mut() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            command(page, sub);
        }
    }
}
