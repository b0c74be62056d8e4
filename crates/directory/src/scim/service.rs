//! The service: requests of the directory in, commands of the register, answers.
//!
//! What stops somebody is done first and is proven before the answer is sent; what a request
//! changes beside that comes after. A request that was answered with an error can be sent again:
//! what of it holds already is not done twice.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use ledger::{Actor, ActorKind};
use register::entry::Signal;
use register::{Command, CommandError, Control, Done, Refusal, Sponsor, State, Subject, Word};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};
use vocab::limits::{GROUP_CHANGES_MAX, SCIM_BODY_BYTES_MAX, SCIM_PAGE_MAX};
use vocab::secret::same_bytes;
use vocab::{Clock, Digest, Handle, Time};

use super::error::{self, ScimError};
use super::filter::{Filter, Op};
use super::groups::{self, Team, nobody};
use super::patch;
use super::people::{self, User};
use super::query::{self, Query, whole_list};
use super::resource::{self, Attributes};
use super::schema::{ENTERPRISE, GROUPS, RESOURCE_TYPES, Schema, USERS, service_provider_config};
use crate::json;
use crate::rate::Rate;
use crate::reactions::{self, Cause, Reactions};

/// The media type of SCIM.
pub const SCIM_JSON: &str = "application/scim+json";
/// Where the service is, under the node's URL.
//= https://www.rfc-editor.org/rfc/rfc7644#section-3.13
//# If specified, the version identifier MUST appear in the URL path immediately preceding the
//# resource endpoint and conform to the following scheme: the character 'v' followed by the desired
//# SCIM version number, e.g., a version 'v2' User request is specified as /v2/Users.
pub const PATH: &str = "/scim/v2";
/// Requests that are worked on at once.
const AT_ONCE_MAX: usize = 32;
/// Requests in a minute. Entra may send 25 in a second, which are 1500.
const PER_MINUTE_MAX: u32 = 6_000;

/// The SCIM service of a node.
pub struct Scim {
    control: Arc<Control>,
    clock: Arc<dyn Clock>,
    /// The URL of the service, without a slash at its end.
    base: String,
    reactions: Reactions,
    /// One change of a user at a time, and one of a group: each begins with what is there.
    users: Mutex<()>,
    groups: Mutex<()>,
    places: Semaphore,
    rate: Rate,
}

impl fmt::Debug for Scim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scim")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

/// Who asks, and what they said.
struct Said {
    actor: Actor,
    received_at: Time,
    id: Digest,
}

impl Said {
    fn signal(&self, event: &'static str) -> Result<Signal, ScimError> {
        Ok(Signal {
            source: word("scim")?,
            event: word(event)?,
            received_at: self.received_at,
            happened_at: None,
            id: Some(self.id),
        })
    }
}

fn word(text: &'static str) -> Result<Word, ScimError> {
    text.parse()
        .map_err(|_| ScimError::Unavailable("it could not be put in words"))
}

/// An answer before it is sent.
struct Answer {
    status: StatusCode,
    body: Option<Value>,
    headers: Vec<(HeaderName, String)>,
}

impl Answer {
    const fn of(status: StatusCode, body: Value) -> Self {
        Self {
            status,
            body: Some(body),
            headers: Vec::new(),
        }
    }

    fn with(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    fn send(self) -> Response<Bytes> {
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.8
        //# Servers MUST accept requests and be able to return JSON-structured responses using UTF-8
        //# encoding [RFC3629].
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.8
        //# UTF-8 SHALL be the default encoding format.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.8
        //# Service providers MUST support the "Accept" header "Accept: application/scim+json" and
        //# SHOULD support the header "Accept: application/json", both of which specify JSON
        //# documents conforming to [RFC7159].
        let body = self.body.map(|body| body.to_string()).unwrap_or_default();
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(SCIM_JSON));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

/// What a request was refused for before it was a request of the directory's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turned {
    /// No credential of the directory's.
    Unknown,
    /// Too many requests.
    TooMany,
}

type Answered = Result<Answer, ScimError>;

impl Scim {
    /// The service under the node's `url`.
    pub fn new(
        control: Arc<Control>,
        clock: Arc<dyn Clock>,
        url: &str,
        reactions: Reactions,
    ) -> Self {
        Self {
            control,
            rate: Rate::new(Arc::clone(&clock), PER_MINUTE_MAX),
            clock,
            //= https://www.rfc-editor.org/rfc/rfc7644#section-1.3
            //# The Base URI MUST NOT contain a query string, as clients MAY append additional path
            //# information and query parameters as part of forming the request.
            base: format!("{}{PATH}", url.trim_end_matches('/')),
            reactions,
            users: Mutex::default(),
            groups: Mutex::default(),
            places: Semaphore::new(AT_ONCE_MAX),
        }
    }

    /// Whether a request may be looked at, by its headers alone.
    pub fn admit(&self, headers: &HeaderMap) -> Result<Admitted, (Turned, Box<Response<Bytes>>)> {
        let Some(token) = self.token(headers) else {
            let text = "the directory's own token is needed; `tipstaff scim token` makes one";
            let status = StatusCode::UNAUTHORIZED;
            let answer = Answer::of(status, error::body(status, None, text));
            //= https://www.rfc-editor.org/rfc/rfc7644#section-2
            //# As per Section 4.1 of [RFC7235], a SCIM service provider SHALL indicate supported
            //# HTTP authentication schemes via the "WWW-Authenticate" header.
            //= https://www.rfc-editor.org/rfc/rfc7235#section-4.1
            //# A server
            //# generating a 401 (Unauthorized) response MUST send a WWW-Authenticate
            //# header field containing at least one challenge.
            let challenge = "Bearer realm=\"tipstaff directory\"".to_owned();
            let response = answer.with(WWW_AUTHENTICATE, challenge).send();
            return Err((Turned::Unknown, Box::new(response)));
        };
        if !self.rate.take() {
            return Err((Turned::TooMany, Box::new(too_many())));
        }
        Ok(Admitted { token })
    }

    /// What the token is called that a request brings, if it is the directory's.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-2
    //# Regardless of methodology, the SCIM service provider MUST be able to map the authenticated
    //# client to an access control policy in order to determine the client's authorization to
    //# retrieve and update SCIM resources.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-2.1
    //# When using other token formats or frameworks, implementers MUST take into account similar
    //# threats and countermeasures, especially those documented by the relevant specifications.
    fn token(&self, headers: &HeaderMap) -> Option<Handle> {
        let mut all = headers.get_all(AUTHORIZATION).iter();
        let given = all.next()?.to_str().ok()?;
        if all.next().is_some() {
            return None;
        }
        let (scheme, token) = given.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let digest = Digest::of(token.trim().as_bytes());
        //= https://www.rfc-editor.org/rfc/rfc7644#section-7.4
        //= type=exception
        //= reason=no directory renews its token; it is good until an administrator takes it away
        //# Bearer tokens MUST have a limited lifetime that can be determined directly or indirectly
        //# (e.g., by checking with a validation service) by the service provider.
        self.control.view(|state| {
            let mut found = None;
            // All of them are looked at, whichever it is.
            for known in state.directory_tokens() {
                if same_bytes(known.digest.as_bytes(), digest.as_bytes()) {
                    found = Some(known.id.clone());
                }
            }
            found
        })
    }

    /// Answers a request whose path is below [`PATH`]. To be carried out to its end even if
    /// whoever asked goes away.
    pub async fn answer(&self, admitted: Admitted, request: Request<Bytes>) -> Response<Bytes> {
        let Ok(_place) = self.places.acquire().await else {
            return too_many();
        };
        let (parts, body) = request.into_parts();
        let said = Said {
            actor: Actor {
                kind: ActorKind::Service,
                id: "scim".to_owned(),
                credential: format!("token:{}", admitted.token),
                verified: true,
            },
            received_at: self.clock.now(),
            id: Digest::of(&body),
        };
        let asked = Asked {
            method: &parts.method,
            query: parts.uri.query(),
            headers: &parts.headers,
            body: &body,
        };
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.13
        //# When specified, service providers MUST perform the operation using the desired version
        //# or reject the request.
        let path = parts.uri.path().strip_prefix(PATH).unwrap_or_default();
        match self.route(&said, path, &asked).await {
            Ok(answer) => answer.send(),
            Err(error) => {
                if error.status().is_server_error() {
                    tracing::error!("A request of the directory could not be answered: {error}");
                } else {
                    let status = error.status();
                    tracing::debug!(%status, "A request of the directory was refused");
                }
                //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
                //# If a request fails, the server SHALL return an HTTP response status code and a
                //# JSON detail error response as defined in Section 3.12.
                let answer = Answer::of(error.status(), error.to_json());
                match error {
                    ScimError::Method(allowed) => answer.with(ALLOW, allowed.to_owned()).send(),
                    _ => answer.send(),
                }
            }
        }
    }

    async fn route(&self, said: &Said, path: &str, asked: &Asked<'_>) -> Answered {
        let mut parts = path.trim_matches('/').split('/');
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        if parts.next().is_some() {
            return Err(nothing(path));
        }
        let second = second.map(|it| query::decode_path(it).ok_or_else(|| nothing(path)));
        let second = second.transpose()?;
        let second = second.as_deref();
        let body = asked.body.len();
        if body > SCIM_BODY_BYTES_MAX {
            let text = format!("the body is longer than {SCIM_BODY_BYTES_MAX} bytes");
            return Err(ScimError::TooMany(text));
        }
        match (first, second) {
            ("Users", None) => match *asked.method {
                Method::GET => Ok(self.list_users(&Query::of_url(&USERS, asked.query)?)),
                Method::POST => self.add_user(said, asked).await,
                _ => Err(ScimError::Method("GET, POST")),
            },
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.3
            //# The inclusion of "/.search" on the end of a valid SCIM endpoint SHALL be used to
            //# indicate that the HTTP POST verb is intended to be a query operation.
            ("Users", Some(".search")) => {
                Ok(self.list_users(&Query::of_search(&USERS, asked.posted()?)?))
            }
            ("Users", Some(id)) => self.user(said, id, asked).await,
            ("Groups", None) => match *asked.method {
                Method::GET => Ok(self.list_groups(&Query::of_url(&GROUPS, asked.query)?)),
                Method::POST => self.add_group(said, asked).await,
                _ => Err(ScimError::Method("GET, POST")),
            },
            ("Groups", Some(".search")) => {
                Ok(self.list_groups(&Query::of_search(&GROUPS, asked.posted()?)?))
            }
            ("Groups", Some(id)) => self.group(said, id, asked).await,
            ("ServiceProviderConfig" | "ResourceTypes" | "Schemas", id) => {
                self.discovery(first, id, asked)
            }
            ("Bulk", None) => Err(ScimError::Unsupported(
                "several operations in one request are not supported; send them one by one",
            )),
            ("Me", None) => Err(ScimError::Unsupported(
                "the directory's token is nobody's, so there is no `/Me`",
            )),
            ("" | ".search", None) => Err(ScimError::Unsupported(
                "one type of resource is searched at a time: `/Users` or `/Groups`",
            )),
            _ => Err(nothing(path)),
        }
    }

    fn discovery(&self, what: &str, id: Option<&str>, asked: &Asked<'_>) -> Answered {
        if *asked.method != Method::GET {
            return Err(ScimError::Method("GET"));
        }
        // RFC 7644 §4: a filter is refused, so that nobody believes that it was applied.
        let query = asked.query.unwrap_or_default();
        if query.split('&').any(|pair| pair.starts_with("filter=")) {
            let status = StatusCode::FORBIDDEN;
            let text = "what this service is cannot be filtered";
            return Ok(Answer::of(status, error::body(status, None, text)));
        }
        let body = match (what, id) {
            ("ServiceProviderConfig", None) => {
                Some(service_provider_config(&self.base, SCIM_PAGE_MAX))
            }
            ("ResourceTypes", None) => {
                let all = RESOURCE_TYPES.iter().map(|it| it.to_json(&self.base));
                Some(whole_list(&all.collect::<Vec<_>>()))
            }
            ("Schemas", None) => {
                let all = Schema::all().map(|it| it.to_json(&self.base));
                Some(whole_list(&all.collect::<Vec<_>>()))
            }
            ("ResourceTypes", Some(id)) => {
                let mut all = RESOURCE_TYPES.iter();
                all.find(|it| it.name == id)
                    .map(|it| it.to_json(&self.base))
            }
            ("Schemas", Some(id)) => {
                let mut all = Schema::all();
                all.find(|it| it.id.eq_ignore_ascii_case(id))
                    .map(|it| it.to_json(&self.base))
            }
            _ => None,
        };
        let body = body.ok_or_else(|| nothing(id.unwrap_or(what)))?;
        Ok(Answer::of(StatusCode::OK, body))
    }

    // Users.

    fn list_users(&self, query: &Query) -> Answer {
        let users: Vec<User> = self.control.view(|state| {
            candidates(state, query.filter.as_ref())
                .into_iter()
                .filter_map(|sponsor| User::of(state, sponsor))
                .collect()
        });
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.4.2.2
        //# When applying a comparison (e.g., "eq") or presence filter (e.g., "pr") to a defaulted
        //# attribute, the service provider SHALL use the value that was returned to the client that
        //# last created or modified the attribute.
        let all = users.iter().map(|user| user.to_json(&self.base).0);
        Answer::of(StatusCode::OK, query.list(&USERS, all))
    }

    /// A user by id.
    fn find_user(&self, id: &str) -> Result<User, ScimError> {
        let handle = id.parse::<Handle>().ok();
        let user = handle.and_then(|handle| {
            self.control
                .view(|state| User::of(state, state.sponsor(&handle)?))
        });
        user.ok_or_else(|| not_found("user", id))
    }

    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.1
    //# SCIM responses SHALL reflect resource state as interpreted by the SCIM service provider.
    fn show_user(
        &self,
        status: StatusCode,
        id: &str,
        asked: &Asked<'_>,
        query: &Query,
    ) -> Answered {
        let (json, version) = self.find_user(id)?.to_json(&self.base);
        Ok(asked.show(status, query, &json, version))
    }

    async fn user(&self, said: &Said, id: &str, asked: &Asked<'_>) -> Answered {
        // Read before anything is changed, so that a bad one changes nothing.
        let query = Query::of_url(&USERS, asked.query)?;
        if *asked.method == Method::GET {
            return self.show_user(StatusCode::OK, id, asked, &query);
        }
        let _one = self.users.lock().await;
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.2
        //# PUT MUST NOT be used to create new resources.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
        //# Because SCIM resource identifiers are assigned by the service provider, HTTP PUT MUST
        //# NOT be used to create new resources.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.6
        //# Service providers MAY choose not to permanently delete the resource but MUST return a
        //# 404 (Not Found) error code for all operations associated with the previously deleted
        //# resource.
        let user = self.find_user(id)?;
        asked.precondition(&user.to_json(&self.base).1)?;
        match *asked.method {
            //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5
            //# Implementers MUST support HTTP PUT as specified in Section 4.3 of [RFC7231].
            Method::PUT | Method::PATCH => {
                let after = asked_of(&user, asked);
                let changed = match after {
                    Ok(after) => self.change_user(said, &user, after).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = changed {
                    // Nothing of it is done, but for this: whoever left is stopped, whatever else is
                    // refused. A directory that gives leavers another name would never get one
                    // stopped.
                    if asked.says_active() == Some(false) {
                        let mut after = user.attributes.clone();
                        after.core.insert("active".to_owned(), false.into());
                        self.change_user(said, &user, after).await?;
                    }
                    return Err(error);
                }
            }
            Method::DELETE => {
                self.delete_user(said, &user).await?;
                return Ok(no_content());
            }
            _ => return Err(ScimError::Method("GET, PUT, PATCH, DELETE")),
        }
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
        //# On successful completion, the server either MUST return a 200 OK response code and the
        //# entire resource within the response body, subject to the "attributes" query parameter
        //# (see Section 3.9), or MAY return HTTP status code 204 (No Content) and the appropriate
        //# response headers for a successful PATCH request.
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
        //# The server MUST return a 200 OK if the "attributes" parameter is specified in the
        //# request.
        self.show_user(StatusCode::OK, id, asked, &query)
    }

    async fn add_user(&self, said: &Said, asked: &Asked<'_>) -> Answered {
        let query = Query::of_url(&USERS, asked.query)?;
        let attributes = people::read(&asked.object()?, true)?;
        let person = people::person(&attributes)?;
        let _one = self.users.lock().await;
        // Whom an administrator linked, and of whom nothing was said yet, is this one.
        let linked = self.control.view(|state| {
            let external = person.external_id.as_ref()?;
            User::of(state, state.sponsor_by_external_id(external)?)
        });
        let handle = match linked {
            Some(user) if user.is_linked && !user.is_told => {
                self.change_user(said, &user, attributes).await?;
                user.handle
            }
            Some(_) | None => {
                let active = people::said_active(&attributes);
                let command = Command::ProvisionSponsor {
                    person: Box::new(person),
                    signal: said.signal("provisioned")?,
                };
                let done = self.execute(said, command).await?;
                let Some(Subject::Sponsor(handle)) = done else {
                    return Err(ScimError::Unavailable("it is not known what was added"));
                };
                if !active {
                    self.suspend(said, &handle, "deactivated").await?;
                }
                handle
            }
        };
        let location = format!("{}/Users/{handle}", self.base);
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
        //# When the service provider successfully creates the new resource, an HTTP response SHALL
        //# be returned with HTTP status code 201 (Created).
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.3
        //# The URI of the created resource SHALL include, in the HTTP "Location" header and the
        //# HTTP body, a JSON representation [RFC7159] with the attribute "meta.location".
        let shown = self.show_user(StatusCode::CREATED, handle.as_str(), asked, &query)?;
        Ok(shown.with(LOCATION, location))
    }

    /// Makes a user what the directory says that they are.
    async fn change_user(
        &self,
        said: &Said,
        user: &User,
        after: Attributes,
    ) -> Result<(), ScimError> {
        let mut person = people::person(&after)?;
        let before = &user.attributes;
        // A directory that says no address takes none away that an administrator gave.
        let silent = !user.is_told || !before.core.contains_key("emails");
        if person.email.is_none() && silent {
            person.email = self.control.view(|state| {
                let known = state.sponsor(&user.handle)?.person()?;
                known.email.clone()
            });
        }
        let leaves = !people::said_active(&after);
        let mut changes = people::changes(before, &after);
        if user.is_linked {
            self.names_free(user, &person)?;
        } else {
            // Of whom an administrator added, the directory may say that they left and that they
            // are back; to say who they are it has to be told that it is the same person.
            changes.retain(|word| word.as_str() != "active");
            if !changes.is_empty() && !leaves {
                return Err(ScimError::Taken(not_linked(before)));
            }
        }
        if leaves {
            self.suspend(said, &user.handle, "deactivated").await?;
        }
        if user.is_linked {
            // First what stops: a request that is sent again finds nothing that changed.
            let agents = reactions::answers_for_agents(&self.control, &user.handle);
            for cause in causes(before, &changes).into_iter().filter(|_| agents) {
                self.react(said, &user.handle, cause, "changed").await?;
            }
            let command = Command::ChangeSponsor {
                sponsor: user.handle.clone(),
                person: Box::new(person),
                changes,
                signal: said.signal("changed")?,
            };
            self.execute(said, command).await?;
        }
        if !leaves {
            let signal = said.signal("reactivated")?;
            let lifts = |by: &Signal| ["deactivated", "deleted"].contains(&by.event.as_str());
            let control = &self.control;
            let lifted =
                reactions::resume(control, &said.actor, &user.handle, signal.clone(), lifts);
            lifted.await.map_err(refused)?;
        }
        Ok(())
    }

    /// Whether the names that somebody is to have are nobody else's. Asked before anything is done.
    fn names_free(&self, user: &User, person: &register::Person) -> Result<(), ScimError> {
        self.control.view(|state| {
            let other = |found: Option<&Arc<Sponsor>>| {
                found.is_some_and(|found| found.handle != user.handle)
            };
            //= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
            //# This identifier MUST be unique across the service provider's entire set of Users.
            //= https://www.rfc-editor.org/rfc/rfc7643#section-4.1.1
            //# This attribute is REQUIRED and is case insensitive.
            if other(state.sponsor_by_id(&person.id)) {
                return Err(name_taken(state, &person.id));
            }
            let external = person.external_id.as_ref();
            if other(external.and_then(|id| state.sponsor_by_external_id(id))) {
                return Err(refusal(Refusal::ExternalIdTaken));
            }
            Ok(())
        })
    }

    /// The directory deletes somebody: they are suspended and kept, and no user any more.
    async fn delete_user(&self, said: &Said, user: &User) -> Result<(), ScimError> {
        self.suspend(said, &user.handle, "deleted").await?;
        let groups: Vec<Handle> = self.control.view(|state| {
            let groups = state.groups_of(&user.handle);
            groups.map(|group| group.handle.clone()).collect()
        });
        for group in groups {
            let command = Command::ChangeMembers {
                group,
                added: Vec::new(),
                removed: vec![user.handle.clone()],
                signal: said.signal("deleted")?,
            };
            self.execute(said, command).await?;
        }
        let person = self.control.view(|state| {
            let sponsor = state.sponsor(&user.handle)?;
            sponsor.person().map(people::deleted)
        });
        if let Some(person) = person {
            let command = Command::ChangeSponsor {
                sponsor: user.handle.clone(),
                person: Box::new(person),
                changes: vec![word("deleted")?],
                signal: said.signal("deleted")?,
            };
            self.execute(said, command).await?;
        }
        Ok(())
    }

    // Groups.

    fn list_groups(&self, query: &Query) -> Answer {
        let teams: Vec<Team> = self.control.view(|state| {
            let groups = state.groups();
            groups.filter_map(|group| Team::of(group)).collect()
        });
        let all = teams.iter().map(|team| team.to_json(&self.base).0);
        Answer::of(StatusCode::OK, query.list(&GROUPS, all))
    }

    fn find_group(&self, id: &str) -> Result<Team, ScimError> {
        let handle = id.parse::<Handle>().ok();
        let team =
            handle.and_then(|handle| self.control.view(|state| Team::of(state.group(&handle)?)));
        team.ok_or_else(|| not_found("group", id))
    }

    fn show_group(
        &self,
        status: StatusCode,
        id: &str,
        asked: &Asked<'_>,
        query: &Query,
    ) -> Answered {
        let (json, version) = self.find_group(id)?.to_json(&self.base);
        Ok(asked.show(status, query, &json, version))
    }

    async fn group(&self, said: &Said, id: &str, asked: &Asked<'_>) -> Answered {
        let query = Query::of_url(&GROUPS, asked.query)?;
        if *asked.method == Method::GET {
            return self.show_group(StatusCode::OK, id, asked, &query);
        }
        let _one = self.groups.lock().await;
        let team = match self.find_group(id) {
            // One whose name is erased can still be taken away, with whom it stops.
            Err(_) if *asked.method == Method::DELETE => {
                return self.delete_unnamed(said, id).await;
            }
            found => found?,
        };
        asked.precondition(&team.to_json(&self.base).1)?;
        match *asked.method {
            Method::PUT => {
                let after = resource::read(&GROUPS, &asked.object()?)?;
                self.change_group(said, &team, &after).await?;
            }
            Method::PATCH => {
                let operations = patch::read(asked.json()?)?;
                let mut after = team.attributes();
                patch::apply(&GROUPS, &mut after, &operations)?;
                self.change_group(said, &team, &after).await?;
            }
            Method::DELETE => return self.delete_group(said, team.handle, &team.members).await,
            _ => return Err(ScimError::Method("GET, PUT, PATCH, DELETE")),
        }
        self.show_group(StatusCode::OK, id, asked, &query)
    }

    async fn delete_group(
        &self,
        said: &Said,
        group: Handle,
        members: &BTreeSet<Handle>,
    ) -> Answered {
        self.lose(said, members).await?;
        let command = Command::RemoveGroup {
            group,
            signal: said.signal("group-deleted")?,
        };
        self.execute(said, command).await?;
        Ok(no_content())
    }

    async fn delete_unnamed(&self, said: &Said, id: &str) -> Answered {
        let handle = id.parse::<Handle>().map_err(|_| not_found("group", id))?;
        let members = self.control.view(|state| {
            let group = state.group(&handle)?;
            Some(group.members.clone())
        });
        let members = members.ok_or_else(|| not_found("group", id))?;
        self.delete_group(said, handle, &members).await
    }

    async fn add_group(&self, said: &Said, asked: &Asked<'_>) -> Answered {
        let query = Query::of_url(&GROUPS, asked.query)?;
        let attributes = resource::read(&GROUPS, &asked.object()?)?;
        let (profile, members) = groups::read(&attributes)?;
        let _one = self.groups.lock().await;
        self.all_known(&members)?;
        let members: Vec<Handle> = members.into_iter().collect();
        let mut parts = members.chunks(GROUP_CHANGES_MAX);
        let command = Command::AddGroup {
            profile,
            members: parts.next().map(<[_]>::to_vec).unwrap_or_default(),
            signal: said.signal("group-added")?,
        };
        let Some(Subject::Group(handle)) = self.execute(said, command).await? else {
            return Err(ScimError::Unavailable("it is not known what was added"));
        };
        for part in parts {
            self.change_members(said, &handle, part, &[]).await?;
        }
        let location = format!("{}/Groups/{handle}", self.base);
        let shown = self.show_group(StatusCode::CREATED, handle.as_str(), asked, &query)?;
        Ok(shown.with(LOCATION, location))
    }

    async fn change_group(
        &self,
        said: &Said,
        team: &Team,
        after: &Attributes,
    ) -> Result<(), ScimError> {
        let (profile, members) = groups::read(after)?;
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.1
        //# If the service provider has no existing values, the new value(s) SHALL be applied.
        let added: BTreeSet<Handle> = members.difference(&team.members).cloned().collect();
        let removed: BTreeSet<Handle> = team.members.difference(&members).cloned().collect();
        self.all_known(&added)?;
        if profile != team.profile {
            let command = Command::ChangeGroup {
                group: team.handle.clone(),
                profile,
                signal: said.signal("group-renamed")?,
            };
            self.execute(said, command).await?;
        }
        // First what stops: a request that is sent again finds nobody who is to go.
        self.lose(said, &removed).await?;
        let (added, removed) = (Vec::from_iter(added), Vec::from_iter(removed));
        for part in removed.chunks(GROUP_CHANGES_MAX) {
            self.change_members(said, &team.handle, &[], part).await?;
        }
        for part in added.chunks(GROUP_CHANGES_MAX) {
            self.change_members(said, &team.handle, part, &[]).await?;
        }
        Ok(())
    }

    /// Members who are to be there are users.
    fn all_known(&self, members: &BTreeSet<Handle>) -> Result<(), ScimError> {
        self.control.view(|state| {
            let known = |handle: &&Handle| {
                let person = state.sponsor(handle).and_then(|sponsor| sponsor.person());
                person.is_some_and(|person| !people::is_deleted(person))
            };
            match members.iter().find(|handle| !known(handle)) {
                Some(unknown) => Err(nobody(unknown.as_str())),
                None => Ok(()),
            }
        })
    }

    async fn change_members(
        &self,
        said: &Said,
        group: &Handle,
        added: &[Handle],
        removed: &[Handle],
    ) -> Result<(), ScimError> {
        let command = Command::ChangeMembers {
            group: group.clone(),
            added: added.to_vec(),
            removed: removed.to_vec(),
            signal: said.signal("group-members")?,
        };
        self.execute(said, command).await.map(drop)
    }

    /// What follows for those who lose a group, as far as anything runs for them.
    async fn lose(&self, said: &Said, members: &BTreeSet<Handle>) -> Result<(), ScimError> {
        for member in members {
            if reactions::answers_for_agents(&self.control, member) {
                self.react(said, member, Cause::GroupLost, "group-lost")
                    .await?;
            }
        }
        Ok(())
    }

    // Commands.

    async fn suspend(
        &self,
        said: &Said,
        sponsor: &Handle,
        event: &'static str,
    ) -> Result<(), ScimError> {
        let signal = said.signal(event)?;
        let done = reactions::suspend(&self.control, &said.actor, sponsor, signal);
        done.await.map_err(refused)
    }

    async fn react(
        &self,
        said: &Said,
        sponsor: &Handle,
        cause: Cause,
        event: &'static str,
    ) -> Result<(), ScimError> {
        let (control, table) = (&self.control, &self.reactions);
        let signal = said.signal(event)?;
        let done = reactions::react(control, table, &said.actor, sponsor, cause, signal);
        done.await.map_err(refused)
    }

    /// Does a command; what it was about.
    async fn execute(&self, said: &Said, command: Command) -> Result<Option<Subject>, ScimError> {
        let done = self.control.execute(said.actor.clone(), command).await;
        match done.map_err(|error| self.told(error))? {
            Done::Changed { subject, .. } | Done::Unchanged { subject } => Ok(Some(subject)),
            Done::Started { .. } | Done::Continued { .. } => Ok(None),
        }
    }

    fn told(&self, error: CommandError) -> ScimError {
        match error {
            CommandError::Refused(Refusal::SponsorExists { id }) => {
                self.control.view(|state| name_taken(state, &id))
            }
            other => refused(other),
        }
    }
}

/// A request that brought the directory's token.
#[derive(Debug)]
pub struct Admitted {
    token: Handle,
}

/// A request.
struct Asked<'a> {
    method: &'a Method,
    query: Option<&'a str>,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl Asked<'_> {
    /// The body, if its media type is one of those that it may be.
    fn json(&self) -> Result<&[u8], ScimError> {
        let kind = self.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let bare = kind.split(';').next().unwrap_or_default().trim();
        if [SCIM_JSON, "application/json"]
            .iter()
            .any(|good| bare.eq_ignore_ascii_case(good))
        {
            return Ok(self.body);
        }
        Err(ScimError::Syntax(format!(
            "the body's `Content-Type` is not `{SCIM_JSON}`"
        )))
    }

    fn posted(&self) -> Result<&[u8], ScimError> {
        if *self.method != Method::POST {
            return Err(ScimError::Method("POST"));
        }
        self.json()
    }

    fn object(&self) -> Result<Map<String, Value>, ScimError> {
        Ok(json::object(self.json()?)?)
    }

    /// Whether it says that somebody is active, as far as that can be read.
    fn says_active(&self) -> Option<bool> {
        let body = self.json().ok()?;
        if *self.method == Method::PATCH {
            return patch::said_active(body);
        }
        people::said_active_of(&json::object(body).ok()?)
    }

    /// Whether the resource is what the client thinks that it is (RFC 7644 §3.14).
    fn precondition(&self, version: &str) -> Result<(), ScimError> {
        match self.headers.get(IF_MATCH) {
            Some(tags) if !names(tags, version) => Err(ScimError::Changed),
            Some(_) | None => Ok(()),
        }
    }

    /// A resource as an answer, with the attributes that were asked for.
    fn show(&self, status: StatusCode, query: &Query, resource: &Value, version: String) -> Answer {
        let known = self.headers.get(IF_NONE_MATCH);
        if *self.method == Method::GET && known.is_some_and(|tags| names(tags, &version)) {
            let unchanged = Answer {
                status: StatusCode::NOT_MODIFIED,
                body: None,
                headers: Vec::new(),
            };
            return unchanged.with(ETAG, version);
        }
        let location = resource.pointer("/meta/location").and_then(Value::as_str);
        let location = location.unwrap_or_default().to_owned();
        //= https://www.rfc-editor.org/rfc/rfc7644#section-3.14
        //# When supported, SCIM ETags MUST be specified as an HTTP header and SHOULD be specified
        //# within the 'version' attribute contained in the resource's 'meta' attribute.
        let answer = Answer::of(status, query.shown.of(resource)).with(ETAG, version);
        //= https://www.rfc-editor.org/rfc/rfc7643#section-3.1
        //# This value MUST be the same as the "Content-Location" HTTP response header (see Section
        //# 3.1.4.2 of [RFC7231]).
        answer.with(http::header::CONTENT_LOCATION, location)
    }
}

/// Whether a list of entity tags has this one, compared weakly (RFC 9110 §8.8.3.2).
fn names(tags: &HeaderValue, version: &str) -> bool {
    let weak = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let version = weak(version);
    tags.to_str()
        .is_ok_and(|tags| tags.trim() == "*" || tags.split(',').any(|tag| weak(tag) == version))
}

//= https://www.rfc-editor.org/rfc/rfc7644#section-3.6
//# In response to a successful DELETE, the server SHALL return a successful HTTP status code 204
//# (No Content).
fn no_content() -> Answer {
    Answer {
        status: StatusCode::NO_CONTENT,
        body: None,
        headers: Vec::new(),
    }
}

fn too_many() -> Response<Bytes> {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let body = error::body(status, None, "too many requests; try again in a second");
    Answer::of(status, body)
        .with(RETRY_AFTER, "1".to_owned())
        .send()
}

fn not_found(what: &'static str, id: &str) -> ScimError {
    let id = id.chars().take(64).collect();
    ScimError::NotFound { what, id }
}

fn nothing(path: &str) -> ScimError {
    not_found("resource", path)
}

/// The sponsors that could match: one, where the filter asks for its name.
fn candidates<'a>(state: &'a State, filter: Option<&Filter>) -> Vec<&'a Arc<Sponsor>> {
    if let Some(name) = filter.and_then(named) {
        return match name {
            Named::UserName(name) => {
                let id = name.parse().ok();
                id.and_then(|id| state.sponsor_by_id(&id))
                    .into_iter()
                    .collect()
            }
            Named::ExternalId(id) => {
                let id = id.parse().ok();
                let found = id.and_then(|id| state.sponsor_by_external_id(&id));
                found.into_iter().collect()
            }
        };
    }
    let mut all = state.sponsors();
    // In the order in which they came, so that pages do not overlap.
    all.sort_by_key(|sponsor| sponsor.record);
    all
}

enum Named<'a> {
    UserName(&'a str),
    ExternalId(&'a str),
}

/// The name that everything that matches a filter has. Directories look people up one by one, so
/// the whole register is not gone through for each.
fn named(filter: &Filter) -> Option<Named<'_>> {
    match filter {
        Filter::Compare {
            path,
            op: Op::Eq,
            value: Value::String(text),
        } if path.sub.is_none() => {
            let target = path.resolve(&USERS)?;
            match (target.extension, target.attribute?.name) {
                (None, "userName") => Some(Named::UserName(text)),
                (None, "externalId") => Some(Named::ExternalId(text)),
                _ => None,
            }
        }
        Filter::And(all) => all.iter().find_map(named),
        _ => None,
    }
}

/// What a PUT or a PATCH makes of a user.
fn asked_of(user: &User, asked: &Asked<'_>) -> Result<Attributes, ScimError> {
    if *asked.method == Method::PUT {
        return people::read(&asked.object()?, user.is_said_active());
    }
    let operations = patch::read(asked.json()?)?;
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# A PATCH request, regardless of the number of operations, SHALL be treated as
    //# atomic.
    //= https://www.rfc-editor.org/rfc/rfc7644#section-3.5.2
    //# If a single operation encounters an error condition, the original SCIM resource
    //# MUST be restored, and a failure status SHALL be returned.
    let mut after = user.attributes.clone();
    patch::apply(&USERS, &mut after, &operations)?;
    Ok(after)
}

/// What is in a change that has consequences.
fn causes(before: &Attributes, changes: &[Word]) -> Vec<Cause> {
    let enterprise = before.extensions.get(ENTERPRISE);
    // What nothing was said of before is no change of it.
    let changed = |word: &str, was: Option<&Value>| {
        was.is_some() && changes.iter().any(|it| it.as_str() == word)
    };
    let core = |name: &str| before.core.get(name);
    let enterprise = |name: &str| enterprise.and_then(|members| members.get(name));
    let mut causes = Vec::new();
    if changed("title", core("title")) || changed("user-type", core("userType")) {
        causes.push(Cause::RoleChanged);
    }
    if changed("department", enterprise("department")) {
        causes.push(Cause::DepartmentChanged);
    }
    if changed("manager", enterprise("manager")) {
        causes.push(Cause::ManagerChanged);
    }
    causes
}

fn not_linked(of: &Attributes) -> String {
    let id = of.text("userName").unwrap_or_default();
    format!(
        "`{id}` was added by an administrator, and a name alone does not show that this is the \
         same person; `tipstaff sponsor link {id} --external-id ID` says so"
    )
}

fn name_taken(state: &State, id: &vocab::SponsorId) -> ScimError {
    let found = state.sponsor_by_id(id);
    let person = found.and_then(|sponsor| sponsor.person());
    let text = match (found, person) {
        (Some(_), Some(person)) if people::is_deleted(person) => format!(
            "`{id}` was deleted, and is kept for what was done in their name: if this is the same \
             person, `tipstaff sponsor link {id} --external-id ID` brings them back; if not, give \
             this one another `userName`, or `tipstaff sponsor erase {id}`"
        ),
        (Some(sponsor), Some(_)) if !sponsor.provisioned => format!(
            "`{id}` was added by an administrator, and a name alone does not show that this is the \
             same person; `tipstaff sponsor link {id} --external-id ID` says so"
        ),
        _ => format!("there is a user `{id}` already"),
    };
    ScimError::Taken(text)
}

fn refusal(refusal: Refusal) -> ScimError {
    refused(CommandError::Refused(refusal))
}

/// What the directory is told of a command that was not done.
fn refused(error: CommandError) -> ScimError {
    match error {
        CommandError::Refused(
            refusal @ (Refusal::SponsorExists { .. }
            | Refusal::ExternalIdTaken
            | Refusal::GroupExists),
        ) => ScimError::Taken(refusal.to_string()),
        CommandError::Refused(Refusal::TooManyMembers { given, max }) => ScimError::TooMany(
            format!("{given} members at once; at most {max} can be changed"),
        ),
        CommandError::Refused(refusal) => ScimError::Conflict(refusal.to_string()),
        error => {
            tracing::error!(error = %error, "A command of the directory was not done");
            ScimError::Unavailable("it could not be put on record; send it again")
        }
    }
}

#[cfg(test)]
mod tests;
