//! Handing on: what an instance below another may do, and what is refused.

use super::*;
use crate::Refusal;
use crate::state::Instance;

fn authority(arguments: &str) -> Arc<vocab::Authority> {
    details("read", &format!(r#","arguments":{arguments}"#))
}

fn details(identifier: &str, rest: &str) -> Arc<vocab::Authority> {
    let text = format!(
        r#"[{{"type":"mcp_tool","locations":["files"],"identifier":"{identifier}"{rest}}}]"#
    );
    Arc::new(serde_json::from_str(&text).unwrap())
}

fn one_call(args: &str) -> Arc<vocab::Authority> {
    let digest = vocab::Digest::of(args.as_bytes());
    details("read", &format!(r#","arguments_sha256":"{digest}""#))
}

/// A delegation to an instance of `triage` with a key of its own.
fn below(parent: &InstanceId, key: u8) -> Delegation {
    Delegation {
        parent: parent.clone(),
        agent: "triage".parse().unwrap(),
        kid: Some("k1".parse().unwrap()),
        once: false,
        purpose: "triage".parse().unwrap(),
        binding: Binding::Dpop { jkt: jkt(key) },
        upstream: "files".parse().unwrap(),
        authority: None,
        max_calls: None,
        lifetime: None,
    }
}

fn once(parent: &InstanceId, key: u8, args: &str) -> Delegation {
    Delegation {
        once: true,
        authority: Some(one_call(args)),
        ..below(parent, key)
    }
}

/// With agents `triage`, which may delegate, and `reader`, which has an allow list; and an instance.
async fn node() -> (Node, InstanceId) {
    let node = Node::ready().await;
    for (id, allow) in [("lead", None), ("reader", Some("files/read*"))] {
        let mut agent = new_agent(id, "maja");
        agent.max_depth = Some(3);
        agent.max_children = Some(3);
        agent.allow = allow.map(|line| vec![line.parse().unwrap()]);
        node.ok(Command::AddAgent(Box::new(agent))).await;
    }
    let root = node.start("lead", 0).await;
    (node, root)
}

async fn delegate(node: &Node, asked: Delegation) -> Result<Arc<Instance>, Refusal> {
    let asked = Delegation {
        agent: if asked.agent.as_str() == "triage" {
            "lead".parse().unwrap()
        } else {
            asked.agent
        },
        ..asked
    };
    match node.execute(Command::Delegate(Box::new(asked))).await {
        Ok(Done::Started { instance, .. }) => Ok(instance),
        Err(CommandError::Refused(refusal)) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn beyond(refusal: Refusal) -> String {
    match refusal {
        Refusal::Beyond(not) => not.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_handed_on_shrinks() {
    let (node, root) = node().await;
    let child = Delegation {
        authority: Some(authority(r#"{"path":{"prefix":"/a/"}}"#)),
        ..below(&root, 1)
    };
    let child = delegate(&node, child).await.unwrap();
    assert_eq!(child.depth, 1);
    // All that the one above may do, and no more, if nothing is said.
    let same = delegate(&node, below(&child.id, 2)).await.unwrap();
    assert_eq!(same.bound(), child.bound());
    let less = Delegation {
        authority: Some(authority(r#"{"path":{"prefix":"/a/b/"}}"#)),
        ..below(&same.id, 3)
    };
    let less = delegate(&node, less).await.unwrap();
    let more = |prefix: &str| Delegation {
        authority: Some(authority(&format!(r#"{{"path":{{"prefix":"{prefix}"}}}}"#))),
        ..below(&child.id, 4)
    };
    for prefix in ["", "/", "/b/"] {
        let refusal = beyond(delegate(&node, more(prefix)).await.unwrap_err());
        assert!(
            refusal.starts_with(
                "`authorization_details[0].arguments.path` cannot be shown to be within what was \
                 handed on to the instance that delegates"
            ),
            "{refusal}"
        );
    }
    let chain = node
        .control
        .standing(&less.id, node.now())
        .active()
        .unwrap();
    let chain: Vec<_> = chain.chain().map(|link| link.instance.id.clone()).collect();
    assert_eq!(
        chain,
        [root, child.id.clone(), same.id.clone(), less.id.clone()]
    );
    let node = node.restarted().unwrap();
    let again = node
        .control
        .view(|state| Arc::clone(state.instance(&less.id).unwrap()));
    assert_eq!(again.authority, less.authority);
}

/// The allow list of every agent on the way is a bound, the new one's too.
#[tokio::test]
async fn allow_lists_bound_what_is_handed_on() {
    let (node, root) = node().await;
    let reader = |parent: &InstanceId, tool: &str, key| Delegation {
        agent: "reader".parse().unwrap(),
        authority: Some(details(tool, "")),
        ..below(parent, key)
    };
    let refusal = delegate(&node, reader(&root, "write", 1))
        .await
        .unwrap_err();
    assert!(beyond(refusal).contains("within the allow list of the agent that it is for"));
    let read = delegate(&node, reader(&root, "read_all", 1)).await.unwrap();
    let own = node.start("reader", 5).await;
    let lead = Delegation {
        authority: Some(details("write", "")),
        ..below(&own, 2)
    };
    let refusal = delegate(&node, lead).await.unwrap_err();
    assert!(beyond(refusal).contains("within the allow list of an agent that delegates"));
    let wider = Delegation {
        authority: Some(details("read*", "")),
        ..below(&read.id, 2)
    };
    assert!(beyond(delegate(&node, wider).await.unwrap_err()).contains("identifier"));
}

#[tokio::test]
async fn a_child_proves_a_key_of_its_own() {
    let (node, root) = node().await;
    assert_eq!(
        delegate(&node, below(&root, 0)).await.unwrap_err(),
        Refusal::SharedKey
    );
    let child = delegate(&node, below(&root, 1)).await.unwrap();
    for key in [0, 1] {
        assert_eq!(
            delegate(&node, below(&child.id, key)).await.unwrap_err(),
            Refusal::SharedKey
        );
    }
}

/// Who is of the same agent needs no key of it; who is not, does, and a key of that agent.
#[tokio::test]
async fn another_agent_shows_its_key() {
    let (node, root) = node().await;
    let with = |agent: &str, kid: Option<&str>, key| Delegation {
        agent: agent.parse().unwrap(),
        kid: kid.map(|kid| kid.parse().unwrap()),
        ..below(&root, key)
    };
    assert!(delegate(&node, with("lead", None, 1)).await.is_ok());
    assert!(delegate(&node, with("reader", Some("k1"), 2)).await.is_ok());
    assert!(matches!(
        delegate(&node, with("reader", None, 3)).await.unwrap_err(),
        Refusal::OtherInstance { .. }
    ));
    for agent in ["lead", "reader"] {
        assert!(matches!(
            delegate(&node, with(agent, Some("k0"), 3))
                .await
                .unwrap_err(),
            Refusal::KeyNotCurrent { .. }
        ));
    }
}

#[tokio::test]
async fn nothing_of_the_upstream_is_handed_on() {
    let (node, root) = node().await;
    node.ok(configure("mail")).await;
    let asked = Delegation {
        authority: Some(details("read", "")),
        upstream: "mail".parse().unwrap(),
        ..below(&root, 1)
    };
    assert!(matches!(
        delegate(&node, asked).await.unwrap_err(),
        Refusal::NothingHandedOn { .. }
    ));
}

#[tokio::test]
async fn a_credential_for_one_call_is_for_one_call() {
    let (node, root) = node().await;
    let child = delegate(&node, once(&root, 0, "{}")).await.unwrap();
    assert_eq!((child.max_calls, child.is_once()), (Some(1), true));
    let with = |authority: Option<Arc<vocab::Authority>>| Delegation {
        authority,
        ..once(&root, 0, "{}")
    };
    let two = vocab::Authority::of(
        [one_call("{}"), one_call("[]")]
            .iter()
            .flat_map(|it| it.details().to_vec()),
    );
    for asked in [
        with(None),
        with(Some(details("read", ""))),
        with(Some(details("read*", ""))),
        with(Some(Arc::new(two))),
        Delegation {
            max_calls: Some(2),
            ..once(&root, 0, "{}")
        },
    ] {
        assert_eq!(
            delegate(&node, asked).await.unwrap_err(),
            Refusal::NotOneCall
        );
    }
    // Its holder is the one above.
    assert!(matches!(
        delegate(&node, once(&root, 1, "{}")).await.unwrap_err(),
        Refusal::OtherInstance { .. }
    ));
    assert!(matches!(
        delegate(&node, below(&child.id, 3)).await.unwrap_err(),
        Refusal::OnceDelegates { .. }
    ));
    assert!(matches!(
        delegate(&node, once(&child.id, 0, "{}")).await.unwrap_err(),
        Refusal::OnceDelegates { .. }
    ));
}

/// An agent's key and a child's own give the next token of the child, and never an instance that
/// nobody delegated to.
#[tokio::test]
async fn a_child_goes_on_as_a_child() {
    let (node, root) = node().await;
    let asked = Delegation {
        authority: Some(details("read", "")),
        ..below(&root, 1)
    };
    let child = delegate(&node, asked).await.unwrap();
    let again = |id: &InstanceId, key| match start("lead", key) {
        Command::StartInstance {
            agent,
            kid,
            purpose,
            binding,
            upstream,
            ..
        } => Command::StartInstance {
            agent,
            kid,
            purpose,
            binding,
            upstream,
            continues: Some(id.clone()),
        },
        other => panic!("{other:?}"),
    };
    let refused = async |command| match node.execute(command).await {
        Err(CommandError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    let Done::Continued { instance } = node.ok(again(&child.id, 1)).await else {
        panic!();
    };
    assert_eq!(instance.id, child.id);
    assert!(matches!(
        refused(again(&child.id, 2)).await,
        Refusal::OtherInstance { .. }
    ));
    let single = delegate(&node, once(&root, 0, "{}")).await.unwrap();
    assert!(matches!(
        refused(again(&single.id, 0)).await,
        Refusal::OtherInstance { .. }
    ));
    // Its key without its name would start one without its bounds.
    assert_eq!(
        refused(start("lead", 1)).await,
        Refusal::DelegatedKey {
            instance: child.id.clone()
        }
    );
    node.ok(end(&root, EndReason::Revoked)).await;
    assert!(matches!(
        node.ok(start("lead", 1)).await,
        Done::Started { .. }
    ));
    assert!(matches!(
        refused(again(&child.id, 1)).await,
        Refusal::StandsNoMore {
            why: Why::AncestorNarrowed,
            ..
        }
    ));
}
