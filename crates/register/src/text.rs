//! Texts that only the register has: key ids, words, labels, and a person's name and address.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ledger::note::{Algorithm, KeyError, Verifier};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vocab::id::{AdminId, IdError, SponsorId, invisible};

/// The public key of an administrator's credential, in signed-note form. Its name is theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminKey {
    admin: AdminId,
    verifier: Verifier,
}

/// Why a text is not an administrator's key.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum AdminKeyError {
    /// Not a public key in signed-note form.
    #[error("it is not a public key in signed-note form: {0}")]
    Key(#[from] KeyError),
    /// Named as no administrator can be, or as only local users are.
    #[error(
        "`{0}` cannot be an administrator's name: letters, digits, `-`, `_`, `.` and `@` are \
         allowed, the first a letter or digit"
    )]
    Name(String),
    /// A key of a sort that does not sign requests.
    #[error("it is a witness's key; an administrator's signs notes")]
    Algorithm,
}

impl AdminKey {
    /// What the credential of every administrator's key begins with in records.
    const CREDENTIAL: &str = "admin-key:";

    /// The administrator.
    pub const fn admin(&self) -> &AdminId {
        &self.admin
    }

    /// What checks their signatures.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// How records name the credential: `admin-key:NAME+HASH`.
    pub fn credential(&self) -> String {
        format!("{}{}", Self::CREDENTIAL, self.verifier.key_name())
    }

    /// Whether records name an administrator's key so.
    pub(crate) fn is_credential(credential: &str) -> bool {
        credential.starts_with(Self::CREDENTIAL)
    }
}

impl TryFrom<Verifier> for AdminKey {
    type Error = AdminKeyError;

    fn try_from(verifier: Verifier) -> Result<Self, AdminKeyError> {
        if verifier.algorithm() != Algorithm::Ed25519 {
            return Err(AdminKeyError::Algorithm);
        }
        let name = verifier.name();
        let admin = name.parse().ok().filter(|_| !name.contains(':'));
        let admin = admin.ok_or_else(|| AdminKeyError::Name(name.to_owned()))?;
        Ok(Self { admin, verifier })
    }
}

impl FromStr for AdminKey {
    type Err = AdminKeyError;

    fn from_str(text: &str) -> Result<Self, AdminKeyError> {
        text.parse::<Verifier>()?.try_into()
    }
}

impl Serialize for AdminKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.verifier)
    }
}

impl<'de> Deserialize<'de> for AdminKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn check(
    what: &'static str,
    text: &str,
    max: usize,
    rule: &'static str,
    allowed: fn(char) -> bool,
) -> Result<(), IdError> {
    if text.len() > max {
        return Err(IdError::TooLong {
            what,
            length: text.len(),
            max,
        });
    }
    match text.char_indices().find(|(_, found)| !allowed(*found)) {
        Some((at, found)) => Err(IdError::Character {
            what,
            found,
            at,
            rule,
        }),
        None => Ok(()),
    }
}

const fn not_empty(what: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        Err(IdError::Empty { what })
    } else {
        Ok(())
    }
}

macro_rules! serde_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

macro_rules! shown {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
    };
}

macro_rules! personal {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[personal]")
            }
        }
    };
}

/// The id of a public key (`kid`), unique among the keys its holder ever had.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Arc<str>);
serde_text!(KeyId);
shown!(KeyId);

impl FromStr for KeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "a key id";
        not_empty(WHAT, text)?;
        check(
            WHAT,
            text,
            128,
            "printable ASCII characters are allowed",
            |c| c.is_ascii_graphic(),
        )?;
        Ok(Self(text.into()))
    }
}

/// One word from a closed vocabulary that another part keeps, such as `disk-full`: never free text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Word(Arc<str>);
serde_text!(Word);
shown!(Word);

impl FromStr for Word {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "a word";
        not_empty(WHAT, text)?;
        check(
            WHAT,
            text,
            64,
            "lower-case letters, digits and `-` are allowed",
            |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
        )?;
        Ok(Self(text.into()))
    }
}

/// A short technical label, such as a version, a model's digest or `production`. Empty means
/// unknown.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);
serde_text!(Label);
shown!(Label);

impl FromStr for Label {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        check(
            "a label",
            text,
            128,
            "printable ASCII characters are allowed, no spaces",
            |c| c.is_ascii_graphic(),
        )?;
        Ok(Self(text.into()))
    }
}

/// A person's name, as they write it. Personal: it never enters an entry, an error or a trace.
#[derive(Clone, PartialEq, Eq)]
pub struct PersonName(Arc<str>);
serde_text!(PersonName);
personal!(PersonName);

impl FromStr for PersonName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "a person's name";
        not_empty(WHAT, text.trim())?;
        check(
            WHAT,
            text,
            200,
            "control, bidirectional and invisible characters are not allowed",
            |c| !invisible(c),
        )?;
        Ok(Self(text.into()))
    }
}

/// An e-mail address: something, `@`, something, no spaces. Personal, as [`PersonName`].
#[derive(Clone, PartialEq, Eq)]
pub struct Email(Arc<str>);
serde_text!(Email);
personal!(Email);

impl FromStr for Email {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "an e-mail address";
        not_empty(WHAT, text)?;
        check(
            WHAT,
            text,
            254,
            "spaces, control and invisible characters are not allowed",
            |c| !invisible(c) && !c.is_whitespace(),
        )?;
        match text.rsplit_once('@') {
            Some((local, domain)) if !local.is_empty() && !domain.is_empty() => {
                Ok(Self(text.into()))
            }
            _ => Err(IdError::Form {
                what: WHAT,
                form: "NAME@DOMAIN",
            }),
        }
    }
}

/// Something else that a directory says of a person or a group, such as a department. Personal, as
/// [`PersonName`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersonText(Arc<str>);
serde_text!(PersonText);
personal!(PersonText);

impl FromStr for PersonText {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "what a directory says of somebody";
        not_empty(WHAT, text)?;
        check(
            WHAT,
            text,
            512,
            "control, bidirectional and invisible characters are not allowed",
            |c| !invisible(c),
        )?;
        Ok(Self(text.into()))
    }
}

/// Why somebody did something that is not done every day, in their own words. It rides sealed beside
/// the entry and can be erased: who writes at three in the morning names people and secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Arc<str>);
serde_text!(Reason);
personal!(Reason);

impl FromStr for Reason {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const WHAT: &str = "a reason";
        not_empty(WHAT, text.trim())?;
        check(
            WHAT,
            text,
            512,
            "control, bidirectional and invisible characters are not allowed",
            |c| !invisible(c),
        )?;
        Ok(Self(text.into()))
    }
}

/// What a directory calls a group. It rides sealed beside the entry and can be erased.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupProfile {
    /// Its name, as policies say it.
    pub display_name: PersonText,
    /// What the directory itself calls it by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub external_id: Option<PersonText>,
}

impl fmt::Debug for GroupProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupProfile([personal])")
    }
}

/// Who a sponsor is. It rides sealed beside the entry and can be erased.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// What administrators and policies call them.
    pub id: SponsorId,
    /// Their name.
    pub name: PersonName,
    /// Their address. An administrator gives one; a directory may have none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub email: Option<Email>,
    /// What the directory itself calls them by: the only name that it is believed on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub external_id: Option<PersonText>,
    /// Their department.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub department: Option<PersonText>,
    /// Their role.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<PersonText>,
    /// Their manager, by the id that the directory gives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manager: Option<PersonText>,
    /// What else the directory says of them, as it wrote it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub attributes: Option<serde_json::Value>,
}

impl Person {
    /// Somebody of whom no directory said anything.
    pub const fn new(id: SponsorId, name: PersonName, email: Email) -> Self {
        Self {
            id,
            name,
            email: Some(email),
            external_id: None,
            department: None,
            title: None,
            manager: None,
            attributes: None,
        }
    }
}

impl fmt::Debug for Person {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Person([personal])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: FromStr<Err = IdError>>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert!(text.parse::<T>().is_ok(), "{text:?}");
        }
        for text in bad {
            assert!(text.parse::<T>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn texts_hold_what_they_say() {
        let long = "x".repeat(300);
        check::<KeyId>(&["k-1", "AB/c+d="], &["", "a b", "ä", &long]);
        check::<Word>(&["disk-full"], &["", "Disk", "a b", &long]);
        check::<Label>(&["", "claude-code/2.1", "sha256:ab"], &["a b", "ä", &long]);
        check::<PersonName>(&["Maya Ó Briain"], &["", " ", "a\nb", "a\u{202e}b", &long]);
        check::<Reason>(&["INC-4711: payouts stand still"], &["", " ", "a\nb"]);
        check::<Email>(
            &["maya@example.com", "\"a@b\"@example.com"],
            &[
                "",
                "maya",
                "@example.com",
                "maya@",
                "ma ya@example.com",
                &long,
            ],
        );
    }

    #[test]
    fn a_person_is_not_shown() {
        let person = Person::new(
            "maya".parse().unwrap(),
            "Maya".parse().unwrap(),
            "maya@example.com".parse().unwrap(),
        );
        assert_eq!(format!("{person:?}"), "Person([personal])");
        assert_eq!(
            format!("{:?} {:?}", person.name, person.email),
            "[personal] Some([personal])"
        );
    }
}
