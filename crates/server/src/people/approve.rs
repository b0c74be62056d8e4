//! People approve what policy holds, or refuse it, having seen exactly what that is.
//!
//! Only who is signed in as themselves answers, and only what they were shown: the text is sealed
//! with the approval when it is asked for, and a form carries its digest. An administrator's
//! credential opens none of this.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use http::StatusCode;
use ledger::{Actor, ActorKind};
use register::{
    Approval, ApprovalCommand, ApprovalLife, ApprovalRefusal, Command, CommandError, Known,
    NotApprover, Refusal, SignedIn,
};
use vocab::{Digest, Handle, Time};

use super::page::Page;
use super::session::Session;
use super::{App, Fields, html, unavailable};
use crate::approvers;

type Shared = State<std::sync::Arc<App>>;

/// Approvals that one page lists.
const LISTED_MAX: usize = 100;

/// What somebody who is asked sees.
struct Seen {
    rows: Vec<(&'static str, String)>,
    /// The text that was sealed when it was asked for.
    shown: String,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// It waits for them.
    Asked,
    /// They granted it; it waits for somebody else.
    Joined,
    /// Enough people granted it, and it was not used yet.
    Granted(Time),
}

/// Why somebody sees nothing of it.
enum Unseen {
    Unknown,
    NotTheirs(NotApprover),
    /// It is over; what became of it.
    Over(String),
    /// What was asked is erased, or its key is not here.
    Unreadable,
}

impl App {
    fn seen(&self, id: &Handle, person: &Handle) -> Result<Seen, Unseen> {
        let now = self.people.clock.now();
        self.shared.plane.control().view(|state| {
            let approval = state.approval(id).ok_or(Unseen::Unknown)?;
            // Whether their word would have counted, also where it is over.
            let mut asked = Approval::clone(approval);
            asked.granted.clear();
            asked.life = ApprovalLife::Pending {
                since: approval.asked_at,
                until: now,
            };
            state
                .may_approve(person, &asked)
                .map_err(Unseen::NotTheirs)?;
            let name = |who: &Handle| state.sponsor_name(who);
            let stage = match approval.life {
                life if life.expired(now) => return Err(over("Its time is over.")),
                ApprovalLife::Pending { .. } => match state.may_approve(person, approval) {
                    Ok(()) => Stage::Asked,
                    Err(_) => Stage::Joined,
                },
                ApprovalLife::Granted { until, .. } => Stage::Granted(until),
                ApprovalLife::Refused { since, .. } => {
                    let by = approval.refused.as_ref().map(|it| name(&it.by));
                    let by = by.unwrap_or_else(|| "somebody".to_owned());
                    return Err(over(&format!("{by} refused it at {since}.")));
                }
                ApprovalLife::Used { since } => {
                    return Err(over(&format!(
                        "It was approved, and the call was made at {since}."
                    )));
                }
                ApprovalLife::Over { since, .. } => {
                    return Err(over(&format!("It ended at {since}, and was not used.")));
                }
            };
            let Known::Named(request) = &approval.request else {
                return Err(Unseen::Unreadable);
            };
            let granted = approval.granted.iter();
            let granted = granted.map(|it| format!("{} at {}", name(&it.by), it.at));
            let granted: Vec<String> = granted.collect();
            let rows = vec![
                ("Asked at", approval.asked_at.to_string()),
                ("You can answer until", approval.until().to_string()),
                ("Who may approve", request.needs.to_string()),
                (
                    "Approved by",
                    if granted.is_empty() {
                        "nobody yet".to_owned()
                    } else {
                        granted.join(", ")
                    },
                ),
            ];
            Ok(Seen {
                rows,
                shown: request.shown.clone(),
                stage,
            })
        })
    }

    fn unseen(&self, why: &Unseen) -> Response {
        let (status, title, text) = match why {
            Unseen::Unknown => (
                StatusCode::NOT_FOUND,
                "There is no such approval",
                "None of that name is waiting, or was lately. Ask for the call again if you still \
                 want it."
                    .to_owned(),
            ),
            Unseen::NotTheirs(why) => (
                StatusCode::FORBIDDEN,
                "This is not for you to approve",
                format!("It cannot be you: {why}."),
            ),
            Unseen::Over(what) => (
                StatusCode::GONE,
                "Nobody is asked any more",
                format!("{what} There is nothing left to answer."),
            ),
            Unseen::Unreadable => (
                StatusCode::GONE,
                "Nobody can say what this was",
                "What was asked cannot be read any more, so nobody can approve it.".to_owned(),
            ),
        };
        self.note("not-an-approver", "people");
        self.refuse(status, title, &text)
    }

    fn approval_page(&self, id: &Handle, session: &Session, warning: Option<&str>) -> Response {
        let Ok(name) = self.people.issuer.active_person(&session.person) else {
            return unavailable();
        };
        let seen = match self.seen(id, &session.person) {
            Ok(seen) => seen,
            Err(why) => return self.unseen(&why),
        };
        let digest = Digest::of(seen.shown.as_bytes()).to_string();
        let mut page = Page::new("May this call be made?");
        if let Some(warning) = warning {
            page = page.warning(warning);
        }
        page = page.table(seen.rows).pre(&seen.shown);
        if let Some(warning) = approvers::look_alikes(&seen.shown) {
            page = page.warning(&warning);
        }
        page = match seen.stage {
            Stage::Asked => page.text(
                "If you approve, this one call may be made once, exactly as it stands here. \
                 Anything else is asked about anew.",
            ),
            Stage::Joined => page.text("You approved it, and somebody else has to as well."),
            Stage::Granted(until) => page.text(&format!(
                "It is approved: the call may be made once until {until}. As long as it was not, you \
                 can still refuse."
            )),
        };
        page = page
            .text(&format!("What is kept of this text: {digest}"))
            .form(
                &format!("/approve/{id}"),
                &[("form", session.form()), ("shown", &digest)],
            );
        if let Stage::Asked = seen.stage {
            page = page.button("approve", "Approve this call", true);
        }
        let page = page
            .button("refuse", "Refuse", false)
            .end_form()
            .signed_in(&name, session.form())
            .marked(self.people.local);
        html(StatusCode::OK, &page)
    }

    /// What came of an answer.
    fn answered(&self, id: &Handle) -> Response {
        let life = self.shared.plane.control().view(|state| {
            let approval = state.approval(id)?;
            Some(approval.life)
        });
        let (title, text) = match life {
            Some(ApprovalLife::Pending { .. }) => (
                "You approved it",
                "Somebody else has to as well, before the call may be made.".to_owned(),
            ),
            Some(ApprovalLife::Granted { until, .. }) => (
                "Approved",
                format!(
                    "The call may be made once until {until}, if the agent asks for it again. As \
                     long as it was not, you can still refuse on the page where you approved."
                ),
            ),
            Some(ApprovalLife::Refused { until, .. }) => (
                "Refused",
                format!("This call is refused until {until}, however often it is asked for."),
            ),
            Some(ApprovalLife::Used { .. }) => {
                ("Approved", "The call was made already.".to_owned())
            }
            Some(ApprovalLife::Over { .. }) | None => (
                "Answered",
                "It is over by now, and was not used.".to_owned(),
            ),
        };
        let page = Page::plain(title, &text).link("/approve", "What else waits for you");
        html(StatusCode::OK, &page.marked(self.people.local))
    }
}

fn over(what: &str) -> Unseen {
    Unseen::Over(what.to_owned())
}

/// `GET /approve`: what waits for whoever is signed in.
pub(super) async fn list(State(app): Shared, request: Request) -> Response {
    let Some(session) = app.people.session(request.headers()) else {
        return app.sign_in("/approve").await;
    };
    let Ok(name) = app.people.issuer.active_person(&session.person) else {
        return unavailable();
    };
    let now = app.people.clock.now();
    let waiting: Vec<(Handle, String)> = app.shared.plane.control().view(|state| {
        let theirs = state.approvals().filter(|approval| {
            approval.is_pending(now) && state.may_approve(&session.person, approval).is_ok()
        });
        let line = |it: &std::sync::Arc<Approval>| {
            let what = it.tool.as_ref().map_or(&*it.method, |tool| tool.as_str());
            let text = format!(
                "{} asks for {what} at {}, until {}",
                it.agent,
                it.upstream,
                it.until()
            );
            (it.id.clone(), text)
        };
        theirs.map(line).collect()
    });
    let mut page = Page::new("Calls that wait for you");
    if waiting.is_empty() {
        page = page.text("There is none: nothing waits for your approval.");
    }
    for (id, text) in waiting.iter().take(LISTED_MAX) {
        page = page.link(&format!("/approve/{id}"), text);
    }
    let more = waiting.len().saturating_sub(LISTED_MAX);
    if more > 0 {
        page = page.text(&format!("{more} more are listed when these are answered."));
    }
    let page = page
        .signed_in(&name, session.form())
        .marked(app.people.local);
    html(StatusCode::OK, &page)
}

/// `GET /approve/{id}`.
pub(super) async fn show(State(app): Shared, Path(id): Path<String>, request: Request) -> Response {
    let Ok(id) = id.parse::<Handle>() else {
        return app.unseen(&Unseen::Unknown);
    };
    match app.people.session(request.headers()) {
        Some(session) => app.approval_page(&id, &session, None),
        None => app.sign_in(&format!("/approve/{id}")).await,
    }
}

/// `POST /approve/{id}`.
pub(super) async fn answer(
    State(app): Shared,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(id) = id.parse::<Handle>() else {
        return app.unseen(&Unseen::Unknown);
    };
    // Who is signed in is asked when all of it is here, however slowly it came.
    let fields = Fields::read(body).await;
    let Some(session) = app.people.session(&parts.headers) else {
        return app.sign_in(&format!("/approve/{id}")).await;
    };
    let Some(fields) = fields.filter(|fields| session.is_ours(fields.get("form"))) else {
        let text = "The form was not one of this page's.";
        app.note("bad-consent", "people");
        return app.refuse(StatusCode::FORBIDDEN, "Nothing was answered", text);
    };
    let seen = match app.seen(&id, &session.person) {
        Ok(seen) => seen,
        Err(why) => return app.unseen(&why),
    };
    if Digest::of(seen.shown.as_bytes()).to_string() != fields.get("shown") {
        let warning = "That answer was to another text than this. Nothing was answered.";
        return app.approval_page(&id, &session, Some(warning));
    }
    let by = session.person.clone();
    let (sign_in, signed_in) = (session.sign_in, Some(SignedIn::Here(session.began)));
    let command = match fields.get("answer") {
        "approve" => ApprovalCommand::Grant {
            id: id.clone(),
            by,
            sign_in,
            signed_in,
        },
        "refuse" => ApprovalCommand::Refuse {
            id: id.clone(),
            by,
            sign_in,
            signed_in,
        },
        _ => {
            let text = "The form says neither that you approve nor that you refuse.";
            app.note("bad-consent", "people");
            return app.refuse(StatusCode::BAD_REQUEST, "Nothing was answered", text);
        }
    };
    let actor = Actor {
        kind: ActorKind::Person,
        id: session.person.to_string(),
        credential: session.sign_in.as_str().to_owned(),
        verified: true,
    };
    let control = app.shared.plane.control();
    match control.execute(actor, Command::Approval(command)).await {
        Ok(_) => app.answered(&id),
        Err(CommandError::Refused(refusal)) => {
            app.note("refused-approval", "people");
            let status = match &refusal {
                Refusal::Approval(ApprovalRefusal::Over { .. }) => StatusCode::GONE,
                _ => StatusCode::CONFLICT,
            };
            app.refuse(status, "Nothing was answered", &format!("{refusal}."))
        }
        Err(error) => {
            tracing::error!(error = %error, "An answer to an approval could not be put on record");
            unavailable()
        }
    }
}
