//! A resource as it is kept and patched: the attributes that a client may write, under the names
//! and in the types of the table, whatever spelling they came in.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};
use vocab::limits::{SCIM_MEMBERS_MAX, SCIM_TEXT_BYTES_MAX, SCIM_VALUES_MAX};

use super::error::ScimError;
use super::filter::{AttrPath, Target};
use super::schema::{Attribute, Kind, Mutability, ResourceType};
use crate::json::member;

/// The writable attributes of a resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes {
    /// Those of its schema.
    pub core: Map<String, Value>,
    /// Those of each extension, by its URN.
    pub extensions: BTreeMap<&'static str, Map<String, Value>>,
}

impl Attributes {
    /// An attribute that is a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.core.get(name).and_then(Value::as_str)
    }

    /// The members among which an attribute lies.
    pub(super) fn within(&mut self, extension: Option<&'static str>) -> &mut Map<String, Value> {
        match extension {
            None => &mut self.core,
            Some(urn) => self.extensions.entry(urn).or_default(),
        }
    }

    /// Takes away what says nothing: empty objects and lists.
    pub(super) fn tidy(&mut self) {
        let says = |value: &Value| match value {
            Value::Object(members) => !members.is_empty(),
            Value::Array(values) => !values.is_empty(),
            _ => true,
        };
        self.core.retain(|_, value| says(value));
        for extension in self.extensions.values_mut() {
            extension.retain(|_, value| says(value));
        }
        self.extensions.retain(|_, members| !members.is_empty());
    }

    /// As one object.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut all = self.core.clone();
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3.3
        //# Except for the base object schema, the schema extension URI SHALL be used as a JSON
        //# container to distinguish attributes belonging to the extension namespace from base
        //# schema attributes.
        for (urn, members) in &self.extensions {
            all.insert((*urn).to_owned(), Value::Object(members.clone()));
        }
        all
    }
}

/// Reads the body of a POST or PUT. What is not in the table, and what is not the client's to
/// write, is left out.
pub fn read(of: &'static ResourceType, body: &Map<String, Value>) -> Result<Attributes, ScimError> {
    let schemas = member(body, "schemas").and_then(Value::as_array);
    //= https://www.rfc-editor.org/rfc/rfc7643#section-3
    //# Value order is not specified and MUST NOT impact behavior.
    let named = schemas.into_iter().flatten().filter_map(Value::as_str);
    if !named
        .into_iter()
        .any(|urn| urn.eq_ignore_ascii_case(of.schema.id))
    {
        return Err(ScimError::Syntax(format!(
            "`schemas` does not name {}",
            of.schema.id
        )));
    }
    let mut attributes = Attributes::default();
    for (name, value) in body {
        //= https://www.rfc-editor.org/rfc/rfc7644#section-7.5.1
        //# The privacy considerations in the Security Considerations section of [RFC7643] MUST be
        //# considered.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
        //# The cleartext value or the hashed value of a password SHALL NOT be returnable by a
        //# service provider.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
        //# The mutability of the password attribute is "writeOnly", indicating that the value MUST
        //# NOT be returned by a service provider in any form (the attribute characteristic
        //# "returned" is "never").
        //= https://www.rfc-editor.org/rfc/rfc7643#section-9.2
        //# While the SCIM protocol uses cleartext passwords for value assignment and
        //# equality-testing purposes, password values MUST NOT be stored in cleartext form.
        let Some(target) = target(of, name) else {
            continue;
        };
        put(of, &mut attributes, target, value)?;
    }
    check(of, &attributes)?;
    Ok(attributes)
}

/// What the name of a member names, if we know it.
pub(super) fn target(of: &'static ResourceType, name: &str) -> Option<Target> {
    AttrPath::parse(name).ok()?.resolve(of)
}

/// Puts a whole value in its place, unless it is not the client's to write.
fn put(
    of: &'static ResourceType,
    attributes: &mut Attributes,
    target: Target,
    value: &Value,
) -> Result<(), ScimError> {
    let Some(attribute) = target.attribute else {
        let Value::Object(members) = value else {
            return Ok(());
        };
        let urn = target.extension.unwrap_or(of.schema.id);
        for (name, value) in members {
            if let Some(target) = self::target(of, &format!("{urn}:{name}")) {
                put(of, attributes, target, value)?;
            }
        }
        return Ok(());
    };
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
    //# The server SHALL process attributes according to the following mutability rules:
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
    //# In the request body, attributes whose mutability is "readOnly" (see Sections 2.2 and 7 of
    //# [RFC7643]) SHALL be ignored.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
    //# readOnly Any values provided SHALL be ignored.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-7
    //# readOnly The attribute SHALL NOT be modified.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
    //# The value of the "id" attribute is always issued by the service provider and MUST NOT be
    //# specified by the client.
    //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
    //# This attribute SHALL be ignored when provided by clients.
    if attribute.mutability == Mutability::ReadOnly {
        return Ok(());
    }
    let place = attributes.within(target.extension);
    match target.sub {
        None => {
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
            //# readWrite, writeOnly Any values provided SHALL replace the existing attribute
            //# values.
            //= https://www.rfc-editor.org/rfc/rfc7643#section-7
            //# For attributes that are case exact, the server SHALL preserve case for any value
            //# submitted.
            if let Some(value) = coerce(attribute, value)? {
                place.insert(attribute.name.to_owned(), value);
            }
        }
        Some(sub) if !attribute.multi && sub.mutability != Mutability::ReadOnly => {
            if let Some(value) = coerce_one(sub, value)? {
                let complex = place
                    .entry(attribute.name)
                    .or_insert_with(|| Map::new().into());
                if let Value::Object(parts) = complex {
                    parts.insert(sub.name.to_owned(), value);
                }
            }
        }
        Some(_) => {}
    }
    attributes.tidy();
    Ok(())
}

/// What every resource of a type must have.
pub(super) fn check(of: &'static ResourceType, attributes: &Attributes) -> Result<(), ScimError> {
    for attribute in of.schema.attributes {
        //= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
        //# Each User MUST include a non-empty userName value.
        //= https://www.rfc-editor.org/rfc/rfc7643#section-4.2
        //# displayName A human-readable name for the Group. REQUIRED.
        if attribute.required && !attributes.core.contains_key(attribute.name) {
            return Err(ScimError::Value {
                attribute: attribute.name.to_owned(),
                why: "is missing".to_owned(),
            });
        }
    }
    Ok(())
}

fn wrong(attribute: &Attribute, why: &str) -> ScimError {
    ScimError::Value {
        attribute: attribute.name.to_owned(),
        why: why.to_owned(),
    }
}

/// A value of an attribute in its own type; none if it says that there is none. One value is taken
/// for a list of one, and a list of one for its value: Entra sends both.
pub(super) fn coerce(attribute: &Attribute, value: &Value) -> Result<Option<Value>, ScimError> {
    if attribute.multi {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        let max = if attribute.name == "members" {
            SCIM_MEMBERS_MAX
        } else {
            SCIM_VALUES_MAX
        };
        if values.len() > max {
            return Err(wrong(attribute, &format!("has more than {max} values")));
        }
        let mut all = Vec::with_capacity(values.len());
        let mut seen = HashSet::new();
        for value in values {
            if let Some(value) = coerce_one(attribute, value)?
                && seen.insert(value.to_string())
            {
                all.push(value);
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
        //# The primary attribute value "true" MUST appear no more than once.
        if all.iter().filter(|value| is_primary(value)).count() > 1 {
            return Err(wrong(attribute, "has more than one value that is primary"));
        }
        //= https://www.rfc-editor.org/rfc/rfc7643#section-2.5
        //# Unassigned attributes, the null value, or an empty array (in the case
        //# of a multi-valued attribute) SHALL be considered to be equivalent in
        //# "state".
        return Ok((!all.is_empty()).then_some(Value::Array(all)));
    }
    match value {
        Value::Array(values) => match values.as_slice() {
            [] => Ok(None),
            [one] => coerce_one(attribute, one),
            _ => Err(wrong(attribute, "has one value, not a list of them")),
        },
        one => coerce_one(attribute, one),
    }
}

//= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
//# If not specified, the value of "primary" SHALL be assumed to be "false".
pub(super) fn is_primary(value: &Value) -> bool {
    value.get("primary") == Some(&Value::Bool(true))
}

/// One value in the attribute's own type.
pub(super) fn coerce_one(attribute: &Attribute, value: &Value) -> Result<Option<Value>, ScimError> {
    if value.is_null() {
        return Ok(None);
    }
    match attribute.kind {
        Kind::Boolean => match value {
            Value::Bool(_) => Ok(Some(value.clone())),
            // Entra sends "True" and "False" unless its tenant URL has a flag.
            Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true.into())),
            Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false.into())),
            _ => Err(wrong(attribute, "is neither true nor false")),
        },
        Kind::String | Kind::DateTime | Kind::Reference => match value {
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) if text.len() > SCIM_TEXT_BYTES_MAX => Err(wrong(
                attribute,
                &format!("is longer than {SCIM_TEXT_BYTES_MAX} bytes"),
            )),
            Value::String(text) if text.chars().any(char::is_control) => {
                Err(wrong(attribute, "has a control character in it"))
            }
            Value::String(_) => Ok(Some(value.clone())),
            Value::Number(number) => Ok(Some(number.to_string().into())),
            _ => Err(wrong(attribute, "is no text")),
        },
        Kind::Complex => match value {
            //= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
            //# objects with a set of sub-attributes and values, using the JSON object format
            //# defined in Section 4 of [RFC7159], in which case they SHALL be considered to be
            //# complex attributes.
            Value::Object(members) => {
                let mut parts = Map::new();
                for (name, value) in members {
                    let sub = Attribute::find(attribute.sub, name);
                    let Some(sub) = sub.filter(|sub| sub.mutability != Mutability::ReadOnly) else {
                        continue;
                    };
                    if let Some(value) = coerce_one(sub, value)? {
                        parts.insert(sub.name.to_owned(), value);
                    }
                }
                //= https://www.rfc-editor.org/rfc/rfc7643#section-2.3.7
                //# However, the base URI for relative URI resolution MUST include all URI
                //# components and path segments up to, but not including, the Endpoint URI (the
                //# SCIM service provider root endpoint)
                //= https://www.rfc-editor.org/rfc/rfc7643#section-2.4
                //# While the representation of a resource may vary in different SCIM protocol API
                //# versions (see Section 3.13 of [RFC7644]), URIs for SCIM resources with an API
                //# version SHALL be considered comparable to URIs without a version or with a
                //# different version.
                if let Some(Value::String(location)) = parts.remove("$ref")
                    && let Some(id) = location.rsplit('/').next().filter(|id| !id.is_empty())
                {
                    parts.entry("value").or_insert_with(|| id.into());
                }
                Ok((!parts.is_empty()).then_some(Value::Object(parts)))
            }
            // Entra sends a manager, and a member, by their id alone.
            Value::String(_) => {
                let Some(sub) = Attribute::find(attribute.sub, "value") else {
                    return Err(wrong(attribute, "is an object of its parts"));
                };
                let value = coerce_one(sub, value)?;
                Ok(value.map(|value| Value::Object(Map::from_iter([("value".to_owned(), value)]))))
            }
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2.1
            //# If the target location specifies a complex attribute, a set of sub-attributes SHALL
            //# be specified in the "value" parameter.
            _ => Err(wrong(attribute, "is an object of its parts")),
        },
    }
}
