use super::*;

const URL: &str = "https://www.rfc-editor.org/rfc/rfc7009";

fn spec() -> Spec {
    let text = format!(
        "name = \"RFC 7009\"\ntitle = \"T\"\nurl = \"{URL}\"\nopen = 1\n\
         [[requirement]]\nsection = \"2\"\nquote = \"Clients MUST verify that the URL is an HTTPS URL.\"\nnot_ours = \"clients\"\n\
         [[requirement]]\nsection = \"2.1\"\nquote = \"It MUST extend its search across all types.\"\n\
         [[also]]\nsection = \"2.1\"\nquote = \"It then verifies something else entirely.\"\n"
    );
    toml::from_str(&text).unwrap()
}

fn cite(lines: &[&str]) -> (Vec<Citation>, Vec<String>) {
    let text = lines.join("\n").replace("URL", URL);
    read(&Source {
        path: "crates/a.rs".to_owned(),
        text,
    })
}

fn judged(lines: &[&str]) -> (Cited, Vec<String>) {
    let spec = spec();
    let (citations, mut wrong) = cite(lines);
    wrong.extend(unmatched(std::slice::from_ref(&spec), &citations));
    (judge(&spec, &citations)[1], wrong)
}

const CODE: &[&str] = &[
    "//= URL#section-2.1",
    "//# It MUST extend its",
    "//# search across all types.",
];
const TEST: &[&str] = &[
    "  //= URL#section-2.1",
    "  //= type=test",
    "  //# MUST extend its search",
];

#[test]
fn code_and_test_together_meet_a_requirement() {
    let (cited, wrong) = judged(CODE);
    assert!(cited.code && !cited.test && cited.is_open());
    assert_eq!(wrong, Vec::<String>::new());
    let (cited, wrong) = judged(TEST);
    assert!(!cited.code && cited.test && cited.is_open());
    assert_eq!(wrong, Vec::<String>::new());
    let (cited, wrong) = judged(&[CODE, &["fn f() {}"], TEST].concat());
    assert!(!cited.is_open());
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn a_quote_that_is_in_no_list_is_wrong() {
    for bad in [
        &[
            "//= URL#section-2.1",
            "//# It MUST search everywhere at once.",
        ][..],
        &[
            "//= URL#section-2",
            "//# It MUST extend its search across all types.",
        ],
        &["//= URL#section-2.1", "//# It MUST"],
        &["//= URL#section-2.1"],
    ] {
        let (cited, wrong) = judged(bad);
        assert_eq!(cited, Cited::default(), "{bad:?}");
        assert_eq!(wrong.len(), 1, "{bad:?}: {wrong:?}");
    }
    let (_, wrong) = judged(&[
        "//= URL#section-2",
        "//# It MUST extend its search across all types.",
    ]);
    assert!(wrong[0].contains("section 2.1"), "{wrong:?}");
}

#[test]
fn sentences_that_require_nothing_may_be_cited() {
    let also = ["//= URL#section-2.1", "//# It then verifies something"];
    assert_eq!(judged(&also), (Cited::default(), Vec::new()));
    // And so may specifications that have no list.
    let other = [
        "//= https://www.rfc-editor.org/rfc/rfc7638#section-3",
        "//# anything at all",
    ];
    assert_eq!(judged(&other), (Cited::default(), Vec::new()));
}

#[test]
fn an_exception_says_why() {
    let with =
        |lines: &[&str]| judged(&[&["//= URL#section-2.1", "//= type=exception"], lines].concat());
    let quote = "//# It MUST extend its search across all types.";
    let (cited, wrong) = with(&["//= reason=there is one type", quote]);
    assert!(!cited.is_open() && wrong.is_empty(), "{wrong:?}");
    assert_eq!(with(&[quote]).1.len(), 1);
    assert_eq!(with(&["//= reason=", quote]).1.len(), 2);
}

#[test]
fn what_is_not_of_the_form_is_told() {
    for bad in [
        &["//# a quote of nothing at all"][..],
        &["//= type=test"],
        &[
            "//= URL#section-2.1",
            "",
            "//# It MUST extend its search across all types.",
        ],
        &[
            "//= URL#section-2.1",
            "//= type=todo",
            "//# It MUST extend its search across all types.",
        ],
    ] {
        assert!(!judged(bad).1.is_empty(), "{bad:?}");
    }
}

#[test]
fn the_number_of_open_requirements_may_only_shrink() {
    let mut spec = spec();
    let count = |spec: &Spec, lines: &[&str]| {
        let cited = judge(spec, &cite(lines).0);
        (
            open(spec, &cited),
            ratchet(std::slice::from_ref(spec), &[cited]).len(),
        )
    };
    // What binds clients is never open.
    assert_eq!(count(&spec, &[]), (1, 0));
    assert_eq!(count(&spec, &[CODE, &["x"], TEST].concat()), (0, 0));
    spec.open = 0;
    assert_eq!(count(&spec, CODE), (1, 1));
}
