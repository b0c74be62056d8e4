//! What inspection finds, from the rules that ship and from what it says of what it cannot look into.

use anyhow::Result;
use inspect::{Inspector, Uninspectable};
use vocab::finding::Class;

use crate::{add, code, head, row};

pub(crate) fn page() -> Result<String> {
    let inspector = Inspector::built_in()?;
    let mut page = "\
# Findings

What inspection finds with the rules that ship. Policies see each as `CLASS`, as `CLASS/RULE` and as
`CLASS:CONFIDENCE`, that one and the lesser ones: `context.findings.contains(\"secret/github-token\")`,
`@mask(\"personal/card-number\")`. The rules of files that `[inspect]` names come beside them, and what
it leaves out is not found. What findings are for is in [inspection.md](../inspection.md).
"
    .to_owned();
    for class in Class::ALL {
        add(&mut page, format_args!("\n## `{class}`\n\n"));
        if class == Class::Uninspectable {
            page.push_str(&head(&["Rule"]));
            for why in Uninspectable::ALL {
                page.push_str(&row(&[&code(&format!("{class}/{}", why.rule()))]));
            }
            continue;
        }
        page.push_str(&head(&["Rule", "Confidence", "Why it is there"]));
        for rule in inspector.rules().filter(|rule| rule.class() == class) {
            let name = code(&format!("{class}/{}", rule.id()));
            page.push_str(&row(&[&name, rule.confidence().as_str(), rule.why()]));
        }
    }
    Ok(page)
}
