//! `tipstaff upstream`: what is held of an upstream's tools, and what people say to it.

use crate::commands::{fails, help_desk};
use crate::node::{Node, until};

#[tokio::test]
async fn what_is_held_is_looked_at_and_accepted_by_its_digest() {
    let config = format!("{}tools = \"review\"\n", help_desk());
    let node = Node::start(&config).await;
    let folder = &node.folder;
    let list = ["upstream", "tools", "desk"];
    let listed = || {
        node.log()
            .contains("upstream desk are listed")
            .then_some(())
    };
    until("the list", listed).await;
    let table = folder.run(&list).await;
    let held = |table: &str| {
        let rows = table.lines().filter(|row| row.starts_with("desk/"));
        rows.filter(|row| row.contains(" new ") && row.contains("review"))
            .count()
    };
    assert!(held(&table) >= 2, "{table}");
    let diff = ["upstream", "diff", "desk/refund"];
    let text = folder.run(&diff).await;
    for part in [
        "desk/refund is new (review)",
        "Nothing of it was accepted before.",
        "+ description: ",
        "+ inputSchema.type: object",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let digest = folder.json(&diff).await["definition"].clone();
    let digest = digest.as_str().unwrap();
    let accept = format!("tipstaff upstream accept desk/refund --digest {digest}");
    assert!(text.contains(&accept), "{text}");
    let accept = |tool: &'static str, digest| ["upstream", "accept", tool, "--digest", digest];
    let other = "0".repeat(64);
    for (tool, digest, why) in [
        ("desk/refund", other.as_str(), "Look at it again"),
        ("desk/refnud", digest, "did you mean `refund`?"),
        ("nobody/refund", digest, "there is no upstream `nobody`"),
        ("refund", digest, "is not UPSTREAM/TOOL"),
    ] {
        fails(folder, &accept(tool, digest), 1, why).await;
    }
    let told = folder.run(&accept("desk/refund", digest)).await;
    assert!(told.contains("(on record as control/"), "{told}");
    assert_eq!(held(&folder.run(&list).await), held(&table) - 1);
    fails(folder, &accept("desk/refund", digest), 1, "is not held").await;
    let other = folder
        .json(&["upstream", "diff", "desk/read-article"])
        .await;
    let digest = other["definition"].as_str().unwrap();
    let refuse = [
        "upstream",
        "refuse",
        "desk/read-article",
        "--digest",
        digest,
    ];
    let told = folder.run(&refuse).await;
    assert!(told.contains("is refused, and cannot be called"), "{told}");
    let shown = folder
        .json(&["upstream", "diff", "desk/read-article"])
        .await;
    assert_eq!(shown["state"], "refused");
    let findings = folder.output(&["doctor"]).await.stdout;
    let findings = String::from_utf8(findings).unwrap();
    assert!(findings.contains("read-article (refused)"), "{findings}");
    node.stop().await;
}
