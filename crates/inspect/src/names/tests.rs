use super::*;

fn check(first: (&str, &str), second: (&str, &str), expected: Option<Likeness>) {
    let found = look_alikes(&[first, second]);
    let found = found.first().map(|it| {
        assert_eq!((it.first, it.second), (0, 1));
        it.likeness
    });
    assert_eq!(found, expected, "{first:?} {second:?}");
}

#[test]
fn names_that_a_reader_takes_for_one_another() {
    let alike = |first, second| check(("a", first), ("b", second), Some(Likeness::Alike));
    alike("read_file", "read_fiIe");
    alike("read_file", "read_fi1e");
    alike("read_file", "readFile");
    alike("read_file", "READ-FILE");
    alike("read_file", "rеad_file");
    alike("read_file", "read_\u{200b}file");
    alike("read_file", "ｒｅａｄ_ｆｉｌｅ");
    alike("tool0", "toolO");
    alike("command", "comrnand");
}

#[test]
fn the_same_name_elsewhere_is_a_question_and_here_is_none() {
    check(("a", "read"), ("b", "read"), Some(Likeness::Same));
    check(("a", "read"), ("a", "read"), None);
    check(("a", "read"), ("a", "reаd"), Some(Likeness::Alike));
    check(("a", "read"), ("b", "write"), None);
    check(("a", "list_files"), ("b", "list_file"), None);
}

#[test]
fn each_is_named_with_the_first_that_it_looks_like() {
    let names = [("a", "read"), ("b", "write"), ("c", "reаd"), ("d", "read")];
    let found = look_alikes(&names);
    let pairs: Vec<_> = found
        .iter()
        .map(|it| (it.first, it.second, it.likeness))
        .collect();
    assert_eq!(pairs, [(0, 2, Likeness::Alike), (2, 3, Likeness::Alike)]);
}
