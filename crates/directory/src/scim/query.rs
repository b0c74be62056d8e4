//! What a client asks for: which resources, which page of them, which of their attributes
//! (RFC 7644 §3.4.2, §3.4.3, §3.9).

use serde_json::{Map, Value, json};
use vocab::limits::SCIM_PAGE_MAX;

use super::error::ScimError;
use super::filter::{AttrPath, Filter, Target};
use super::schema::{Attribute, COMMON, ResourceType};
use crate::json::{self, member};

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.1
//# As with a SCIM resource, a SCIM message is a JSON object [RFC7159] that contains a "schemas"
//# attribute with a URI whose namespace prefix MUST begin with "urn:ietf:params:scim:api:".
/// The URN of a list.
const LIST_RESPONSE: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
/// The URN of the body of `POST /.search`.
const SEARCH_REQUEST: &str = "urn:ietf:params:scim:api:messages:2.0:SearchRequest";
/// Parameters in one query.
const PARAMETERS_MAX: usize = 32;
/// Attributes that one query names.
const NAMES_MAX: usize = 128;

/// What was asked for.
#[derive(Debug, Default)]
pub struct Query {
    /// Which resources; none: all.
    pub filter: Option<Filter>,
    /// The first, from one.
    pub start_index: usize,
    /// How many.
    pub count: usize,
    /// Which attributes.
    pub shown: Shown,
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
//# The following attributes control which attributes SHALL be returned with a returned resource.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
//# SCIM clients MAY use one of these two OPTIONAL parameters, which MUST be supported by SCIM
//# service providers:
/// Which attributes of a resource are shown.
#[derive(Debug, Default)]
pub struct Shown {
    /// These and those that always are; none: all.
    only: Option<Vec<Target>>,
    /// All but these.
    without: Vec<Target>,
}

impl Query {
    /// Reads the query of a URL.
    pub fn of_url(of: &'static ResourceType, query: Option<&str>) -> Result<Self, ScimError> {
        let bad = || ScimError::Syntax("the query is not percent-encoded UTF-8".to_owned());
        let mut parameters = Map::new();
        let pairs = query.unwrap_or_default().split('&');
        for (count, pair) in pairs.filter(|pair| !pair.is_empty()).enumerate() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (
                decode(name).ok_or_else(bad)?,
                decode(value).ok_or_else(bad)?,
            );
            if count == PARAMETERS_MAX || member(&parameters, &name).is_some() {
                return Err(ScimError::Syntax(
                    "a parameter is repeated, or there are too many".to_owned(),
                ));
            }
            parameters.insert(name, value.into());
        }
        Self::read(of, &parameters)
    }

    /// Reads the body of `POST /.search`.
    pub fn of_search(of: &'static ResourceType, body: &[u8]) -> Result<Self, ScimError> {
        let body = json::object(body)?;
        let schemas = member(&body, "schemas").and_then(Value::as_array);
        let mut schemas = schemas.into_iter().flatten().filter_map(Value::as_str);
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
        //# Query requests MUST be identified using the following URI:
        if !schemas.any(|urn| urn.eq_ignore_ascii_case(SEARCH_REQUEST)) {
            let text = "`schemas` does not name the search message";
            return Err(ScimError::Syntax(text.to_owned()));
        }
        Self::read(of, &body)
    }

    fn read(of: &'static ResourceType, given: &Map<String, Value>) -> Result<Self, ScimError> {
        let filter = match member(given, "filter") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => {
                let filter = Filter::parse(text).and_then(|it| it.fits(of).map(|()| it));
                Some(filter.map_err(ScimError::Filter)?)
            }
            Some(_) => return Err(not("filter", "is no text")),
        };
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.4
        //# A value less than 1 SHALL be interpreted as 1.
        let start_index = number(given, "startIndex")?.map_or(1, |given| given.max(1));
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.4
        //# A negative value SHALL be interpreted as
        //# "0".  A value of "0" indicates that no resource results are to be
        //# returned except for "totalResults".
        let count = number(given, "count")?;
        let most = i64::try_from(SCIM_PAGE_MAX).unwrap_or(i64::MAX);
        let count = count.map_or(most, |given| given.clamp(0, most));
        Ok(Self {
            filter,
            start_index: usize::try_from(start_index).unwrap_or(usize::MAX),
            count: usize::try_from(count).unwrap_or_default(),
            shown: Shown {
                only: names(of, given, "attributes")?,
                without: names(of, given, "excludedAttributes")?.unwrap_or_default(),
            },
        })
    }

    /// The page of those resources that match, as a list.
    pub fn list<I: IntoIterator<Item = Value>>(&self, of: &'static ResourceType, all: I) -> Value {
        let (mut total, mut page) = (0_usize, Vec::new());
        for resource in all {
            let filter = self.filter.as_ref();
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
            //# When specified, only those resources matching the filter expression SHALL be
            //# returned.
            if !filter.is_none_or(|filter| filter.matches(of, &resource)) {
                continue;
            }
            total += 1;
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.4
            //# When specified, the service provider MUST NOT return more results than specified,
            //# although it MAY return fewer results.
            if total >= self.start_index && page.len() < self.count {
                page.push(self.shown.of(&resource));
            }
        }
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
        //# Responses MUST be identified
        //# using the following URI: "urn:ietf:params:scim:api:messages:2.0:ListResponse".
        json!({
            "schemas": [LIST_RESPONSE],
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
            //# The value may be larger than the number of resources returned, such as when
            //# returning a single page (see Section 3.4.2.4) of results where multiple pages are
            //# available. REQUIRED.
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
            //# A query that does not return any matches SHALL return success (HTTP status code 200)
            //# with "totalResults" set to a value of 0.
            "totalResults": total,
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
            //# REQUIRED when partial results are returned due to pagination.
            "startIndex": self.start_index,
            "itemsPerPage": page.len(),
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
            //# REQUIRED if "totalResults" is non-zero.
            "Resources": page,
        })
    }
}

/// A list of everything, without pages: discovery.
//= https://www.rfc-editor.org/rfc/rfc7644#section-4
//# When returning multiple ResourceTypes or Schemas, the message form described by the
//# "urn:ietf:params:scim:api:messages:2.0:ListResponse" (ListResponse) form SHALL be used as shown
//# in Figure 3 and in Figure 9 below.
//= https://www.rfc-editor.org/rfc/rfc7644#section-4
//# Query parameters described in Section 3.4.2, such as filtering, sorting, and pagination, SHALL
//# be ignored.
pub fn whole_list(all: &[Value]) -> Value {
    json!({
        "schemas": [LIST_RESPONSE],
        "totalResults": all.len(),
        "startIndex": 1,
        "itemsPerPage": all.len(),
        "Resources": all,
    })
}

fn not(name: &str, why: &str) -> ScimError {
    ScimError::Value {
        attribute: name.to_owned(),
        why: why.to_owned(),
    }
}

fn number(given: &Map<String, Value>, name: &str) -> Result<Option<i64>, ScimError> {
    let number = match member(given, name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Number(number)) => number.as_i64(),
        Some(Value::String(text)) => text.parse().ok(),
        Some(_) => None,
    };
    number
        .map(Some)
        .ok_or_else(|| not(name, "is not a whole number"))
}

/// The attributes that a parameter names. What is not in the table names nothing.
fn names(
    of: &'static ResourceType,
    given: &Map<String, Value>,
    name: &str,
) -> Result<Option<Vec<Target>>, ScimError> {
    let texts: Vec<&str> = match member(given, name) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => text.split(',').map(str::trim).collect(),
        Some(Value::Array(texts)) => texts.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err(not(name, "is not a list of names")),
    };
    if texts.len() > NAMES_MAX {
        return Err(not(name, "names too many attributes"));
    }
    let mut targets = Vec::new();
    for text in texts {
        let path = AttrPath::parse(text).map_err(|_| not(name, "is not a list of names"))?;
        targets.extend(path.resolve(of));
    }
    Ok(Some(targets))
}

impl Shown {
    /// What is shown of a resource.
    pub fn of(&self, resource: &Value) -> Value {
        let Value::Object(members) = resource else {
            return resource.clone();
        };
        let mut shown = match &self.only {
            None => members.clone(),
            Some(only) => {
                let mut shown = Map::new();
                for (name, value) in members {
                    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.9
                    //# attributes When specified, the default list of attributes SHALL be
                    //# overridden, and each resource returned MUST contain the minimum set of
                    //# resource attributes and any attributes or sub-attributes explicitly
                    //# requested by the "attributes" parameter.
                    if is_always(name) {
                        shown.insert(name.clone(), value.clone());
                    }
                }
                for target in only {
                    keep(members, target, &mut shown);
                }
                shown
            }
        };
        for target in &self.without {
            leave_out(&mut shown, target);
        }
        Value::Object(shown)
    }
}

fn is_always(name: &str) -> bool {
    Attribute::find(COMMON, name).is_some_and(|attribute| attribute.always)
}

/// Copies what a target names from a whole resource.
fn keep(from: &Map<String, Value>, target: &Target, to: &mut Map<String, Value>) {
    if let Some(urn) = target.extension {
        let Some(Value::Object(from)) = from.get(urn) else {
            return;
        };
        let inner = Target {
            extension: None,
            ..*target
        };
        let mut kept = match to.remove(urn) {
            Some(Value::Object(kept)) => kept,
            _ => Map::new(),
        };
        if target.attribute.is_none() {
            kept.clone_from(from);
        } else {
            keep(from, &inner, &mut kept);
        }
        if !kept.is_empty() {
            to.insert(urn.to_owned(), Value::Object(kept));
        }
        return;
    }
    let Some(attribute) = target.attribute else {
        return;
    };
    let Some(value) = from.get(attribute.name) else {
        return;
    };
    let value = match target.sub {
        None => value.clone(),
        Some(sub) => only_part(value, sub.name, to.get(attribute.name)),
    };
    to.insert(attribute.name.to_owned(), value);
}

/// A value with one part of it, beside those that were kept of it already.
fn only_part(value: &Value, sub: &str, kept: Option<&Value>) -> Value {
    match value {
        Value::Array(values) => values
            .iter()
            .enumerate()
            .map(|(at, value)| only_part(value, sub, kept.and_then(|kept| kept.get(at))))
            .collect(),
        Value::Object(parts) => {
            let mut some = kept.and_then(Value::as_object).cloned().unwrap_or_default();
            if let Some(part) = parts.get(sub) {
                some.insert(sub.to_owned(), part.clone());
            }
            Value::Object(some)
        }
        simple => simple.clone(),
    }
}

fn leave_out(from: &mut Map<String, Value>, target: &Target) {
    let from = match target.extension {
        None => from,
        Some(urn) if target.attribute.is_none() => {
            from.remove(urn);
            return;
        }
        Some(urn) => match from.get_mut(urn) {
            Some(Value::Object(members)) => members,
            _ => return,
        },
    };
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
    //# This parameter SHALL have no effect on attributes whose schema "returned" setting is
    //# "always" (see Sections 2.2 and 7 of [RFC7643]).
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
    //# This parameter SHALL have no effect on attributes whose schema "returned" setting is
    //# "always" (see Sections 2.2 and 7 of [RFC7643]).
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.9
    //# excludedAttributes When specified, each resource returned MUST contain the minimum set of
    //# resource attributes.
    let Some(attribute) = target.attribute.filter(|attribute| !attribute.always) else {
        return;
    };
    match (target.sub, from.get_mut(attribute.name)) {
        (None, _) => drop(from.remove(attribute.name)),
        (Some(sub), Some(Value::Object(parts))) => drop(parts.remove(sub.name)),
        (Some(sub), Some(Value::Array(values))) => {
            for parts in values.iter_mut().filter_map(Value::as_object_mut) {
                parts.remove(sub.name);
            }
        }
        (Some(_), _) => {}
    }
}

/// A part of a URL's query; a plus is a space there, as forms have it.
fn decode(text: &str) -> Option<String> {
    percent(text, true)
}

/// A part of a URL's path.
pub(super) fn decode_path(text: &str) -> Option<String> {
    percent(text, false)
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-1.2
//# Implementers MUST percent-encode URLs as described in Section 2.1 of [RFC3986].
fn percent(text: &str, form: bool) -> Option<String> {
    let digit = |byte: Option<u8>| {
        let digit = char::from(byte?).to_digit(16)?;
        u8::try_from(digit).ok()
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' if form => b' ',
            b'%' => digit(bytes.next())? << 4 | digit(bytes.next())?,
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scim::schema::{ENTERPRISE, USERS};

    fn people() -> Vec<Value> {
        let person = |i: usize| {
            json!({
                "schemas": ["urn:x"], "id": format!("s-{i}"), "userName": format!("u{i}"),
                "active": i.is_multiple_of(2),
                "name": {"givenName": "G", "familyName": "F"},
                "emails": [{"value": "a@b", "type": "work"}, {"value": "c@d", "type": "home"}],
                "meta": {"resourceType": "User", "version": "W/\"1\""},
                (ENTERPRISE): {"department": "D", "manager": {"value": "s-0"}},
            })
        };
        (0..450).map(person).collect()
    }

    /// The query; the total, the first and the number on the page.
    fn check(query: &str, total: u64, first: Option<&str>, number: u64) {
        let read = Query::of_url(&USERS, Some(query)).unwrap();
        let list = read.list(&USERS, people());
        assert_eq!(list["totalResults"], total, "{query}");
        assert_eq!(list["itemsPerPage"], number, "{query}");
        assert_eq!(list["startIndex"], read.start_index, "{query}");
        assert_eq!(
            list["schemas"],
            json!(["urn:ietf:params:scim:api:messages:2.0:ListResponse"])
        );
        let page = list["Resources"].as_array().unwrap();
        assert_eq!(u64::try_from(page.len()).unwrap(), number, "{query}");
        assert_eq!(list["Resources"][0]["id"].as_str(), first, "{query}");
    }

    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
    //= type=test
    //# Responses MUST be identified using the following URI:
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
    //= type=test
    //# The value may be larger than the number of resources returned, such as when returning a
    //# single page (see Section 3.4.2.4) of results where multiple pages are available. REQUIRED.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2
    //= type=test
    //# REQUIRED when partial results are returned due to pagination.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //= type=test
    //# When specified, only those resources matching the filter expression SHALL be returned.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.4
    //= type=test
    //# A value less than 1 SHALL be interpreted as 1.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.4
    //= type=test
    //# A negative value SHALL be interpreted as "0". A value of "0" indicates that no resource
    //# results are to be returned except for "totalResults".
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.4
    //= type=test
    //# When specified, the service provider MUST NOT return more results than specified, although
    //# it MAY return fewer results.
    #[test]
    fn pages_begin_at_one_and_are_bounded() {
        check("", 450, Some("s-0"), 200);
        check("startIndex=1&count=2", 450, Some("s-0"), 2);
        check("startIndex=0&count=2", 450, Some("s-0"), 2);
        check("startIndex=-5&count=2", 450, Some("s-0"), 2);
        check("startIndex=449&count=10", 450, Some("s-448"), 2);
        check("startIndex=451", 450, None, 0);
        check("startIndex=9223372036854775807", 450, None, 0);
        check("count=0", 450, None, 0);
        check("count=-1", 450, None, 0);
        check("count=100000", 450, Some("s-0"), 200);
        check("filter=active+eq+true&count=1", 225, Some("s-0"), 1);
        check("filter=userName%20eq%20%22u7%22", 1, Some("s-7"), 1);
        check("filter=userName+eq+%22nobody%22", 0, None, 0);
        check("FILTER=userName+eq+%22u7%22&unknown=1", 1, Some("s-7"), 1);
    }

    //= https://www.rfc-editor.org/rfc/rfc7644#section-1.2
    //= type=test
    //# Implementers MUST percent-encode URLs as described in Section 2.1 of [RFC3986].
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //= type=test
    //# Boolean and Binary attributes SHALL cause a failed response (HTTP status code 400) with
    //# "scimType" of "invalidFilter".
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
    //= type=test
    //# The filter parameter MUST contain at least one valid expression (see Table 3).
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
    //= type=test
    //# Attribute names MUST be in standard attribute notation (Section 3.10) form.
    #[test]
    fn queries_that_cannot_be_read_are_refused() {
        let refused = |query: &str, scim_type: &str| {
            let error = Query::of_url(&USERS, Some(query)).unwrap_err();
            assert_eq!(error.scim_type(), Some(scim_type), "{query}");
        };
        refused("count=ten", "invalidValue");
        refused("startIndex=1.5", "invalidValue");
        refused("filter=userName", "invalidFilter");
        refused("filter=", "invalidFilter");
        refused("filter=%zz", "invalidSyntax");
        refused("filter=active+gt+%22true%22", "invalidFilter");
        refused(
            "filter=not+(active+co+%22t%22)+or+title+pr",
            "invalidFilter",
        );
        refused("filter=emails[primary+le+%22x%22]", "invalidFilter");
        refused("filter=%ff", "invalidSyntax");
        refused("count=1&count=2", "invalidSyntax");
        refused("attributes=a b", "invalidValue");
        refused(&vec!["x=1"; 33].join("&"), "invalidSyntax");
        let names = vec!["userName"; NAMES_MAX + 1].join(",");
        refused(&format!("attributes={names}"), "invalidValue");
        let many: Vec<String> = (0..=PARAMETERS_MAX).map(|i| format!("p{i}=1")).collect();
        refused(&many.join("&"), "invalidSyntax");
    }

    fn shown(query: &str) -> Value {
        let read = Query::of_url(&USERS, Some(query)).unwrap();
        read.shown.of(&people()[0])
    }

    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
    //= type=test
    //# The following attributes control which attributes SHALL be returned with a returned
    //# resource.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
    //= type=test
    //# SCIM clients MAY use one of these two OPTIONAL parameters, which MUST be supported by SCIM
    //# service providers:
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.5
    //= type=test
    //# This parameter SHALL have no effect on attributes whose schema "returned" setting is
    //# "always" (see Sections 2.2 and 7 of [RFC7643]).
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.9
    //= type=test
    //# excludedAttributes When specified, each resource returned MUST contain the minimum set of
    //# resource attributes.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.9
    //= type=test
    //# attributes When specified, the default list of attributes SHALL be overridden
    #[test]
    fn attributes_are_chosen() {
        assert_eq!(
            shown("attributes=userName,name.givenName,emails.type"),
            json!({
                "schemas": ["urn:x"], "id": "s-0", "userName": "u0", "name": {"givenName": "G"},
                "emails": [{"type": "work"}, {"type": "home"}],
            })
        );
        assert_eq!(
            shown("attributes=emails.type,emails.value,nothing")["emails"],
            people()[0]["emails"]
        );
        assert_eq!(
            shown(&format!("attributes={ENTERPRISE}:department")),
            json!({"schemas": ["urn:x"], "id": "s-0", ENTERPRISE: {"department": "D"}})
        );
        assert_eq!(
            shown(&format!("attributes={ENTERPRISE}"))[ENTERPRISE],
            people()[0][ENTERPRISE]
        );
        assert_eq!(
            shown("attributes=META.version")["meta"],
            json!({"version": "W/\"1\""})
        );
        let without = shown(&format!(
            "excludedAttributes=id,schemas,emails.value,name,{ENTERPRISE}:manager,meta"
        ));
        assert_eq!(
            without,
            json!({
                "schemas": ["urn:x"], "id": "s-0", "userName": "u0", "active": true,
                "emails": [{"type": "work"}, {"type": "home"}], ENTERPRISE: {"department": "D"},
            })
        );
    }

    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
    //= type=test
    //# Query requests MUST be identified using the following URI:
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
    //= type=test
    //# Attribute names MUST be in standard attribute notation (Section 3.10) form.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
    //= type=test
    //# This parameter SHALL have no effect on attributes whose schema "returned" setting is
    //# "always" (see Sections 2.2 and 7 of [RFC7643]).
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
    //= type=test
    //# The filter string MUST be a valid filter (Section 3.4.2.2) expression.
    #[test]
    fn a_search_is_a_query_in_a_body() {
        let body = json!({
            "schemas": [SEARCH_REQUEST], "filter": "userName eq \"u7\"", "attributes": ["userName"],
            "startIndex": 1, "count": 10,
        });
        let query = Query::of_search(&USERS, body.to_string().as_bytes()).unwrap();
        let list = query.list(&USERS, people());
        assert_eq!(
            list["Resources"],
            json!([{"schemas": ["urn:x"], "id": "s-7", "userName": "u7"}])
        );
        assert!(Query::of_search(&USERS, b"{\"filter\":\"title pr\"}").is_err());
        let with = |name: &str, value: Value| {
            let mut body = json!({"schemas": [SEARCH_REQUEST], "filter": "userName eq \"u7\""});
            body[name] = value;
            Query::of_search(&USERS, body.to_string().as_bytes())
        };
        assert_eq!(
            with("filter", "title".into()).unwrap_err().scim_type(),
            Some("invalidFilter")
        );
        assert!(with("attributes", json!(["user name"])).is_err());
        let without = with("excludedAttributes", json!(["id", "schemas", "userName"]));
        let list = without.unwrap().list(&USERS, people());
        assert_eq!(list["Resources"][0]["id"], "s-7");
        assert_eq!(list["Resources"][0]["schemas"], json!(["urn:x"]));
        assert!(list["Resources"][0].get("userName").is_none());
    }
}
