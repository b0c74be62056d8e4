//! A sponsor accepts to answer for an agent, having seen what that is; or somebody takes over one that
//! is offered to them.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use ledger::{Actor, ActorKind};
use register::lifecycle::{Acceptance, AgentLife};
use register::{
    Agent, Allow, CallLimits, Command, DelegationLimits, Owners, People as Who, Relation, SignedIn,
};
use serde::Serialize;
use vocab::{AgentId, Digest, Handle, PurposePath};

use super::page::Page;
use super::session::Session;
use super::{App, Fields, html, unavailable};

type Shared = State<std::sync::Arc<App>>;

/// What a sponsor is shown, and what is kept of it: nobody is named but by their handle, since it
/// is kept for ever.
#[derive(Serialize)]
struct Terms<'a> {
    v: u8,
    agent: &'a AgentId,
    sponsor: &'a Handle,
    /// Whose agent it is until they take it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_over_from: Option<&'a Handle>,
    /// So that what was shown before a transfer there and back, or before the acceptance lapsed, is
    /// not accepted after it.
    asked_in: u64,
    purposes: &'a [PurposePath],
    allow: &'a Option<Vec<Allow>>,
    policy: Option<Digest>,
    max_instances: u32,
    max_lifetime_s: u64,
    idle_s: u64,
    allow_bearer: bool,
    limits: CallLimits,
    delegation: DelegationLimits,
    people: &'a Option<Who>,
    owners: &'a Owners,
    has_key: bool,
    software: &'a str,
    model: &'a str,
    environment: &'a str,
}

impl<'a> Terms<'a> {
    fn of(agent: &'a Agent, person: &'a Handle, policy: Option<Digest>) -> Self {
        Self {
            v: 2,
            agent: &agent.id,
            sponsor: person,
            taken_over_from: (agent.sponsor != *person).then_some(&agent.sponsor),
            asked_in: agent.asked_in,
            purposes: &agent.purposes,
            allow: &agent.allow,
            policy,
            max_instances: agent.max_instances,
            max_lifetime_s: agent.max_lifetime.as_secs(),
            idle_s: agent.idle.as_secs(),
            allow_bearer: agent.allow_bearer,
            limits: agent.limits,
            delegation: agent.delegation,
            people: &agent.people,
            owners: &agent.owners,
            has_key: agent.key.is_some(),
            software: agent.software.as_str(),
            model: agent.model.as_str(),
            environment: agent.environment.as_str(),
        }
    }
}

/// What is shown of an agent, and the bytes that say the same.
struct Shown {
    rows: Vec<(&'static str, String)>,
    terms: Vec<u8>,
    asked_in: u64,
    accepted: bool,
    /// If it is somebody else's yet: theirs, and what the person is to them.
    offered: Option<(String, Relation)>,
}

impl App {
    /// The agent, as its sponsor is shown it, or whoever is offered it; none if there is none of that
    /// name, or it is not for this person: whoever asks learns nothing of others' agents.
    fn shown(&self, id: &AgentId, person: &Handle) -> Option<Shown> {
        self.shared.plane.control().view(|state| {
            let agent = state.agent(id)?;
            let offered = if agent.sponsor == *person {
                None
            } else {
                let relation = state.takes_over(agent, person).ok()?;
                Some((state.sponsor_name(&agent.sponsor), relation))
            };
            let policy = state.policy().map(|policy| policy.set);
            let terms = serde_json::to_vec(&Terms::of(agent, person, policy)).ok()?;
            let name = |owner: &Option<Handle>| match owner {
                Some(owner) => state.sponsor_name(owner),
                None => "nobody".to_owned(),
            };
            let joined = |all: Vec<String>| all.join(", ");
            let allow = match &agent.allow {
                Some(lines) => joined(lines.iter().map(ToString::to_string).collect()),
                None => "whatever the policies in force permit".to_owned(),
            };
            let who = match &agent.people {
                None => "nobody".to_owned(),
                Some(Who::Sponsor) => "you".to_owned(),
                Some(Who::Everyone) => "every active sponsor, in their own name".to_owned(),
                Some(Who::Group { group }) => {
                    let group = state
                        .group(group)
                        .and_then(|group| group.name().map(str::to_owned));
                    format!(
                        "members of {}",
                        group.unwrap_or_else(|| "a group".to_owned())
                    )
                }
            };
            let minutes = |seconds: u64| format!("{} minutes", seconds / 60);
            let delegation = agent.delegation;
            let rows = vec![
                ("Agent", agent.id.to_string()),
                ("You answer for it as", state.sponsor_name(person)),
                (
                    "Purposes",
                    joined(agent.purposes.iter().map(ToString::to_string).collect()),
                ),
                ("The most it may do", allow),
                ("Instances at once", agent.max_instances.to_string()),
                ("Each lives at most", minutes(agent.max_lifetime.as_secs())),
                (
                    "Delegation",
                    match delegation.max_depth {
                        0 => "none".to_owned(),
                        depth => format!(
                            "{depth} levels below it, {} instances below each",
                            delegation.max_children
                        ),
                    },
                ),
                ("Who else may start it", who),
                (
                    "Tokens without a key",
                    if agent.allow_bearer { "yes" } else { "no" }.to_owned(),
                ),
                ("Business owner", name(&agent.owners.business)),
                ("Technical owner", name(&agent.owners.technical)),
                ("Answers for the policy", name(&agent.owners.policy)),
            ];
            Some(Shown {
                rows,
                terms,
                asked_in: agent.asked_in,
                offered,
                accepted: matches!(agent.acceptance, Acceptance::Accepted { .. }),
            })
        })
    }

    fn not_yours(&self) -> Response {
        self.note("not-the-sponsor", "people");
        self.refuse(
            StatusCode::NOT_FOUND,
            "There is nothing for you to accept here",
            "No agent of that name has you as its sponsor, or is yours to take over.",
        )
    }

    fn terms_page(&self, id: &AgentId, session: &Session, changed: bool) -> Response {
        let Ok(name) = self.people.issuer.active_person(&session.person) else {
            return unavailable();
        };
        let Some(shown) = self.shown(id, &session.person) else {
            return self.not_yours();
        };
        let digest = Digest::of(&shown.terms).to_string();
        let mut page = Page::new(&format!("Answer for the agent {id}?"));
        if changed {
            page =
                page.warning("It was changed while you were looking at it. Nothing was accepted.");
        }
        let (yes, no) = match &shown.offered {
            None => ("Accept", "Do not accept"),
            Some((sponsor, relation)) => {
                page = page.text(&format!(
                    "{sponsor}, who answered for it, does not any more, and you are their {}. If you \
                     take it over, what was started under them is over, and it may start anew under \
                     you.",
                    relation.as_str()
                ));
                ("Take it over", "Do not take it over")
            }
        };
        if shown.accepted && shown.offered.is_none() {
            page = page.text("You have accepted it before.");
        }
        page = page
            .table(shown.rows)
            .text(
                "What it does is recorded as done for you. When you leave, or are suspended, it \
                 stops.",
            )
            .text(&format!("What is kept of this page: {digest}"))
            .form(
                &format!("/accept/{id}"),
                &[("form", session.form()), ("terms", &digest)],
            )
            .button("accept", yes, true)
            .button("decline", no, false)
            .end_form()
            .signed_in(&name, session.form())
            .marked(self.people.local);
        html(StatusCode::OK, &page)
    }
}

/// `GET /accept`: what there is for somebody to accept, and to take over.
pub(super) async fn list(State(app): Shared, request: Request) -> Response {
    let Some(session) = app.people.session(request.headers()) else {
        return app.sign_in("/accept").await;
    };
    let Ok(name) = app.people.issuer.active_person(&session.person) else {
        return unavailable();
    };
    let (own, offered) = app.shared.plane.control().view(|state| {
        let own = state.agents_of(&session.person);
        let own = own.filter(|agent| {
            let accepted = matches!(agent.acceptance, Acceptance::Accepted { .. });
            !accepted && !is_retired(agent)
        });
        let own: Vec<AgentId> = own.map(|agent| agent.id.clone()).collect();
        let offered = state.offered_to(&session.person).into_iter();
        let offered = offered
            .filter(|agent| !is_retired(agent) && state.takes_over(agent, &session.person).is_ok());
        let offered = offered.map(|agent| (agent.id.clone(), state.sponsor_name(&agent.sponsor)));
        (own, offered.collect::<Vec<_>>())
    });
    let mut page = Page::new("Agents for you to answer for");
    if own.is_empty() && offered.is_empty() {
        page = page.text(
            "There is none: you accepted all that are yours, and no other is yours to take over.",
        );
    }
    for id in own {
        page = page.link(&format!("/accept/{id}"), &format!("Accept {id}"));
    }
    for (id, sponsor) in offered {
        let text = format!("Take over {id}, which {sponsor} does not answer for any more");
        page = page.link(&format!("/accept/{id}"), &text);
    }
    let page = page
        .signed_in(&name, session.form())
        .marked(app.people.local);
    html(StatusCode::OK, &page)
}

const fn is_retired(agent: &Agent) -> bool {
    match agent.life {
        AgentLife::Retired { .. } => true,
        AgentLife::Active { .. } | AgentLife::Suspended { .. } => false,
    }
}

/// `GET /accept/{agent}`.
pub(super) async fn show(
    State(app): Shared,
    Path(agent): Path<String>,
    request: Request,
) -> Response {
    let Ok(id) = agent.parse::<AgentId>() else {
        return app.not_yours();
    };
    match app.people.session(request.headers()) {
        Some(session) => app.terms_page(&id, &session, false),
        None => app.sign_in(&format!("/accept/{id}")).await,
    }
}

/// `POST /accept/{agent}`.
pub(super) async fn accept(
    State(app): Shared,
    Path(agent): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(id) = agent.parse::<AgentId>() else {
        return app.not_yours();
    };
    // Who is signed in is asked when all of it is here, however slowly it came.
    let fields = Fields::read(body).await;
    let Some(session) = app.people.session(&parts.headers) else {
        return app.sign_in(&format!("/accept/{id}")).await;
    };
    let Some(fields) = fields.filter(|fields| session.is_ours(fields.get("form"))) else {
        let text = "The form was not one of this page's.";
        app.note("bad-consent", "people");
        return app.refuse(StatusCode::FORBIDDEN, "Nothing was accepted", text);
    };
    let Some(shown) = app.shown(&id, &session.person) else {
        return app.not_yours();
    };
    if fields.get("answer") == "decline" {
        let text = "Nothing was changed. If you are not to answer for it, ask an administrator to \
                    give it to somebody else, or to retire it.";
        let page = Page::plain("Not accepted", text);
        return html(StatusCode::OK, &page.marked(app.people.local));
    }
    if Digest::of(&shown.terms).to_string() != fields.get("terms") {
        return app.terms_page(&id, &session, true);
    }
    let plane = &app.shared.plane;
    let failed = |error: &dyn std::error::Error| {
        tracing::error!(error = %error, "An agent could not be accepted");
        unavailable()
    };
    // Durable before the entry that names it.
    let terms = match plane.blobs().put(&shown.terms) {
        Ok(digest) => digest,
        Err(error) => return failed(&error),
    };
    let actor = Actor {
        kind: ActorKind::Person,
        id: session.person.to_string(),
        credential: session.sign_in.as_str().to_owned(),
        verified: true,
    };
    let (agent, person, sign_in) = (id.clone(), session.person.clone(), session.sign_in);
    let signed_in = Some(SignedIn::Here(session.began));
    let command = if shown.offered.is_some() {
        Command::TakeOver {
            agent,
            person,
            sign_in,
            asked_in: shown.asked_in,
            terms,
            signed_in,
        }
    } else {
        Command::AcceptAgent {
            agent,
            sponsor: person,
            sign_in,
            asked_in: shown.asked_in,
            terms,
            signed_in,
        }
    };
    match plane.control().execute(actor, command).await {
        Ok(_) => {
            let page = Page::plain("Accepted", &format!("You answer for the agent {id}."));
            html(StatusCode::OK, &page.marked(app.people.local))
        }
        Err(register::CommandError::Refused(refusal)) => {
            app.note("refused-acceptance", "people");
            app.refuse(
                StatusCode::CONFLICT,
                "Nothing was accepted",
                &format!("{refusal}."),
            )
        }
        Err(error) => failed(&error),
    }
}
