//! Edits by span: what is not edited keeps every byte.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Call, Response, is_own, is_stranger, meta};
use crate::error::code;
use crate::json::{Kind, Raw, Value};
use crate::method::List;

/// A member of `params` that is the envelope's, not the call's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Param {
    /// `requestState` of a retried request.
    RequestState,
    /// `cursor` of a listing.
    Cursor,
    /// `progressToken` of a progress notification.
    ProgressToken,
    /// `requestId` of a cancellation.
    RequestId,
}

impl Param {
    const fn name(self) -> &'static str {
        match self {
            Self::RequestState => "requestState",
            Self::Cursor => "cursor",
            Self::ProgressToken => "progressToken",
            Self::RequestId => "requestId",
        }
    }
}

/// A change of a request or notification. `None` removes; a missing `params` or `_meta` is made.
#[derive(Debug, Clone)]
pub enum Edit<'a> {
    /// Replaces `id`; nothing for a notification.
    Id(Raw<'a>),
    /// Sets or removes a member of `params`.
    Param(Param, Option<Raw<'a>>),
    /// Sets or removes a member of `params._meta`, `progressToken` for example.
    Meta(&'a str, Option<Raw<'a>>),
    /// Removes every member that only we may write, wherever it stands but in a call's arguments
    /// and in what else is data, and every member of the message that JSON-RPC does not have.
    StripOwn,
    /// Removes every member of `params._meta` that says which era a request is of.
    StripModern,
    /// Removes all of `params._meta` that the other edits do not set.
    DropMeta,
}

/// A change of a response. Those about `result` do nothing to an error, and the reverse.
#[derive(Debug, Clone)]
pub enum ReplyEdit<'a> {
    /// Replaces `id`.
    Id(Raw<'a>),
    /// Sets or removes a member of `result._meta`, which is made when missing.
    Meta(&'a str, Option<Raw<'a>>),
    /// Sets or removes a member of `result`.
    Set(&'a str, Option<Raw<'a>>),
    /// Adds a member to `result` unless it is there.
    Default(&'a str, Raw<'a>),
    /// Keeps those elements of a list whose flag is true; what has no flag goes.
    Keep(List, &'a [bool]),
    /// Puts other text in place of those elements of a list that have one.
    Instead(List, &'a [Option<Arc<str>>]),
    /// Removes every member that only we may write, wherever it stands but in data, and every member
    /// of the message that JSON-RPC does not have; makes an error with our code for a denial an
    /// internal one.
    StripOwn,
    /// Replaces `error.code`.
    ErrorCode(i64),
}

/// What becomes of one object's members.
#[derive(Default)]
struct Changes<'a> {
    /// In the order given; the last about a name holds. `None` removes.
    set: Vec<(&'a str, Option<Cow<'a, str>>)>,
    /// Members that go unless they are set.
    goes: Vec<fn(&str) -> bool>,
}

impl<'a> Changes<'a> {
    fn set(&mut self, name: &'a str, value: Option<Cow<'a, str>>) {
        self.set.retain(|(other, _)| *other != name);
        self.set.push((name, value));
    }

    fn is_empty(&self) -> bool {
        self.set.is_empty() && self.goes.is_empty()
    }

    fn for_name(&self, name: &str) -> Change<'_> {
        match self.set.iter().find(|(other, _)| *other == name) {
            Some((_, Some(text))) => Change::Replace(text),
            Some((_, None)) => Change::Remove,
            None if self.goes.iter().any(|goes| goes(name)) => Change::Remove,
            None => Change::Keep,
        }
    }

    /// The object made of what is set, for where there was none.
    fn object(&self) -> Option<String> {
        let members: Vec<_> = self
            .set
            .iter()
            .filter_map(|(name, text)| Some(member_text(name, text.as_deref()?)))
            .collect();
        (!members.is_empty()).then(|| format!("{{{}}}", members.join(",")))
    }
}

enum Change<'a> {
    Keep,
    Replace(&'a str),
    Remove,
}

fn member_text(name: &str, value: &str) -> String {
    format!("{}:{value}", Raw::string(name).as_str())
}

/// Replacements: any two are apart, or one is wholly inside the other and does not count.
struct Patches<'a> {
    source: &'a Bytes,
    patches: Vec<(Range<usize>, Cow<'a, str>)>,
}

impl<'a> Patches<'a> {
    const fn new(source: &'a Bytes) -> Self {
        Self {
            source,
            patches: Vec::new(),
        }
    }

    fn replace(&mut self, span: Range<usize>, text: impl Into<Cow<'a, str>>) {
        self.patches.push((span, text.into()));
    }

    /// Makes the changes to an object's members.
    fn object(&mut self, object: Value<'_>, changes: &Changes<'_>) {
        if changes.is_empty() {
            return;
        }
        let mut items = Vec::new();
        let mut added: Vec<_> = changes
            .set
            .iter()
            .filter_map(|(name, text)| Some((*name, text.as_deref()?)))
            .collect();
        for member in object.members() {
            let name = member.name();
            let keep = match changes.for_name(&name) {
                Change::Keep => true,
                Change::Remove => false,
                Change::Replace(text) => {
                    added.retain(|(other, _)| *other != name);
                    self.replace(member.value.span(), text.to_owned());
                    true
                }
            };
            items.push((member.span(), keep));
        }
        let added: Vec<_> = added
            .into_iter()
            .map(|(name, text)| member_text(name, text))
            .collect();
        self.list(object.span().start + 1, &items, &added.join(","));
    }

    /// Removes the items that are not kept, with as many commas, and adds text behind the last.
    /// `inside` is the first byte after the opening bracket.
    fn list(&mut self, inside: usize, items: &[(Range<usize>, bool)], added: &str) {
        let mut last_kept = None;
        for (index, (span, keep)) in items.iter().enumerate() {
            if *keep {
                last_kept = Some(span.end);
                continue;
            }
            let before = index.checked_sub(1).and_then(|index| items.get(index));
            let after = items.get(index + 1);
            // With something kept before it, an item goes with the comma before it, otherwise with
            // the comma behind it.
            let cut = match (last_kept, before, after) {
                (Some(_), Some((before, _)), _) => before.end..span.end,
                (_, _, Some((after, _))) => span.start..after.start,
                _ => span.clone(),
            };
            self.replace(cut, "");
        }
        if !added.is_empty() {
            match last_kept {
                Some(end) => self.replace(end..end, format!(",{added}")),
                None => self.replace(inside..inside, added.to_owned()),
            }
        }
    }

    fn apply(mut self) -> Bytes {
        if self.patches.is_empty() {
            return self.source.clone();
        }
        // An insertion stands before a removal that begins where it is made.
        self.patches.sort_by_key(|(span, _)| (span.start, span.end));
        let growth: usize = self.patches.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(self.source.len() + growth);
        let mut at = 0;
        for (span, text) in &self.patches {
            if span.start < at {
                // Inside something that was itself replaced or removed.
                continue;
            }
            out.extend_from_slice(self.source.get(at..span.start).unwrap_or_default());
            out.extend_from_slice(text.as_bytes());
            at = span.end;
        }
        out.extend_from_slice(self.source.get(at..).unwrap_or_default());
        out.into()
    }
}

fn text<'a>(raw: &'a Raw<'_>) -> Cow<'a, str> {
    Cow::Borrowed(raw.as_str())
}

fn is_modern(name: &str) -> bool {
    [
        meta::PROTOCOL_VERSION,
        meta::CLIENT_CAPABILITIES,
        meta::CLIENT_INFO,
        meta::LOG_LEVEL,
    ]
    .contains(&name)
}

impl Call {
    pub(super) fn splice(&self, edits: &[Edit<'_>]) -> Bytes {
        let root = self.json.root();
        let params = self.place.params.map(|id| self.json.value(id));
        let meta = self.place.meta.map(|id| self.json.value(id));
        let (mut of_root, mut of_params, mut of_meta) =
            (Changes::default(), Changes::default(), Changes::default());
        for edit in edits {
            match edit {
                Edit::Id(id) if root.get("id").is_some() => of_root.set("id", Some(text(id))),
                Edit::Id(_) => {}
                Edit::Param(param, value) => {
                    of_params.set(param.name(), value.as_ref().map(text));
                }
                Edit::Meta(name, value) => of_meta.set(name, value.as_ref().map(text)),
                Edit::StripOwn => {
                    of_root.goes.push(is_stranger);
                    for object in [&mut of_params, &mut of_meta] {
                        object.goes.push(is_own);
                    }
                }
                Edit::StripModern => of_meta.goes.push(is_modern),
                Edit::DropMeta => of_meta.goes.push(|_| true),
            }
        }
        let mut patches = Patches::new(self.json.bytes());
        let drops_meta = edits.iter().any(|edit| matches!(edit, Edit::DropMeta));
        match meta {
            Some(_) if drops_meta => of_params.set("_meta", of_meta.object().map(Cow::Owned)),
            Some(meta) => patches.object(meta, &of_meta),
            None => {
                if let Some(object) = of_meta.object() {
                    of_params.set("_meta", Some(Cow::Owned(object)));
                }
            }
        }
        match params {
            Some(params) => patches.object(params, &of_params),
            None => {
                if let Some(object) = of_params.object() {
                    of_root.set("params", Some(Cow::Owned(object)));
                }
            }
        }
        patches.object(root, &of_root);
        if edits.iter().any(|edit| matches!(edit, Edit::StripOwn)) {
            if let Some(params) = params {
                strip_inside(params, &["_meta", ARGUMENTS], &mut patches);
            }
            if let Some(meta) = meta {
                strip_inside(meta, &[], &mut patches);
            }
        }
        patches.apply()
    }
}

pub(super) fn response(response: &Response, edits: &[ReplyEdit<'_>]) -> Bytes {
    let root = response.json.root();
    let mut patches = Patches::new(response.json.bytes());
    let (mut of_root, mut of_result, mut of_meta, mut of_error) = (
        Changes::default(),
        Changes::default(),
        Changes::default(),
        Changes::default(),
    );
    let mut strip = false;
    for edit in edits {
        match edit {
            ReplyEdit::Id(id) => of_root.set("id", Some(text(id))),
            ReplyEdit::Meta(name, value) => of_meta.set(name, value.as_ref().map(text)),
            ReplyEdit::Set(name, value) => of_result.set(name, value.as_ref().map(text)),
            ReplyEdit::Default(name, value) => {
                if response.member(name).is_none()
                    && !of_result.set.iter().any(|(set, _)| set == name)
                {
                    of_result.set(name, Some(text(value)));
                }
            }
            ReplyEdit::Keep(list, keep) => {
                let Some(list) = response.member(list.member()) else {
                    continue;
                };
                if list.kind() != Kind::Array {
                    // What cannot be filtered is not passed on.
                    patches.replace(list.span(), "[]");
                    continue;
                }
                let mut keep = keep.iter().copied();
                let items: Vec<_> = list
                    .elements()
                    .map(|element| (element.span(), keep.next().unwrap_or(false)))
                    .collect();
                patches.list(list.span().start + 1, &items, "");
            }
            ReplyEdit::Instead(list, texts) => {
                let elements = response.listed(*list);
                for (element, text) in elements.zip(texts.iter()) {
                    if let Some(text) = text {
                        patches.replace(element.span(), text.to_string());
                    }
                }
            }
            ReplyEdit::StripOwn => {
                strip = true;
                of_root.goes.push(is_stranger);
                for object in [&mut of_result, &mut of_error] {
                    object.goes.push(is_own);
                }
            }
            ReplyEdit::ErrorCode(code) => {
                of_error.set("code", Some(Cow::Owned(code.to_string())));
            }
        }
    }
    patches.object(root, &of_root);
    if strip && of_error.set.is_empty() && response.error_code() == Some(code::DENIED) {
        of_error.set("code", Some(Cow::Owned(code::INTERNAL.to_string())));
    }
    if let Some(error) = response.error() {
        patches.object(error, &of_error);
        if strip {
            strip_inside(error, &[], &mut patches);
        }
    }
    if let Some(result) = response.result() {
        match result.get("_meta") {
            Some(meta) => {
                if strip {
                    of_meta.goes.push(is_own);
                }
                patches.object(meta, &of_meta);
            }
            None => {
                if let Some(object) = of_meta.object() {
                    of_result.set("_meta", Some(Cow::Owned(object)));
                }
            }
        }
        patches.object(result, &of_result);
        if strip {
            strip_inside(result, &["_meta"], &mut patches);
            if let Some(meta) = result.get("_meta") {
                strip_inside(meta, &[], &mut patches);
            }
        }
    }
    patches.apply()
}

/// The member of `params` whose bytes are what was decided.
const ARGUMENTS: &str = "arguments";
/// Members that hold a tool's own data or a schema: what is in there is not the protocol's.
pub(super) const DATA: &[&str] = &[
    "input",
    "structuredContent",
    "inputSchema",
    "outputSchema",
    "requestedSchema",
];

/// Strips what an object's members hold; the object's own members are the caller's.
fn strip_inside(object: Value<'_>, but: &[&str], patches: &mut Patches<'_>) {
    for member in object.members() {
        let name = member.name();
        if !DATA.contains(&&*name) && !but.contains(&&*name) {
            strip_own(member.value, patches);
        }
    }
}

/// Costs a look at the names where there is nothing to strip, which is nearly always.
fn strip_own(value: Value<'_>, patches: &mut Patches<'_>) {
    match value.kind() {
        Kind::Object => {
            if value.members().any(|member| is_own(&member.name())) {
                let mut changes = Changes::default();
                changes.goes.push(is_own);
                patches.object(value, &changes);
            }
            strip_inside(value, &[], patches);
        }
        Kind::Array => {
            for element in value.elements() {
                strip_own(element, patches);
            }
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => {}
    }
}
