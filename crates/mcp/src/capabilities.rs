//! What a client says it can do, in the words of the protocol and in no other.
//!
//! An upstream has to hear what its client can be asked for. But the object may hold anything, and
//! nobody decides on it: so of what it says goes on what stands in the table here.

use serde_json::{Map, Value as Tree};

use crate::json::{Kind, Value};

/// What may be said in one place.
enum Known {
    /// Members of these names.
    Object(&'static [(&'static str, Self)]),
    /// Yes or no.
    Flag,
    /// Some of these words.
    Words(&'static [&'static str]),
}

use Known::{Flag, Object, Words};

const SAID: Known = Object(&[]);
const FORM: Known = Object(&[("applyDefaults", Flag)]);

/// What the revisions and the extensions that are served name.
const CLIENT: Known = Object(&[
    ("roots", Object(&[("listChanged", Flag)])),
    ("sampling", Object(&[("context", SAID), ("tools", SAID)])),
    (
        "elicitation",
        Object(&[("form", FORM), ("url", SAID), ("applyDefaults", Flag)]),
    ),
    (
        "tasks",
        Object(&[
            ("list", SAID),
            ("cancel", SAID),
            (
                "requests",
                Object(&[
                    ("sampling", Object(&[("createMessage", SAID)])),
                    ("elicitation", Object(&[("create", SAID)])),
                ]),
            ),
        ]),
    ),
    (
        "extensions",
        Object(&[
            ("io.modelcontextprotocol/tasks", SAID),
            (
                "io.modelcontextprotocol/ui",
                Object(&[("mimeTypes", Words(&["text/html;profile=mcp-app"]))]),
            ),
        ]),
    ),
]);

/// Of what a client says it can do, what is known.
pub fn known(said: Option<Value<'_>>) -> Tree {
    let known = said.and_then(|said| CLIENT.of(said));
    known.unwrap_or_else(|| Tree::Object(Map::new()))
}

/// Whether all that a client says it can do is known.
pub fn is_known(said: Value<'_>) -> bool {
    CLIENT.is_all_of(said)
}

impl Known {
    fn of(&self, said: Value<'_>) -> Option<Tree> {
        match (self, said.kind()) {
            (Object(known), Kind::Object) => {
                let members = known.iter().filter_map(|(name, known)| {
                    Some(((*name).to_owned(), known.of(said.get(name)?)?))
                });
                Some(Tree::Object(members.collect()))
            }
            (Flag, Kind::Bool) => said.as_bool().map(Tree::Bool),
            (Words(known), Kind::Array) => {
                let says = |word: &&&str| {
                    said.elements()
                        .any(|it| it.as_str().as_deref() == Some(**word))
                };
                let words = known.iter().filter(says);
                Some(words.map(|word| Tree::from(*word)).collect())
            }
            (Object(_) | Flag | Words(_), _) => None,
        }
    }

    fn is_all_of(&self, said: Value<'_>) -> bool {
        match (self, said.kind()) {
            (Object(known), Kind::Object) => said.members().all(|member| {
                let name = member.name();
                let known = known.iter().find(|(known, _)| *known == name);
                known.is_some_and(|(_, known)| known.is_all_of(member.value))
            }),
            (Flag, Kind::Bool) => true,
            (Words(known), Kind::Array) => said
                .elements()
                .all(|it| it.as_str().is_some_and(|word| known.contains(&&*word))),
            (Object(_) | Flag | Words(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::json::Json;

    fn check(said: &str, expected: &str) {
        let json = Json::parse(Bytes::copy_from_slice(said.as_bytes())).unwrap();
        let of = known(Some(json.root()));
        let expected: Tree = serde_json::from_str(expected).unwrap();
        assert_eq!(of, expected, "{said}");
        let said: Tree = serde_json::from_str(said).unwrap();
        assert_eq!(is_known(json.root()), said == of, "{said}");
    }

    #[test]
    fn what_the_protocol_names_is_said_and_nothing_else() {
        check("{}", "{}");
        for all in [
            r#"{"roots":{"listChanged":true},"sampling":{},"elicitation":{"form":{},"url":{}}}"#,
            r#"{"tasks":{"list":{},"requests":{"elicitation":{"create":{}}}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}}}"#,
        ] {
            check(all, all);
        }
        for words in [
            r#"{"note":"words"}"#,
            r#"{"experimental":{"x":{"note":"words"}}}"#,
            r#""words""#,
            r#"["words"]"#,
            r#"{"roots":"words"}"#,
        ] {
            check(words, "{}");
        }
        check(
            r#"{"elicitation":{"form":{"note":"words"},"url":[1]},"roots":{"listChanged":"words"}}"#,
            r#"{"elicitation":{"form":{}},"roots":{}}"#,
        );
        check(
            r#"{"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":["words"]},"words":{}}}"#,
            r#"{"extensions":{"io.modelcontextprotocol/ui":{"mimeTypes":[]}}}"#,
        );
        assert_eq!(known(None), serde_json::json!({}));
    }
}
