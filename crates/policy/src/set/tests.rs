use super::*;
use crate::testing::World;

fn files(text: &str) -> Vec<PolicyFile> {
    vec![PolicyFile {
        name: "files.cedar".to_owned(),
        text: text.to_owned(),
    }]
}

/// What is said about policies that cannot be a set.
fn check(text: &str, expected: &[&str]) {
    let found: Vec<String> = match PolicySet::parse(files(text)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(found, expected, "{text}");
}

/// What is said about a set when it meets the tools of [`World`].
fn check_fit(text: &str, expected: &[&str]) {
    let world = World::new(text);
    let found: Vec<String> = world
        .engine
        .diagnostics()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, expected, "{text}");
}

/// Policies, and all that is said of them.
const GOLDEN: &[(&str, &[&str])] = &[
    (
        "permit (principal, action == Action::\"files/read\", resource);",
        &[],
    ),
    (
        "permit (principal, action == Action::\"files/raed\", resource);",
        &["p.cedar:1:39: error: `files` has no tool `raed`\n  help: did you mean `read`?"],
    ),
    (
        "permit (principal, action in Action::\"file\", resource);",
        &["p.cedar:1:39: error: there is no upstream `file`\n  help: did you mean `files`?"],
    ),
    (
        "permit (principal, action == Action::\"files:resource/read\", resource);",
        &[
            "p.cedar:1:39: error: no method `resource/read` is decided by policy\n  help: did you mean `resources/read`?",
        ],
    ),
    (
        "permit (principal, action, resource == Tool::\"files/reed\");",
        &["p.cedar:1:47: error: `files` has no tool `reed`\n  help: did you mean `read`?"],
    ),
    (
        "permit (principal, action, resource == Tool::\"files\");",
        &[
            "p.cedar:1:47: error: `Tool::\"files\"` names nothing\n  help: write `UPSTREAM/TOOL`; of an upstream's other methods, the resource is `Upstream::\"UPSTREAM\"`",
        ],
    ),
    (
        "permit (principal, action == Action::\"down/x\", resource) when { context.args.y == 1 };",
        &["p.cedar:1:39: warning: the tools of `down` are not known, so this is not checked"],
    ),
    (
        "@id(\"p\") permit (principal, action == Action::\"files/read\", resource)\nwhen { context.args.pth like \"/x\" };",
        &[
            "p.cedar:2:21: error: `files/read` has no argument `pth`; this permit is off\n  help: did you mean `path`?",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action == Action::\"files/read\", resource)\nwhen { context.args has pth && context.args.pth like \"/x\" };",
        &[
            "p.cedar:2:25: error: `files/read` has no argument `pth`; until it is mended, its whole scope is denied\n  help: did you mean `path`?",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action in Action::\"files\", resource)\nwhen { context.args has pth && context.args.pth like \"/x\" };",
        &[
            "p.cedar:2:25: error: nothing in this policy's scope has an argument `pth`; until it is mended, its whole scope is denied\n  help: did you mean `path`?",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action, resource)\nwhen { context.args has pth && context.args.pth like \"/x\" };",
        &[
            "p.cedar:2:25: warning: nothing in this policy's scope has an argument `pth`\n  help: did you mean `path`?",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action, resource)\nwhen { context.args.path like \"/x\" };",
        &[
            "p.cedar:2:8: error: attribute `args.path` is not everywhere in this policy's scope; until it is mended, its whole scope is denied on `down:completion/complete`, `down:elicitation/create`, `down:logging/setLevel` and 44 more\n  help: ask `has` first, or name the tools that have it",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action == Action::\"files/write-file\", resource)\nwhen { context.args has blob };",
        &[
            "p.cedar:2:25: error: argument `blob` of `files/write-file` has no type that policy can see; until it is mended, its whole scope is denied\n  help: such arguments are only named, in `context.untyped`",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action == Action::\"files/write-file\", resource)\nwhen { context.canonical.text like \"/x\" };",
        &[
            "p.cedar:2:26: error: argument `text` is not taken for a path or URL; until it is mended, its whole scope is denied\n  help: name it in the upstream's `path_arguments` or `url_arguments`, or read `context.args`",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action == Action::\"files/write-file\", resource)\nwhen { context.canonical.pat like \"/x\" };",
        &[
            "p.cedar:2:26: error: `files/write-file` has no argument `pat`; until it is mended, its whole scope is denied\n  help: did you mean `path`?",
        ],
    ),
    (
        "permit (principal, action == Action::\"files/write-file\", resource)\nwhen { context.args.size > 3 };",
        &[
            "p.cedar:2:8: error: unable to guarantee safety of access to optional attribute `args.size` in context for Action::\"files/write-file\"; this permit is off for `files/write-file`\n  help: try testing for the attribute's presence with `context.args has size && ..`",
        ],
    ),
    (
        "permit (principal, action == Action::\"files/read\", resource)\nwhen { context.args.path == 3 };",
        &[
            "p.cedar:2:8: error: the types Long and String are not compatible; this permit is off for `files/read`\n  help: both operands to a `==` expression must have compatible types. Types must be exactly equal to be compatible",
        ],
    ),
    (
        "permit (principal, action == Action::\"files/read\", resource)\nwhen { principal.sponsr == Sponsor::\"maya\" };",
        &[
            "p.cedar:2:8: error: attribute `sponsr` on entity type `Instance` not found; this permit is off for `files/read`\n  help: did you mean `sponsor`?",
        ],
    ),
    (
        "permit (principal, action == Action::\"files/read\", resource)\nwhen { context.arg.path == \"x\" };",
        &[
            "p.cedar:2:16: error: there is no `context.arg`; this permit is off\n  help: did you mean `context.args`?",
        ],
    ),
    (
        "permit (principal, action, resource)\nwhen { context.arg.path == \"x\" };",
        &[
            "p.cedar:2:16: error: there is no `context.arg`; this permit is off\n  help: did you mean `context.args`?",
        ],
    ),
    (
        "@id(\"f\") forbid (principal, action, resource)\nwhen { context has user && context.user == \"x\" };",
        &[
            "p.cedar:2:20: error: there is no `context.user`; until it is mended, its whole scope is denied\n  help: `context` has `approval`, `args`, `canonical`, `direction`, `findings`, `labels`, `now`, `proven`, `untyped`",
        ],
    ),
    (
        "forbid (principal, action in Action::\"down\", resource)\nwhen { context.args has path };",
        &["p.cedar:1:39: warning: the tools of `down` are not known, so this is not checked"],
    ),
    (
        "forbid (principal, action in Action::\"down\", resource);",
        &[],
    ),
    (
        "permit (principal, action == Action::\"files/read\", resource)\nwhen { principal in Team::\"x\" };",
        &[
            "p.cedar:2:21: error: unrecognized entity type `Team`; this permit is off for `files/read`\n  help: did you mean `Tool`?",
        ],
    ),
    (
        "permit (principal, action == Action::\"files/read\", resource in Upstream::\"web\");",
        &[
            "p.cedar:1:1: warning: this policy's action and resource never meet, so it never applies",
        ],
    ),
    (
        "permit (principal, action == Action::\"files/read\", resource)\nwhen { context.args.path == \"аdmin\" };",
        &["p.cedar:2:29: warning: string `\"аdmin\"` contains mixed scripts"],
    ),
];

#[test]
fn policies_are_named() {
    let set = PolicySet::parse(files(
        "// first\n@id(\"one\") permit (principal, action, resource);\n\n  forbid (principal, action, resource) when { false };\n",
    ))
    .unwrap();
    assert_eq!(set.ids().collect::<Vec<_>>(), ["one", "files.cedar:4"]);
    let again = PolicySet::from_blob(set.to_blob()).unwrap();
    assert_eq!(again.digest(), set.digest());
    assert_eq!(again.to_blob(), set.to_blob());
    assert!(PolicySet::from_blob(b"{\"v\":2,\"files\":[]}").is_err());
    assert!(PolicySet::from_blob(b"{}").is_err());
    assert!(PolicySet::parse(Vec::new()).unwrap().is_empty());
}

#[test]
fn what_does_not_parse_is_said_with_its_place() {
    check(
        "permit (principal, action, resource)\nwhen { context.args.path lik \"/x\" };",
        &[
            "files.cedar:2:26: error: unexpected token `lik` (expected `!=`, `&&`, `(`, `*`, `+`, `-`, `.`, `<`, `<=`, `==`, `>`, `>=`, `[`, `||`, `}`, `has`, `in`, `is`, or `like`)",
        ],
    );
    check(
        "permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);\n@id(\"a\") forbid (principal, action, resource);",
        &["files.cedar:3:1: error: two policies have the id `a`; the other is at files.cedar:2"],
    );
    check(
        "@reson(\"x\") permit (principal, action, resource);",
        &[
            "files.cedar:1:1: error: there is no annotation `@reson`\n  help: did you mean `@reason`?",
        ],
    );
    check(
        "@route(\"A copy\") permit (principal, action, resource);",
        &[
            "files.cedar:1:1: error: `@route`: `A copy` is no name of an upstream\n  help: write the name of one upstream: `@route(\"sandbox\")`",
        ],
    );
    check(
        "@route(\"sandbox\") forbid (principal, action, resource);",
        &[
            "files.cedar:1:1: error: `@route` on a forbid does nothing\n  help: put it on a permit: what it permits then goes there",
        ],
    );
    check(
        "@mask(\"secrets\") permit (principal, action, resource);",
        &[
            "files.cedar:1:1: error: `@mask`: `secrets` is no class of findings; did you mean `secret`?",
        ],
    );
    check(
        "@mask(\"secret\") forbid (principal, action, resource);",
        &[
            "files.cedar:1:1: error: `@mask` on a forbid does nothing: no condition looks at `context.findings`\n  help: write `when { context.findings.contains(\"secret\") }`: once those are masked, the forbid no longer applies",
        ],
    );
    check(
        "forbid (principal, action, resource) when { context.findings.containsAny([\"secret\", \"secrets\"]) };",
        &[
            "files.cedar:1:1: error: `context.findings` never has \"secrets\": `secrets` is no class of findings; did you mean `secret`?\n  help: write `secret`, `secret/RULE` or `secret:medium`",
        ],
    );
    check(
        "forbid (principal, action, resource) when { context.direction == \"reponse\" };",
        &[
            "files.cedar:1:1: error: `context.direction` is `request` or `response`, never \"reponse\"\n  help: did you mean `response`?",
        ],
    );
    check(
        "@warn(\"x\") forbid (principal, action, resource);",
        &[
            "files.cedar:1:1: error: `@warn` on a forbid does nothing\n  help: put it on the permit, or use `@reason` here",
        ],
    );
    check(
        "@id(\"\") permit (principal, action, resource);",
        &["files.cedar:1:1: error: `@id` is empty"],
    );
    check(
        "permit (principal == ?principal, action, resource);",
        &[
            "files.cedar:1:1: error: this is a template (`?principal` or `?resource`)\n  help: write the policy out; templates are not supported",
        ],
    );
    check(
        "permit (principal == Agent::\"triage\", action == Action::\"files\", resource in Agent::\"x\");",
        &[
            "files.cedar:1:1: error: no principal is `Agent::\"triage\"` itself\n  help: a principal is an `Instance`, in its `Agent` and its `Purpose`s: write `principal in Agent::\"NAME\"`",
            "files.cedar:1:1: error: no call is the action `Action::\"files\"` itself\n  help: it is the group of an upstream's actions: write `action in`",
            "files.cedar:1:1: error: no resource is in `Agent::\"x\"`\n  help: a resource is a `Tool::\"UPSTREAM/TOOL\"`, in its `Upstream::\"UPSTREAM\"`",
        ],
    );
}

#[test]
fn no_scope_names_what_is_in_a_namespace() {
    for (scope, what) in [
        (
            "principal is My::Instance, action, resource",
            "no principal is a `My::Instance`",
        ),
        (
            "principal is My::Instance in Agent::\"a\", action, resource",
            "no principal is a `My::Instance`",
        ),
        (
            "principal == My::Instance::\"i\", action, resource",
            "no principal is `My::Instance",
        ),
        (
            "principal in My::Agent::\"a\", action, resource",
            "no principal is in `My::Agent",
        ),
        (
            "principal in My::Purpose::\"a\", action, resource",
            "no principal is in `My::Purpose",
        ),
        (
            "principal is Instance in My::Agent::\"a\", action, resource",
            "no principal is in `My::Agent",
        ),
        (
            "principal, action == My::Action::\"f/r\", resource",
            "no call is the action `My::Action",
        ),
        (
            "principal, action in My::Action::\"f\", resource",
            "no call is the action `My::Action",
        ),
        (
            "principal, action in [Action::\"f\", My::Action::\"g\"], resource",
            "no call is the action `My::Action::\\\"g",
        ),
        (
            "principal, action, resource is My::Tool",
            "no resource is a `My::Tool`",
        ),
        (
            "principal, action, resource == My::Tool::\"f/r\"",
            "no resource is `My::Tool",
        ),
        (
            "principal, action, resource in My::Upstream::\"f\"",
            "no resource is in `My::Upstream",
        ),
        (
            "principal, action, resource is My::Tool in Upstream::\"f\"",
            "no resource is a `My::Tool` in",
        ),
        (
            "principal, action, resource is Tool in My::Upstream::\"f\"",
            "no resource is a `Tool` in `My::Upstream",
        ),
    ] {
        let problems = PolicySet::parse(files(&format!("permit ({scope});"))).unwrap_err();
        let [only] = &problems[..] else {
            panic!("{scope}: {problems:?}");
        };
        assert!(
            only.message.contains(&what.replace("\\\"", "\"")),
            "{scope}: {only}"
        );
    }
}

#[test]
fn what_does_not_fit_the_tools_is_said_with_its_place() {
    for (text, expected) in GOLDEN {
        check_fit(text, expected);
    }
}

#[test]
fn arguments_that_are_read_are_found() {
    let set = PolicySet::parse(files(
        r#"permit (principal, action, resource) when {
            context.args has path && context["args"]["my-arg"] == 1 && context.args.a.b like "x*"
            && context.canonical.url == "u" && [context.args].contains({}) && context.proven
            && {"has": context.args.inner, ".": 1}["."] == 1
        };"#,
    ))
    .unwrap();
    let policy = &set.policies()[0];
    let args: Vec<String> = policy
        .reads
        .args
        .keys()
        .map(|path| path.join("."))
        .collect();
    assert_eq!(args, ["", "a.b", "inner", "my-arg", "path"]);
    assert_eq!(policy.reads.canonical.iter().collect::<Vec<_>>(), ["url"]);
}

#[test]
fn what_cannot_be_checked_is_listed_by_upstream() {
    let engine = World::new(
        r#"
        @id("tool") permit (principal, action == Action::"down/x", resource);
        @id("argument") forbid (principal, action in Action::"down", resource)
            when { context.args has path };
        @id("whole") forbid (principal, action in Action::"down", resource);
        @id("method") permit (principal, action == Action::"down:resources/read", resource)
            when { context.args.uri like "x://*" };
        @id("known") permit (principal, action == Action::"files/read", resource);
        "#,
    )
    .engine;
    let unchecked: Vec<_> = engine.unchecked().iter().collect();
    let [(upstream, policies)] = unchecked[..] else {
        panic!("{unchecked:?}");
    };
    assert_eq!(upstream.as_str(), "down");
    assert_eq!(*policies, ["tool", "argument"]);
}

#[test]
fn without_its_scope_a_policy_has_its_conditions() {
    let text = r#"@id("a") @reason("r") permit (principal in Agent::"x", action in [Action::"files/read"],
        resource == Tool::"files/read")
        when { context.args.path like "/a\*b*" && principal.depth < 3 }
        unless { context.now > datetime("2026-01-01") };"#;
    let set = PolicySet::parse(files(text)).unwrap();
    let policy = &set.policies()[0];
    let bare = policy.unscoped();
    assert_eq!(bare.id(), policy.cedar.id());
    assert_eq!(bare.effect(), Effect::Permit);
    assert_eq!(bare.principal_constraint(), PrincipalConstraint::Any);
    assert_eq!(bare.action_constraint(), ActionConstraint::Any);
    assert_eq!(bare.resource_constraint(), ResourceConstraint::Any);
    let conditions =
        |policy: &cedar_policy::Policy| policy.to_json().unwrap()["conditions"].clone();
    assert_eq!(conditions(bare), conditions(&policy.cedar));
}
