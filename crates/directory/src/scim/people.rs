//! Users are sponsors: what a directory says of a person, and what the register keeps of it.

use register::lifecycle::SponsorLife;
use register::{Email, Person, PersonName, PersonText, Sponsor, State, Word};
use serde_json::{Map, Value, json};
use vocab::{Digest, Handle, Time};

use super::error::ScimError;
use super::resource::{self, Attributes, is_primary};
use super::schema::{ENTERPRISE, USER, USERS};

/// A sponsor whom the directory deleted: kept, suspended, and no resource any more.
const DELETED: &str = "deleted";

/// A sponsor as the directory sees them.
#[derive(Debug, Clone)]
pub struct User {
    /// The sponsor.
    pub handle: Handle,
    /// What is known of them; `active` is what the directory said last.
    pub attributes: Attributes,
    /// Whether they may act: nothing suspends them.
    pub is_active: bool,
    /// Whether the directory speaks for them. Of those whom an administrator added it is told, and
    /// may say that they left.
    pub is_linked: bool,
    /// Whether the directory said anything of them yet.
    pub is_told: bool,
    times: Times,
    groups: Vec<(Handle, String)>,
    /// Whether their manager is a sponsor.
    has_manager: bool,
}

impl User {
    /// The sponsor as a User, unless who they were is erased, or the directory deleted them.
    pub fn of(state: &State, sponsor: &Sponsor) -> Option<Self> {
        let person = sponsor.person()?;
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.6
        //# Service providers MUST omit the resource from future query results.
        if is_deleted(person) {
            return None;
        }
        let groups = state.groups_of(&sponsor.handle);
        let groups = groups.map(|group| {
            let name = group.name().unwrap_or_default();
            (group.handle.clone(), name.to_owned())
        });
        let manager = person.manager.as_ref();
        let manager = manager.and_then(|id| id.as_str().parse::<Handle>().ok());
        let manager = manager.and_then(|handle| state.sponsor(&handle));
        Some(Self {
            handle: sponsor.handle.clone(),
            attributes: attributes(person),
            is_active: matches!(sponsor.life, SponsorLife::Active { .. }),
            is_linked: sponsor.provisioned,
            is_told: person.attributes.is_some(),
            times: Times {
                created: sponsor.added_at,
                changed: sponsor.changed_at,
            },
            groups: groups.collect(),
            has_manager: manager.is_some(),
        })
    }

    /// What the directory said last: whether they are with the company.
    pub fn is_said_active(&self) -> bool {
        said_active(&self.attributes)
    }

    /// The resource, under the base URL of the service, with its entity tag.
    pub fn to_json(&self, base: &str) -> (Value, String) {
        let mut all = Map::new();
        //= https://www.rfc-editor.org/rfc/rfc7643#section-2.1
        //# SCIM resources are represented in JSON [RFC7159] format and MUST specify schema via the
        //# "schemas" attribute per Section 3.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3
        //# "Schemas" Attribute The "schemas" attribute is a REQUIRED attribute and is an array of
        //# Strings containing URIs that are used to indicate the namespaces of the SCIM schemas
        //# that define the attributes present in the current JSON structure.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3
        //# All representations of SCIM schemas MUST include a non-empty array with value(s) of the
        //# URIs supported by that representation.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3
        //# The "schemas" attribute for a resource MUST only contain values defined as "schema" and
        //# "schemaExtensions" for the resource's defined "resourceType".
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3
        //# Duplicate values MUST NOT be included.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3.3
        //# The "schemas" attribute MUST contain at least one value, which SHALL be the base schema
        //# for the resource.
        let extensions = self.attributes.extensions.keys();
        let schemas: Vec<&str> = std::iter::once(USER).chain(extensions.copied()).collect();
        all.insert("schemas".to_owned(), json!(schemas));
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
        //# Each representation of the resource MUST include a non-empty "id" value.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
        //# This identifier MUST be unique across the SCIM service provider's entire set of
        //# resources.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
        //# It MUST be a stable, non-reassignable identifier that does not change when the same
        //# resource is returned in subsequent requests.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
        //# The string "bulkId" is a reserved keyword and MUST NOT be used within any unique
        //# identifier value.
        // A handle is random, in lower case, and never given again.
        all.insert("id".to_owned(), self.handle.as_str().into());
        all.extend(self.attributes.to_json());
        let active = self.is_active && self.is_said_active();
        all.insert("active".to_owned(), active.into());
        let enterprise = all.get_mut(ENTERPRISE);
        let manager = enterprise.and_then(|enterprise| enterprise.get_mut("manager"));
        if let Some(Value::Object(manager)) = manager.filter(|_| self.has_manager)
            && let Some(Value::String(id)) = manager.get("value").cloned()
        {
            manager.insert("$ref".to_owned(), format!("{base}/Users/{id}").into());
        }
        if !self.groups.is_empty() {
            //= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.2
            //# If the SCIM service provider exposes a "Group" resource, the "value" sub-attribute
            //# MUST be the "id", and the "$ref" sub-attribute must be the URI of the corresponding
            //# "Group" resources to which the user belongs.
            let groups = self.groups.iter().map(|(handle, name)| {
                json!({
                    "value": handle,
                    "$ref": format!("{base}/Groups/{handle}"),
                    "display": name,
                })
            });
            all.insert("groups".to_owned(), groups.collect());
        }
        with_meta(
            all,
            "User",
            &format!("{base}/Users/{}", self.handle),
            self.times,
        )
    }
}

/// When a resource was added, and when it was changed last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) created: Time,
    pub(super) changed: Time,
}

/// Adds what is said of the resource itself. Its entity tag is a digest of all else.
pub(super) fn with_meta(
    mut all: Map<String, Value>,
    kind: &str,
    location: &str,
    times: Times,
) -> (Value, String) {
    let digest = Digest::of(Value::Object(all.clone()).to_string().as_bytes());
    let version: String = digest.to_string().chars().take(20).collect();
    //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
    //# If a service provider provides "version" (entity-tag) for a representation and the
    //# generation of that entity-tag does not satisfy all of the characteristics of a strong
    //# validator (see Section 2.1 of [RFC7232]), then the origin server MUST mark the "version"
    //# (entity-tag) as weak by prefixing its opaque value with "W/" (case sensitive).
    let version = format!("W/\"{version}\"");
    //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
    //# When accepted by a service provider (e.g., after a SCIM create), the attributes "id" and
    //# "meta" (and its associated sub-attributes) MUST be assigned values by the service provider.
    all.insert(
        "meta".to_owned(),
        json!({
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.3.1
            //# When adding a resource to a specific endpoint, the meta attribute "resourceType"
            //# SHALL be set by the HTTP service provider to the corresponding resource type for the
            //# endpoint.
            "resourceType": kind,
            //= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.5
            //# The attribute value MUST be encoded as a valid xsd:dateTime as specified in Section
            //# 3.3.7 of [XML-Schema] and MUST include both a date and a time.
            //= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.5
            //# Values represented in JSON format MUST conform to the XML constraints above and are
            //# represented as a JSON string per Section 7 of [RFC7159].
            //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
            //# This attribute MUST be a DateTime.
            "created": times.created.to_string(),
            //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
            //# If this resource has never been modified since its initial creation, the value MUST
            //# be the same as the value of "created".
            "lastModified": times.changed.to_string(),
            "location": location,
            "version": version,
        }),
    );
    (Value::Object(all), version)
}

/// Whether the directory deleted them.
pub fn is_deleted(person: &Person) -> bool {
    let attributes = person.attributes.as_ref();
    attributes.is_some_and(|all| all.get(DELETED) == Some(&Value::Bool(true)))
}

/// A person without what only the directory said, marked as deleted by it.
pub fn deleted(person: &Person) -> Person {
    Person {
        external_id: None,
        attributes: Some(json!({ (DELETED): true })),
        ..person.clone()
    }
}

pub(super) fn said_active(attributes: &Attributes) -> bool {
    attributes.core.get("active") != Some(&Value::Bool(false))
}

/// What is kept of a person, as attributes.
fn attributes(person: &Person) -> Attributes {
    let mut all = Attributes::default();
    if let Some(said) = person.attributes.as_ref().and_then(Value::as_object) {
        for (name, value) in said {
            match (USERS.extension(name), value) {
                (Some(extension), Value::Object(members)) => {
                    all.extensions.insert(extension.id, members.clone());
                }
                _ => drop(all.core.insert(name.clone(), value.clone())),
            }
        }
    } else {
        let name = person.name.as_str();
        all.core.insert("displayName".to_owned(), name.into());
        if let Some(email) = &person.email {
            let email = json!([{"value": email.as_str(), "type": "work", "primary": true}]);
            all.core.insert("emails".to_owned(), email);
        }
    }
    all.core
        .insert("userName".to_owned(), person.id.as_str().into());
    all.core.entry("active").or_insert(Value::Bool(true));
    //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
    //# The value of the "externalId" attribute is always issued by the provisioning client and MUST
    //# NOT be specified by the service provider.
    if let Some(id) = &person.external_id {
        all.core.insert("externalId".to_owned(), id.as_str().into());
    }
    all
}

/// What the register keeps of a person.
pub fn person(attributes: &Attributes) -> Result<Person, ScimError> {
    let wrong = |attribute: &str, why: &dyn std::fmt::Display| ScimError::Value {
        attribute: attribute.to_owned(),
        why: format!("cannot be taken: {why}"),
    };
    let user_name = attributes.text("userName").unwrap_or_default();
    let name = name(attributes).unwrap_or_else(|| user_name.to_owned());
    let own = |value: Option<&str>, attribute: &str| -> Result<Option<PersonText>, ScimError> {
        let text = value.map(str::parse).transpose();
        text.map_err(|error| wrong(attribute, &error))
    };
    let enterprise = attributes.extensions.get(ENTERPRISE);
    let enterprise = |name: &str| enterprise.and_then(|members| members.get(name));
    let manager = enterprise("manager").and_then(|manager| manager.get("value"));
    Ok(Person {
        //= https://www.rfc-editor.org/rfc/rfc7644#section-5
        //# Before comparing or evaluating the uniqueness of a "userName" or "password" attribute,
        //# service providers MUST use the preparation, enforcement, and comparison of
        //# internationalized strings (PRECIS) preparation and comparison rules described in
        //# Sections 3 and 4, respectively, of [RFC7613], which is based on the PRECIS framework
        //# specification [RFC7564].
        // Of an id's alphabet, which is ASCII, what those rules leave to do is the case.
        id: user_name
            .parse()
            .map_err(|error| wrong("userName", &error))?,
        name: name
            .parse::<PersonName>()
            .map_err(|error| wrong("displayName", &error))?,
        email: email(attributes)
            .map(str::parse::<Email>)
            .transpose()
            .map_err(|error| wrong("emails", &error))?,
        external_id: own(attributes.text("externalId"), "externalId")?,
        department: own(
            enterprise("department").and_then(Value::as_str),
            "department",
        )?,
        title: own(attributes.text("title"), "title")?,
        manager: own(manager.and_then(Value::as_str), "manager")?,
        attributes: Some(Value::Object(attributes.to_json())),
    })
}

/// The name that is shown, or the whole one, or its parts.
fn name(attributes: &Attributes) -> Option<String> {
    let shown = attributes.text("displayName");
    let name = attributes.core.get("name");
    let part = |part: &str| name.and_then(|name| name.get(part)).and_then(Value::as_str);
    if let Some(name) = shown.or_else(|| part("formatted")) {
        return Some(name.to_owned());
    }
    let parts: Vec<&str> = [part("givenName"), part("familyName")]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// The address to use: the primary one, or that for work, or the first.
fn email(attributes: &Attributes) -> Option<&str> {
    let all = attributes.core.get("emails").and_then(Value::as_array);
    let all = all.map(Vec::as_slice).unwrap_or_default();
    let work = |it: &&Value| it.get("type").and_then(Value::as_str) == Some("work");
    let chosen = all
        .iter()
        .find(|it| is_primary(it))
        .or_else(|| all.iter().find(work))
        .or_else(|| all.first());
    chosen
        .and_then(|it| it.get("value"))
        .and_then(Value::as_str)
}

/// What is said otherwise than before, in words that name no value.
pub fn changes(before: &Attributes, after: &Attributes) -> Vec<Word> {
    let mut words = Vec::new();
    let mut compare = |before: &Map<String, Value>, after: &Map<String, Value>| {
        let names = before
            .keys()
            .chain(after.keys().filter(|name| !before.contains_key(*name)));
        for name in names.filter(|name| before.get(*name) != after.get(*name)) {
            words.extend(word(name));
        }
    };
    compare(&before.core, &after.core);
    let none = Map::new();
    for extension in USERS.extensions {
        let of = |all: &'_ Attributes| all.extensions.get(extension.id).cloned();
        compare(
            &of(before).unwrap_or_else(|| none.clone()),
            &of(after).unwrap_or_else(|| none.clone()),
        );
    }
    words
}

/// An attribute's name as a word: `userName` is `user-name`.
fn word(name: &str) -> Option<Word> {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            text.push('-');
        }
        text.push(c.to_ascii_lowercase());
    }
    text.parse().ok()
}

/// Whether a resource says that somebody is active, wherever in it, and whatever else it says.
pub(super) fn said_active_of(body: &Map<String, Value>) -> Option<bool> {
    let mut said = body
        .iter()
        .filter_map(|(name, value)| active_in(name, value));
    said.next_back()
}

/// The same, of one member.
pub(super) fn active_in(name: &str, value: &Value) -> Option<bool> {
    let target = resource::target(&USERS, name)?;
    match (target.extension, target.attribute) {
        (None, Some(attribute)) if attribute.name == "active" => {
            resource::coerce(attribute, value).ok()??.as_bool()
        }
        // All of the schema's, under its URN.
        (None, None) => said_active_of(value.as_object()?),
        _ => None,
    }
}

/// Reads a body into attributes. One that does not say whether somebody is active leaves that as
/// it is: nobody comes back because a field was left out.
pub fn read(body: &Map<String, Value>, is_active: bool) -> Result<Attributes, ScimError> {
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
    //# Service providers MAY take into account whether or not a client has access to, or
    //# understands, all of the resource's attributes when deciding whether non-asserted attributes
    //# SHALL be removed or defaulted.
    let mut all = Map::from_iter([("active".to_owned(), Value::Bool(is_active))]);
    let says = |(name, value): &(&String, &Value)| {
        !(name.eq_ignore_ascii_case("active") && value.is_null())
    };
    for (name, value) in body.iter().filter(says) {
        all.insert(name.clone(), value.clone());
    }
    resource::read(&USERS, &all)
}
