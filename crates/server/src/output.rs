//! What goes to standard output: tables and texts for people, or one JSON value.

use std::fmt::{Display, Write as _};
use std::io::{self, Write as _};

use serde_json::Value;

/// Writes a text and a line end to standard output. A reader that has gone away is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| {
            if text.ends_with('\n') {
                Ok(())
            } else {
                out.write_all(b"\n")
            }
        })
        .and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Writes a line to standard error, as well as may be.
pub fn warn(text: &str) {
    let _unheard = writeln!(io::stderr().lock(), "{text}");
}

/// A table for people: columns as wide as their widest cell, two spaces between.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head.
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            rows: vec![head.iter().map(|cell| cell.to_uppercase()).collect()],
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    /// The table, or `none` if it has no rows.
    pub fn text(&self, none: &str) -> String {
        if self.rows.len() == 1 {
            return none.to_owned();
        }
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let _infallible = write!(line, "{cell:<width$}  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Labelled lines for people. A line without a value is left out.
#[derive(Debug, Default)]
pub struct Lines {
    lines: Vec<(String, String)>,
}

impl Lines {
    /// Adds a line.
    pub fn line(&mut self, label: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.lines.push((label.to_owned(), clean(&value)));
        }
    }

    /// The lines, values in one column.
    pub fn text(&self) -> String {
        let width = self
            .lines
            .iter()
            .map(|(label, _)| label.chars().count())
            .max()
            .unwrap_or(0);
        let mut out = String::new();
        for (label, value) in &self.lines {
            let _infallible = writeln!(out, "{label:<width$}  {value}");
        }
        out
    }
}

/// `1 policy`, `2 policies`.
pub fn count<N: Copy + Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let word = if number == N::from(1) { one } else { many };
    format!("{number} {word}")
}

/// A text that cannot move the cursor or forge a line.
pub fn clean(text: &str) -> String {
    let shown = |c| match c {
        '\n' => ' ',
        c if vocab::id::invisible(c) => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// A JSON value in a cell: texts as they are, nothing for null, lists with commas.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// What lies at a JSON pointer; null if nothing does.
pub fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// A time without its fraction of a second: `2026-11-21 09:51:02Z`.
pub fn time(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{}Z", seconds.replace('T', " ")),
        None => text.to_owned(),
    }
}

/// A record as it is written on the command line: `calls/17`.
pub fn record(value: &Value) -> String {
    match (value["log"].as_str(), value["index"].as_u64()) {
        (Some(log), Some(index)) => format!("{log}/{index}"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["id", "status"]);
        assert_eq!(table.text("none"), "none");
        table.row(["triage-bot".to_owned(), "active".to_owned()]);
        table.row(["é".to_owned(), String::new()]);
        assert_eq!(
            table.text("none"),
            "ID          STATUS\ntriage-bot  active\né\n"
        );
    }

    #[test]
    fn lines_share_a_column_and_empty_ones_are_left_out() {
        let mut lines = Lines::default();
        lines.line("id", "i-1");
        lines.line("status", "");
        lines.line("purpose", "triage");
        assert_eq!(lines.text(), "id       i-1\npurpose  triage\n");
    }

    #[test]
    fn cells_show_values_and_forge_nothing() {
        for (value, expected) in [
            (json!(null), ""),
            (json!("a"), "a"),
            (json!(["a", "b"]), "a, b"),
            (json!(true), "yes"),
            (json!(3), "3"),
        ] {
            assert_eq!(cell(&value), expected);
        }
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{202e}"), "a\u{fffd}[2Jb c\u{fffd}");
        assert_eq!(
            time(&json!("2026-11-21T09:51:02.000123Z")),
            "2026-11-21 09:51:02Z"
        );
        assert_eq!(record(&json!({"log": "calls", "index": 17})), "calls/17");
    }
}
