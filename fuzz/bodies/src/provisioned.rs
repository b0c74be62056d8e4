//! What directories send: filters, paths and changes.

use directory::poller::read_scim;
use directory::scim::filter::{Filter, PatchPath};
use directory::scim::schema::{GROUPS, ResourceType, USERS};
use directory::scim::{patch, query::Query, resource};
use directory::ssf::set::Set;
use serde_json::{Value, json};

use crate::{text, two_parts};

/// The input: a filter, a path, or a query after `?`. A filter that was taken says of a resource
/// the contrary of its negation.
pub fn scim_filter(data: &[u8]) -> bool {
    let Some(text) = text(data) else {
        return false;
    };
    if let Some(query) = text.strip_prefix('?') {
        return Query::of_url(&USERS, Some(query)).is_ok();
    }
    let path = PatchPath::parse(text).is_ok();
    let Ok(filter) = Filter::parse(text) else {
        return path;
    };
    let maya = json!({
        "userName": "maya", "active": true, "emails": [{"value": "a@b", "type": "work"}],
    });
    let matches = filter.matches(&USERS, &maya);
    assert_eq!(
        Filter::Not(Box::new(filter)).matches(&USERS, &maya),
        !matches
    );
    true
}

/// The claims of a security event, or what a directory says of somebody. What one issuer said is
/// not taken for the word of another.
pub fn security_event(data: &[u8]) -> bool {
    let us = "https://gate.example/ssf/idp";
    let read = Set::read(data, "https://idp.example", us);
    if let Ok(set) = &read {
        assert!(!set.jti.is_empty() && !set.events.is_empty());
        assert!(Set::read(data, "https://evil.example", us).is_err());
    }
    read.is_ok() || read_scim(data, "00u1").is_ok()
}

/// The input: a resource, then a change of it. What a change leaves is read again as it is: the
/// same change does not make of it what a client could not have written.
pub fn scim_patch(data: &[u8]) -> bool {
    let (before, change) = two_parts(data);
    let users = patched(&USERS, before, change);
    patched(&GROUPS, before, change) || users
}

fn patched(of: &'static ResourceType, before: &[u8], change: &[u8]) -> bool {
    let Ok(body) = directory::json::object(before) else {
        return false;
    };
    let Ok(mut attributes) = resource::read(of, &body) else {
        return false;
    };
    let Ok(operations) = patch::read(change) else {
        return false;
    };
    if patch::apply(of, &mut attributes, &operations).is_err() {
        return false;
    }
    let mut written = attributes.to_json();
    written.insert("schemas".to_owned(), json!([of.schema.id]));
    let again = resource::read(of, &written).map(|again| again.to_json());
    assert_eq!(
        again.map(Value::Object),
        Ok(Value::Object(attributes.to_json()))
    );
    true
}
