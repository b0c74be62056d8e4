//! What it costs to look into a result: the rules that ship, on one thread, over results of the kinds
//! that tools answer with. None has anything in it, and all have words that begin like something.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, ensure};
use inspect::{Inspector, Mask};
use serde::Serialize;

use crate::machine;
use crate::stats::{median, micros};

/// Inspections whose time is taken together.
const BATCH: u32 = 20;
/// Sizes of results, in KiB.
const SIZES: [usize; 3] = [1, 10, 100];

/// One line of a result.
type Line = fn(usize) -> String;

/// Results of one kind and size.
#[derive(Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) kind: &'static str,
    pub(crate) kib: usize,
    /// One inspection: the median of batches.
    pub(crate) inspect_us: f64,
    pub(crate) mb_per_second: f64,
}

/// What inspection came to.
#[derive(Debug, Serialize)]
pub(crate) struct Inspection {
    /// Reading and compiling the rules, once.
    pub(crate) build_ms: f64,
    pub(crate) sizes: Vec<Size>,
    /// Inspecting a result of 10 KiB with ten secrets, and masking them.
    pub(crate) masked_us: f64,
}

/// Measures each kind and size for about `lasting`.
pub(crate) fn run(lasting: Duration) -> Result<Inspection> {
    let begin = machine::elapsed();
    let inspector = Inspector::built_in()?;
    let build_ms = micros(machine::elapsed().saturating_sub(begin)) / 1_000.0;
    let kinds: [(_, Line); 3] = [
        ("source code", source_code),
        ("rows of a table", rows),
        ("prose in two scripts", prose),
    ];
    let mut sizes = Vec::new();
    for (kind, line) in kinds {
        for kib in SIZES {
            let result = result(line, kib * 1024);
            let found = inspector.inspect_json(result.as_bytes());
            ensure!(found.is_empty(), "an ordinary result has {found:?}");
            let inspect_us = each(lasting, || {
                black_box(inspector.inspect_json(black_box(result.as_bytes())));
            });
            sizes.push(Size {
                kind,
                kib,
                inspect_us,
                #[expect(clippy::cast_precision_loss, reason = "some hundred thousand bytes")]
                mb_per_second: result.len() as f64 / inspect_us,
            });
        }
    }
    let secret = |at: usize| match at % 20 {
        0 => format!("token = ghp_{:036}\n", 7 * at + 1),
        _ => source_code(at),
    };
    let result = result(secret, 10 * 1024);
    let masked_us = each(lasting, || {
        let found = inspector.inspect_json(black_box(result.as_bytes()));
        black_box(Mask::plain().json(result.as_bytes(), &found));
    });
    Ok(Inspection {
        build_ms,
        sizes,
        masked_us,
    })
}

/// The median time of one `act`, over batches that fill `lasting`.
fn each(lasting: Duration, mut act: impl FnMut()) -> f64 {
    let end = machine::elapsed() + lasting;
    let mut times = Vec::new();
    while machine::elapsed() < end {
        let begin = machine::elapsed();
        for _ in 0..BATCH {
            act();
        }
        times.push(micros(machine::elapsed().saturating_sub(begin)) / f64::from(BATCH));
    }
    median(&mut times)
}

/// A result with one block of text of that many bytes, as JSON.
fn result(line: impl Fn(usize) -> String, bytes: usize) -> String {
    let mut text = String::new();
    for at in 0.. {
        if text.len() >= bytes {
            break;
        }
        text.push_str(&line(at));
    }
    let content = serde_json::json!([{ "type": "text", "text": text }]);
    serde_json::json!({ "jsonrpc": "2.0", "id": 1, "result": { "content": content } }).to_string()
}

fn source_code(at: usize) -> String {
    let mut line = String::new();
    let _infallible = match at % 5 {
        0 => writeln!(
            line,
            "    let token_{at} = self.tokens.get(&key)?; // the api of line {at}"
        ),
        1 => writeln!(
            line,
            "    if password.is_empty() {{ return Err(Error::Missing(\"password\")); }}"
        ),
        2 => writeln!(
            line,
            "    assert_eq!(keys.len(), {at}, \"{{keys:?}} of /usr/share/doc/pkg-{at}\");"
        ),
        3 => writeln!(
            line,
            "\t/* see https://docs.example.org/en/latest/secret-scanning?page={at}#top */"
        ),
        _ => writeln!(
            line,
            "    pub fn access(&self, name: &str) -> Option<&Value> {{ self.map.get(name) }}"
        ),
    };
    line
}

fn rows(at: usize) -> String {
    let (day, cents) = (at % 28 + 1, at * 37 % 100);
    format!(
        "{{\"id\":{},\"sku\":\"A-{at}-X\",\"on\":\"2026-11-{day:02}T01:46:18Z\",\"amount\":{at}.{cents:02},\"state\":\"paid\"}}\n",
        100_000 + at
    )
}

fn prose(at: usize) -> String {
    match at % 3 {
        0 => "The quick brown fox keeps a secret, and nobody has the key to its den.\n".to_owned(),
        1 => "Съешь же ещё этих мягких французских булок, да выпей чаю.\n".to_owned(),
        _ => format!("Voilà l’été n° {at}: les élèves « lisent » à l’ombre, naïfs et ravis.\n"),
    }
}
