//! Groups of sponsors, for policies to speak of.

use std::collections::BTreeSet;

use register::{Group, GroupProfile, Known, PersonText};
use serde_json::{Map, Value, json};
use vocab::Handle;

use super::error::ScimError;
use super::people::{Times, with_meta};
use super::resource::Attributes;
use super::schema::GROUP;

/// A group as the directory sees it.
#[derive(Debug, Clone)]
pub struct Team {
    /// The group.
    pub handle: Handle,
    /// What it is called.
    pub profile: GroupProfile,
    /// Who is in it.
    pub members: BTreeSet<Handle>,
    times: Times,
}

impl Team {
    /// The group, unless its name is erased.
    pub fn of(group: &Group) -> Option<Self> {
        let Known::Named(profile) = &group.profile else {
            return None;
        };
        Some(Self {
            handle: group.handle.clone(),
            profile: profile.clone(),
            members: group.members.clone(),
            times: Times {
                created: group.added_at,
                changed: group.changed_at,
            },
        })
    }

    /// What a client may write of it.
    pub fn attributes(&self) -> Attributes {
        let mut core = Map::new();
        let name = self.profile.display_name.as_str();
        core.insert("displayName".to_owned(), name.into());
        if let Some(id) = &self.profile.external_id {
            core.insert("externalId".to_owned(), id.as_str().into());
        }
        if !self.members.is_empty() {
            let members = self.members.iter().map(|handle| json!({"value": handle}));
            core.insert("members".to_owned(), members.collect());
        }
        Attributes {
            core,
            ..Attributes::default()
        }
    }

    /// The resource, under the base URL of the service, with its entity tag.
    pub fn to_json(&self, base: &str) -> (Value, String) {
        let mut all = Map::new();
        all.insert("schemas".to_owned(), json!([GROUP]));
        all.insert("id".to_owned(), self.handle.as_str().into());
        all.extend(self.attributes().core);
        if !self.members.is_empty() {
            let members = self
                .members
                .iter()
                //= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
                //# The value MUST be the absolute or relative URI of the target resource.
                //= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
                //# A reference URI MUST be to an HTTP-addressable resource.
                //= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
                //# An HTTP client performing a GET operation on a reference URI MUST receive the
                //# target resource or an appropriate HTTP response code.
                .map(|handle| json!({"value": handle, "$ref": format!("{base}/Users/{handle}")}));
            all.insert("members".to_owned(), members.collect());
        }
        with_meta(
            all,
            "Group",
            &format!("{base}/Groups/{}", self.handle),
            self.times,
        )
    }
}

/// What the attributes of a group say: what it is called, and who is to be in it.
pub fn read(attributes: &Attributes) -> Result<(GroupProfile, BTreeSet<Handle>), ScimError> {
    let text = |attribute: &str| -> Result<Option<PersonText>, ScimError> {
        let text = attributes.text(attribute).map(str::parse).transpose();
        text.map_err(|error: vocab::IdError| ScimError::Value {
            attribute: attribute.to_owned(),
            why: format!("cannot be taken: {error}"),
        })
    };
    let display_name = text("displayName")?.ok_or_else(|| ScimError::Value {
        attribute: "displayName".to_owned(),
        why: "is missing".to_owned(),
    })?;
    let profile = GroupProfile {
        display_name,
        external_id: text("externalId")?,
    };
    let members = attributes.core.get("members").and_then(Value::as_array);
    let members = members.into_iter().flatten().map(|member| {
        let id = member
            .get("value")
            .and_then(Value::as_str)
            .unwrap_or_default();
        id.parse().map_err(|_| nobody(id))
    });
    Ok((profile, members.collect::<Result<_, _>>()?))
}

/// A member whom there is not.
pub(super) fn nobody(id: &str) -> ScimError {
    let shown: String = id.chars().take(64).collect();
    ScimError::Value {
        attribute: "members".to_owned(),
        why: format!("names `{shown}`, and there is no such user"),
    }
}
