use super::*;

fn person(id: &str, groups: &[&str]) -> ApprovedBy {
    ApprovedBy {
        id: Some(id.parse().unwrap()),
        groups: groups.iter().map(|it| (*it).to_owned()).collect(),
        is_sponsor: false,
    }
}

fn needs(all: &[&[&str]]) -> Needs {
    let ways = |ways: &&[&str]| ways.iter().map(|it| it.parse().unwrap()).collect();
    Needs::new(all.iter().map(ways))
}

#[test]
fn what_is_named_is_read_and_written_alike() {
    for text in [
        "maya",
        "sponsor",
        "group:finance",
        "maya, group:finance",
        "2 of group:finance",
        "2 of maya, li, group:Heads of state",
    ] {
        let read: Approvers = text.parse().unwrap();
        assert_eq!(read.to_string(), text);
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Approvers>(&json).unwrap(), read);
    }
    let same: Approvers = " 2 of  maya ,maya,li ".parse().unwrap();
    assert_eq!(same.to_string(), "2 of maya, li");
    let group: Approvers = "group:heads of state".parse().unwrap();
    assert_eq!(
        group.named(),
        [Approver::Group("heads of state".to_owned())]
    );
}

#[test]
fn what_names_nobody_is_refused() {
    for (text, why) in [
        ("", "nobody is named"),
        ("maya,", "nobody is named"),
        ("2 of", "is not the ID"),
        ("0 of maya", "no number of people"),
        ("17 of group:all", "no number of people"),
        (
            "99999999999999999999999 of group:all",
            "no number of people",
        ),
        ("two of group:all", "is not the ID"),
        ("3 of maya, li", "3 people are asked for and 2 named"),
        ("2 of maya, maya", "2 people are asked for and 1 named"),
        ("group:", "the name of a group"),
        ("group:a\nb", "the name of a group"),
        ("Group:finance", "is not the ID"),
        ("finance people", "is not the ID"),
    ] {
        let error = text.parse::<Approvers>().unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let many: Vec<String> = (0..70).map(|nth| format!("p{nth}")).collect();
    assert_eq!(
        many.join(",").parse::<Approvers>(),
        Err(ApproversError::TooMany)
    );
}

#[test]
fn so_many_different_people_are_enough() {
    let two = needs(&[&["2 of group:finance, maya"]]);
    let (maya, li) = (person("maya", &[]), person("li", &["finance"]));
    assert!(!two.are_met(&[]));
    assert!(!two.are_met(std::slice::from_ref(&maya)));
    assert!(!two.are_met(&[maya.clone(), person("sam", &["sales"])]));
    assert!(two.are_met(&[maya, li]));
}

#[test]
fn each_need_is_met_and_each_in_one_of_its_ways() {
    let both = needs(&[&["maya"], &["li", "2 of group:finance"]]);
    let (maya, li) = (person("maya", &["finance"]), person("li", &[]));
    let sam = person("sam", &["finance"]);
    assert!(!both.are_met(std::slice::from_ref(&maya)));
    assert!(!both.are_met(&[li.clone(), sam.clone()]));
    assert!(both.are_met(&[maya.clone(), li]));
    assert!(both.are_met(&[maya, sam]), "she is one of the two");
    assert_eq!(both.to_string(), "li, or 2 of group:finance; and maya");
}

#[test]
fn nobody_approves_what_is_done_in_their_name() {
    let mut own = person("maya", &["finance"]);
    own.is_sponsor = true;
    for text in ["maya", "group:finance", "li, maya"] {
        let by_name = needs(&[&[text]]);
        assert!(!by_name.are_met(std::slice::from_ref(&own)), "{text}");
        assert!(!by_name.include(&own), "{text}");
    }
    let said = needs(&[&["sponsor"]]);
    assert!(said.are_met(std::slice::from_ref(&own)));
    assert!(
        !said.are_met(&[person("li", &[])]),
        "others are not the sponsor"
    );
}

#[test]
fn who_was_erased_is_nobody() {
    let mut erased = person("maya", &[]);
    erased.id = None;
    assert!(!needs(&[&["maya"]]).are_met(&[erased]));
}

#[test]
fn what_asks_for_nobody_is_never_met() {
    let nobody = needs(&[]);
    assert!(!nobody.are_met(&[person("maya", &[])]));
    assert!(!needs(&[&[]]).are_met(&[person("maya", &[])]));
}
