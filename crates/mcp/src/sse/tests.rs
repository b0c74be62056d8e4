use proptest::prelude::*;

use super::*;

fn read_in(chunks: &[&[u8]]) -> Vec<Event> {
    let mut parser = SseParser::new(1 << 20);
    let mut events = Vec::new();
    for chunk in chunks {
        parser.push(chunk, &mut events).unwrap();
    }
    events
}

fn message(data: &str) -> Event {
    Event::message(Bytes::copy_from_slice(data.as_bytes()))
}

/// The same events whole, byte by byte, and with every line end.
fn check(input: &str, expected: &[Event]) {
    for end in ["\n", "\r", "\r\n"] {
        let text = input.replace('\n', end);
        assert_eq!(read_in(&[text.as_bytes()]), expected, "{text:?}");
        let bytes: Vec<_> = text.as_bytes().chunks(1).collect();
        assert_eq!(read_in(&bytes), expected, "{text:?} byte by byte");
    }
}

#[test]
fn events_are_read() {
    check("data: {}\n\n", &[message("{}")]);
    check("\u{feff}data:x\n\n", &[message("x")]);
    check("data:  x \n\n", &[message(" x ")]);
    check("data: a\ndata: b\ndata\n\n", &[message("a\nb\n")]);
    check(": comment\n\n:\ndata: x\n: more\n\n", &[message("x")]);
    check("data: a\n\ndata: b\n\n", &[message("a"), message("b")]);
    check("data: not finished\n", &[]);
    check("unknown: x\nDATA: x\n\n", &[]);
    check("\n\n\n", &[]);
    check(
        "event: ping\nid: 7\nretry: 250\ndata: \n\n",
        &[Event {
            name: Some("ping".to_owned()),
            data: Some(Bytes::new()),
            id: Some("7".to_owned()),
            retry_ms: Some(250),
        }],
    );
    check(
        "id: a\0b\nretry: 2s\nretry: -1\ndata: x\n\n",
        &[message("x")],
    );
    check(
        "id: only\n\n",
        &[Event {
            id: Some("only".to_owned()),
            ..Event::default()
        }],
    );
}

#[test]
fn one_event_has_a_limit() {
    let run = |text: &str| {
        let mut parser = SseParser::new(11);
        let mut events = Vec::new();
        let result = text
            .as_bytes()
            .chunks(3)
            .try_for_each(|chunk| parser.push(chunk, &mut events));
        (result, events.len())
    };
    let too_long = Err(SseError::TooLong { max: 11 });
    assert_eq!(run("data:12345\n\ndata:12345\n\n"), (Ok(()), 2));
    assert_eq!(run("data:123456\n\n"), (too_long, 0));
    assert_eq!(run("data:1\ndata:2\n\n"), (too_long, 0));
    assert_eq!(run("x\nx\nx\nx\nx\nx\nx\n"), (too_long, 0));
    assert_eq!(run(":12345678901\n"), (too_long, 0));
    assert_eq!(run(":1\n:2\n:3\n:4\n:5\n:6\ndata:1\n\n"), (Ok(()), 1));
}

#[test]
fn a_broken_stream_is_noticed() {
    let mut parser = SseParser::new(100);
    let mut events = Vec::new();
    for (chunk, expected) in [("", false), ("da", true), ("ta: x\n", true), ("\n", false)] {
        parser.push(chunk.as_bytes(), &mut events).unwrap();
        assert_eq!(parser.is_mid_event(), expected, "{chunk:?}");
    }
}

#[test]
fn nothing_can_be_smuggled_through_a_field() {
    let forged = Event {
        id: Some("1\ndata: forged".to_owned()),
        name: Some("x\r\rdata: forged".to_owned()),
        data: Some(Bytes::from_static(b"a\r\ndata: b\rid: 9")),
        retry_ms: None,
    };
    assert_eq!(
        read_in(&[&forged.to_bytes()]),
        [message("a\ndata: b\nid: 9")]
    );
    assert!(read_in(&[KEEP_ALIVE]).is_empty());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        data in prop::option::of("[a{}:\n é]{0,20}"),
        id in prop::option::of("[a-z: ]{0,4}"),
        name in prop::option::of("[a-z: ]{0,4}"),
        retry_ms: Option<u64>,
        split in 0_usize..40,
    ) {
        let event = Event { name, data: data.map(Bytes::from), id, retry_ms };
        let bytes = event.to_bytes();
        let (a, b) = bytes.split_at(split.min(bytes.len()));
        let expected: Vec<_> = (!event.is_empty()).then_some(event).into_iter().collect();
        prop_assert_eq!(read_in(&[a, b]), expected);
    }

    #[test]
    fn chunking_never_matters(
        input in prop::collection::vec(prop::sample::select(b"da:ti \r\n\0\xef\xbb\xbf".to_vec()), 0..60),
        cuts in prop::collection::vec(0_usize..60, 0..6),
    ) {
        let whole = read_in(&[&input]);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(input.len())).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
        prop_assert_eq!(read_in(&chunks), whole);
    }
}
