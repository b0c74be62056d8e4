use super::*;

fn check(detector: Detector, text: &str, expected: &[&str]) {
    let mut found = Vec::new();
    scan(text.as_bytes(), &mut |it, span, _| {
        if it == detector {
            found.push(text.get(span).unwrap());
        }
    });
    assert_eq!(found, expected, "{text}");
}

#[test]
fn cards_by_issuer_length_and_luhn() {
    let check = |text: &str, expected: &[&str]| check(Detector::Card, text, expected);
    for card in [
        "4111111111111111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "6200000000000005",
        "6759649826438453",
    ] {
        check(card, &[card]);
        let last = if card.ends_with('0') { "1" } else { "0" };
        check(
            &format!("{}{last}", card.get(..card.len() - 1).unwrap()),
            &[],
        );
    }
    check("4111-1111-1111-1111", &["4111-1111-1111-1111"]);
    check("3782 822463 10005", &["3782 822463 10005"]);
    check("12 4111 1111 1111 1111 99", &["4111 1111 1111 1111"]);
    check("x4111111111111111", &[]);
    check("41111111111111110", &[]);
    check("411 1111 1111 11111", &[]);
    check("9111111111111111", &[]);
    check("0000000000000000", &[]);
    // More digits than any number has are none.
    check(&"4".repeat(10_000), &[]);
    check(&"4111 ".repeat(1_000), &[]);
}

#[test]
fn account_numbers_by_country_and_remainder() {
    let check = |text: &str, expected: &[&str]| check(Detector::Iban, text, expected);
    for iban in [
        "GB29NWBK60161331926819",
        "DE89370400440532013000",
        "FR1420041010050500013M02606",
        "NL91ABNA0417164300",
        "NO9386011117947",
        "MT84MALT011000012345MTLCAST001S",
        "ES9121000418450200051332",
    ] {
        check(iban, &[iban]);
        check(&iban.to_lowercase(), &[&iban.to_lowercase()]);
        let spaced: Vec<&str> = iban
            .as_bytes()
            .chunks(4)
            .map(|it| std::str::from_utf8(it).unwrap())
            .collect();
        check(&spaced.join(" "), &[&spaced.join(" ")]);
        check(&format!("{iban}1"), &[]);
        check(&iban.replacen('1', "2", 1), &[]);
    }
    check(
        "to DE89 3704 0044 0532 0130 00.",
        &["DE89 3704 0044 0532 0130 00"],
    );
    check("XX89370400440532013000", &[]);
    check("DE89 3704  0044 0532 0130 00", &[]);
}

#[test]
fn identity_numbers_by_their_check_digits() {
    check(
        Detector::Dni,
        "12345678Z x1234567l 00000000T",
        &["12345678Z", "x1234567l", "00000000T"],
    );
    check(Detector::Dni, "12345678-Z", &["12345678-Z"]);
    check(Detector::Dni, "12345678B 12345678ZZ 112345678Z", &[]);
    check(
        Detector::Nir,
        "255081416802538 2 55 08 14 168 025 38",
        &["255081416802538", "2 55 08 14 168 025 38"],
    );
    check(Detector::Nir, "180102A00400112", &[]);
    check(
        Detector::CodiceFiscale,
        "RSSMRA85T10A562S MRTMTT91D08F205J",
        &["RSSMRA85T10A562S", "MRTMTT91D08F205J"],
    );
    check(Detector::CodiceFiscale, "RSSMRA85T10A562A", &[]);
    check(Detector::Bsn, "111222333", &["111222333"]);
    check(Detector::Bsn, "111222334 000000000", &[]);
    check(
        Detector::Cpf,
        "529.982.247-25 52998224725",
        &["529.982.247-25", "52998224725"],
    );
    check(Detector::Cpf, "529.982.247-24 000.000.000-00", &[]);
    check(
        Detector::Nhs,
        "9434765919 943 476 5919",
        &["9434765919", "943 476 5919"],
    );
    check(Detector::Nhs, "9434765918", &[]);
    check(
        Detector::Pesel,
        "44051401359 02070803628",
        &["44051401359", "02070803628"],
    );
    check(Detector::Pesel, "44051401358 44134101357", &[]);
    check(Detector::Ssn, "536-90-4399", &["536-90-4399"]);
    for never in [
        "000-12-3456",
        "666-12-3456",
        "912-12-3456",
        "536-00-4399",
        "536-90-0000",
    ] {
        check(Detector::Ssn, never, &[]);
    }
    // A part of a longer number is none.
    check(Detector::Ssn, "12-536-90-4399 536-90-4399-1", &[]);
}

/// Corsica counts as 19 and 18: 2A and 2B are no digits.
#[test]
fn a_department_may_have_a_letter() {
    let key = |digits: u64| 97 - digits % 97;
    let south = format!("180102A004001{:02}", key(1_801_019_004_001));
    let north = format!("180102B004001{:02}", key(1_801_018_004_001));
    check(Detector::Nir, &south, &[&south]);
    check(Detector::Nir, &north, &[&north]);
    check(Detector::Nir, &south.replace("2A", "2B"), &[]);
}

#[test]
fn addresses_and_phones() {
    let email = |text: &str, expected: &[&str]| check(Detector::Email, text, expected);
    email(
        "<maya.k+x@mail.example.org>,",
        &["maya.k+x@mail.example.org"],
    );
    email("a@b.co. c@d", &["a@b.co"]);
    email(
        "https://x.example/?to=maya@example.org",
        &["maya@example.org"],
    );
    email(
        "git clone ssh://git@example.org/a https://me:pass@example.org",
        &[],
    );
    email("@example.org a@.org a@b.1 a@b.c", &[]);
    let phone = |text: &str, expected: &[&str]| check(Detector::Phone, text, expected);
    phone("+49 (30) 1234-567 or", &["+49 (30) 1234-567"]);
    phone("+1 415 555 0132", &["+1 415 555 0132"]);
    phone("a+14155550132 +1415555013a +12 +0123456789", &[]);
    phone("+1234567890123456", &[]);
}
