use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;

async fn ready(config: UpstreamConfig) -> (Upstream, Arc<Link>) {
    let upstream = Upstream::new(config);
    let link = upstream.link("i-1", Opening::Handshake).await.unwrap();
    (upstream, link)
}

#[tokio::test]
async fn the_era_is_found() {
    async fn check(era: &str, expected: Result<(&str, Option<&str>), &str>) {
        let mut config = fixture(era);
        if matches!(era, "late" | "silent") {
            config.start_timeout = 3 * SECOND;
        }
        let upstream = Upstream::new(config);
        let probed = upstream.probe().await.map_err(|error| said(&error));
        let seen = probed.as_ref().map(|probed| {
            let info = probed
                .server_info
                .as_ref()
                .map(|it| std::str::from_utf8(it).unwrap());
            (probed.version.as_str(), info)
        });
        match (seen, expected) {
            (Ok(seen), Ok(expected)) => assert_eq!(seen, expected, "{era}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{era}: {error}"),
            (seen, expected) => panic!("{era}: {seen:?}, expected {expected:?}"),
        }
        assert_eq!(upstream.known().is_some(), expected.is_ok());
        upstream.close_all().await;
        assert_eq!(upstream.children(), 0);
    }
    let info = Some(r#"{"name": "fixture", "version": "1"}"#);
    tokio::join!(
        check("modern", Ok(("2026-07-28", info))),
        check("picky", Ok(("2026-07-28", None))),
        check("legacy", Ok(("2025-06-18", info))),
        check("brittle", Ok(("2025-06-18", info))),
        check("late", Ok(("2026-07-28", None))),
        check("silent", Ok(("2025-06-18", info))),
        check("future", Err("we speak none of them")),
    );
}

#[tokio::test]
async fn all_pages_of_tools_are_listed_as_they_were_written() {
    for era in ["modern", "legacy"] {
        for shared in [false, true] {
            let upstream = Upstream::new(UpstreamConfig {
                shared,
                ..fixture(era)
            });
            let tools = upstream.list_tools().await.unwrap();
            let expected = concat!(
                r#"[{"name": "a", "inputSchema": {"type": "object"}, "#,
                r#""odd": 12345678901234567890123},"#,
                r#"{"name": "b", "inputSchema": {"type": "object"}}]"#,
            );
            assert_eq!(String::from_utf8(tools).unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn the_list_for_the_record_is_that_of_a_client_that_can_be_asked() {
    let (upstream, link) = ready(fixture("curious")).await;
    assert_eq!(given(&link, "1", "askable", json!({})).await, json!({}));
    let tools = upstream.list_tools().await.unwrap();
    let expected = r#"[{"name": "elicitation"}, {"name": "roots"}, {"name": "sampling"}]"#;
    let parse = |text: &[u8]| serde_json::from_slice::<Value>(text).unwrap();
    assert_eq!(parse(&tools), parse(expected.as_bytes()));
}

#[tokio::test]
async fn a_list_has_limits() {
    async fn check(era: &str, expected: &str) {
        let error = Upstream::new(fixture(era)).list_tools().await.unwrap_err();
        assert_eq!(error.to_string(), expected, "{era}");
    }
    tokio::join!(
        check("endless", "more than 200 pages"),
        check("many", "more than 2000 tools"),
        check("long", "a list of more than 4194304 bytes"),
    );
}

#[tokio::test]
async fn children_have_a_limit() {
    let (upstream, link) = ready(fixture("modern")).await;
    upstream.places.forget_permits(CHILDREN_MAX - 1);
    let error = upstream.link("i-2", Opening::Handshake).await.unwrap_err();
    assert!(
        matches!(error, OpenError::TooManyChildren { .. }),
        "{error:?}"
    );
    given(&link, "1", "echo", json!({})).await;
}

#[tokio::test]
async fn calls_at_once_get_their_own_answers() {
    let (_upstream, link) = ready(fixture("modern")).await;
    let mut calls = Vec::new();
    for n in 0..20 {
        calls.push(
            link.request(call(&n.to_string(), "echo", &json!({"n": n})))
                .await
                .unwrap(),
        );
    }
    for (n, exchange) in calls.iter_mut().enumerate().rev() {
        let answer = value(&exchange.response().await.unwrap());
        assert_eq!(answer["result"]["n"], n);
    }
}

#[tokio::test]
async fn progress_comes_with_its_call_and_the_rest_apart() {
    let (_upstream, link) = ready(fixture("legacy")).await;
    assert_eq!(
        link.negotiated().unwrap().version,
        ProtocolVersion::V2025_06_18
    );
    let mut apart = link.unsolicited();
    let mut exchange = link
        .request(call("1", "progress", &json!({})))
        .await
        .unwrap();
    for step in 0..3 {
        let message = exchange.next().await.unwrap().unwrap();
        assert_eq!(message.kind, MessageKind::Notification);
        assert_eq!(value(&message)["params"]["progress"], step);
    }
    assert_eq!(
        exchange.next().await.unwrap().unwrap().kind,
        MessageKind::Response
    );
    assert!(exchange.next().await.is_none());

    let mut exchange = link.request(call("2", "ask", &json!({}))).await.unwrap();
    let question = apart.recv().await.unwrap();
    assert_eq!(question.kind, MessageKind::Request);
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"action":"decline"}}"#;
    link.pass(Passing::assertion(answer)).await.unwrap();
    let response = value(&exchange.response().await.unwrap());
    assert_eq!(response["result"]["action"], "decline");
}

#[tokio::test]
async fn a_body_of_many_lines_is_one_message() {
    let (_upstream, link) = ready(fixture("modern")).await;
    let body = "{\"jsonrpc\":\"2.0\",\r\n\"id\":7,\n\"method\":\"tools/call\",\"params\":\n\
                {\"name\":\"echo\",\"arguments\":{\"text\":\"a\\nb\"}}}";
    let mut exchange = link.request(Outgoing::assertion(body)).await.unwrap();
    assert_eq!(
        value(&exchange.response().await.unwrap())["result"]["text"],
        "a\nb"
    );
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_and_a_finished_one_is_not() {
    for era in ["modern", "legacy"] {
        let (_upstream, link) = ready(fixture(era)).await;
        let mut apart = link.unsolicited();
        given(&link, "finished", "echo", json!({})).await;
        drop(
            link.request(call("dropped", "hang", &json!({})))
                .await
                .unwrap(),
        );
        let message = apart.recv().await.unwrap();
        assert_eq!(value(&message)["params"]["data"], "dropped");
        // Its id may be used again.
        given(&link, "dropped", "echo", json!({})).await;
    }
}

#[tokio::test]
async fn an_id_is_used_once_at_a_time() {
    let (_upstream, link) = ready(fixture("modern")).await;
    let _first = link.request(call("1", "hang", &json!({}))).await.unwrap();
    let error = link
        .request(call("1", "echo", &json!({})))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::NotSent(Cause::DuplicateId)),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_child_that_dies_fails_what_waits_and_is_started_again() {
    let (upstream, link) = ready(fixture("modern")).await;
    let mut waits = link.request(call("1", "hang", &json!({}))).await.unwrap();
    let mut kills = link.request(call("2", "die", &json!({}))).await.unwrap();
    for exchange in [&mut waits, &mut kills] {
        let error = exchange.next().await.unwrap().unwrap_err();
        assert_eq!(said(&error), "the upstream's process ended: exit status 3");
        assert!(exchange.next().await.is_none());
    }
    assert!(!link.is_alive());
    assert!(upstream.stderr().contains(&"last words".to_owned()));
    let error = link
        .request(call("3", "echo", &json!({})))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::NotSent(Cause::ChildGone { .. })),
        "{error:?}"
    );

    let again = upstream.link("i-1", Opening::Handshake).await.unwrap();
    given(&again, "3", "echo", json!({})).await;
    assert_eq!(upstream.children(), 1);
}

#[tokio::test]
async fn a_flood_on_stderr_and_noise_on_stdout_do_no_harm() {
    let (upstream, link) = ready(fixture("modern")).await;
    given(&link, "1", "noise", json!({})).await;
    given(&link, "2", "flood", json!({})).await;
    // With the child's end, all that it wrote is read.
    upstream.close_all().await;
    let lines = upstream.stderr();
    assert!(lines.len() <= 50 && lines.iter().all(|line| line.len() <= 1024));
    assert!(
        lines.contains(&"token is [masked:credential]".to_owned()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_child_that_dies_at_its_start_says_why() {
    let script = r"printf '\033[31mno token \007given: t0p-secret\033[0m\n\r\n' >&2; exit 3";
    let upstream = Upstream::new(child(&["sh", "-c", script]));
    let error = upstream.link("i-1", Opening::Handshake).await.unwrap_err();
    let expected = "the upstream's process ended: exit status 3";
    assert_eq!(said(&error), expected);
    assert_eq!(upstream.trouble().as_deref(), Some(expected));
    upstream.close_all().await;
    assert_eq!(
        upstream.last_words(),
        "; its last words: no token given: [masked:credential] | no token given: [masked:credential]"
    );
}

#[tokio::test]
async fn what_cannot_be_used_says_so_before_it_is_tried() {
    let upstream = Upstream::new(config(Transport::Unusable {
        why: "env.TOKEN: not set".to_owned(),
    }));
    let expected = "unusable configuration: env.TOKEN: not set";
    assert_eq!(upstream.trouble().as_deref(), Some(expected));
    let error = upstream.list_tools().await.unwrap_err();
    assert_eq!(said(&error), expected);
}

#[tokio::test]
async fn a_giant_line_ends_the_child() {
    let (_upstream, link) = ready(fixture("modern")).await;
    let mut exchange = link.request(call("1", "giant", &json!({}))).await.unwrap();
    let error = exchange.next().await.unwrap().unwrap_err();
    assert!(
        said(&error).contains("a line of more than 33554432 bytes"),
        "{error:?}"
    );
    assert!(!link.is_alive());
}

#[tokio::test]
async fn a_silent_child_costs_its_timeout() {
    let config = UpstreamConfig {
        call_timeout: SECOND / 10,
        ..fixture("modern")
    };
    let (_upstream, link) = ready(config).await;
    let mut exchange = link.request(call("1", "hang", &json!({}))).await.unwrap();
    let error = exchange.next().await.unwrap().unwrap_err();
    assert!(matches!(error, ExchangeError::Timeout { .. }), "{error:?}");
    drop(exchange);
    assert!(link.is_alive());
}

#[tokio::test]
async fn a_child_that_does_not_read_costs_its_timeout() {
    let config = UpstreamConfig {
        call_timeout: SECOND / 5,
        ..child(&["sleep", "1000"])
    };
    let upstream = Upstream::new(config);
    let link = upstream.open(None).await.unwrap();
    let long = json!({"text": "x".repeat(1 << 20)});
    let error = link.request(call("1", "echo", &long)).await.unwrap_err();
    assert!(
        matches!(error, SendError::Unknown(Cause::Timeout { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_cannot_start_is_left_alone_for_a_while() {
    let upstream = Upstream::new(child(&["/nonexistent/server"]));
    let mut seen = Vec::new();
    while seen.len() < 20 {
        match upstream.link("i-1", Opening::Handshake).await.unwrap_err() {
            OpenError::BackingOff {
                why,
                failures,
                retry_in,
            } => {
                assert!(failures >= 3 && retry_in > SECOND);
                assert!(why.starts_with("could not start `/nonexistent"), "{why}");
                // Others are not made to wait for it.
                let other = upstream.link("i-2", Opening::Handshake).await.unwrap_err();
                assert!(matches!(other, OpenError::Spawn { .. }), "{other:?}");
                return;
            }
            error => seen.push(error),
        }
    }
    panic!("it was tried without end: {seen:?}");
}

#[tokio::test]
async fn each_owner_has_a_child_and_all_share_a_shared_one() {
    async fn check(shared: bool, expected: usize) {
        let upstream = Upstream::new(UpstreamConfig {
            shared,
            ..fixture("modern")
        });
        let mut pids = std::collections::BTreeSet::new();
        for owner in ["i-1", "i-2", "i-1"] {
            let link = upstream.link(owner, Opening::Handshake).await.unwrap();
            let pid = given(&link, owner, "pid", json!({})).await;
            pids.insert(pid.as_i64().unwrap());
        }
        assert_eq!(pids.len(), expected);
        assert_eq!(upstream.children(), expected);
    }
    check(false, 2).await;
    check(true, 1).await;
}

#[tokio::test]
async fn closing_an_owner_ends_its_link_alone() {
    let (upstream, link) = ready(fixture("modern")).await;
    let other = upstream.link("i-2", Opening::Handshake).await.unwrap();
    let mut waits = link.request(call("1", "hang", &json!({}))).await.unwrap();
    upstream.close_owner("i-1");
    let error = waits.next().await.unwrap().unwrap_err();
    assert!(
        matches!(error, ExchangeError::Gone(Cause::Closed)),
        "{error:?}"
    );
    let error = link
        .request(call("2", "echo", &json!({})))
        .await
        .unwrap_err();
    assert!(
        matches!(error, SendError::NotSent(Cause::Closed)),
        "{error:?}"
    );
    given(&other, "1", "echo", json!({})).await;
    assert_eq!(upstream.owners(), ["i-2"]);
}

#[tokio::test]
async fn a_stubborn_child_and_what_it_started_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    // Child and grandchild hold the fifo open: it ends when both are dead.
    let script = format!(
        "trap '' TERM; exec 9>'{}'; sleep 1000 & echo started >&9; while :; do wait; done",
        fifo.display()
    );
    // Open for writing too, or it would end before the child has opened it.
    let fifo_held = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    let fifo = tokio::net::unix::pipe::OpenOptions::new()
        .open_receiver(&fifo)
        .unwrap();
    let upstream = Upstream::new(child(&["sh", "-c", &script]));
    let link = upstream.open(None).await.unwrap();
    let mut lines = BufReader::new(fifo).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "started");
    drop(fifo_held);
    upstream.close_all().await;
    assert_eq!(upstream.children(), 0);
    assert!(!link.is_alive());
    let end = tokio::time::timeout(10 * SECOND, lines.next_line()).await;
    assert_eq!(end.expect("neither is alive").unwrap(), None);
    let error = upstream.link("i-1", Opening::Handshake).await.unwrap_err();
    assert!(matches!(error, OpenError::Closed));
}

#[tokio::test]
async fn the_environment_is_the_configured_one() {
    let (_upstream, link) = ready(fixture("modern")).await;
    let environment = given(&link, "1", "environment", json!({})).await;
    // It has it, and says so.
    assert_eq!(environment["TOKEN"], broker::MASK);
    assert!(environment["PATH"].is_string());
    assert_eq!(environment.get("CARGO_MANIFEST_DIR"), None, "ours");
}
