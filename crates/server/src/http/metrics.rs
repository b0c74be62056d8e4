//! `GET /metrics`: what operators count, in the Prometheus text format. Labels come from closed
//! sets.

use std::fmt::{Display, Write as _};

use axum::extract::State;
use axum::response::Response;
use gateway::{NameFault, PinState};
use http::StatusCode;
use ledger::Log as _;
use policy::Stage;
use vocab::{InstanceId, LogName, Time};

use super::{Routed, cached, with_type};
use crate::node::{Shared, VERSION};

/// A metric: what the reference says of it.
#[derive(Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// Whether it only grows while the node runs; a gauge if not.
    pub counter: bool,
    /// What it is, with its labels.
    pub help: &'static str,
}

macro_rules! families {
    ($($constant:ident $name:literal $counter:literal $help:literal;)*) => {
        $(const $constant: Family = Family { name: $name, counter: $counter, help: $help };)*
        /// Every metric, in the order in which they are written.
        pub const FAMILIES: &[Family] = &[$($constant),*];
    };
}

families! {
    BUILD "tipstaff_build_info" false "Always 1; the label `version` is the program's.";
    SERVING "tipstaff_serving" false "1 if calls are taken, 0 if the node is stopping, paused or failed.";
    DECISIONS "tipstaff_decisions_total" true "Decisions by `effect` (allow, deny) and, of denials, the `stage` that made them.";
    ANSWERS "tipstaff_answers_total" true "Decisions told to policy enforcement points, by how they asked (`over`: authzen, ext-authz) and `effect`; those without a record are denials too.";
    OUTCOMES "tipstaff_outcomes_total" true "What came of permitted calls, by `result`: not-sent, unknown, completed.";
    REFUSED "tipstaff_refused_total" true "Requests refused before there was anything to decide, by `cause` and the place `at` which.";
    IN_FLIGHT "tipstaff_calls_in_flight" false "Calls that have no outcome yet.";
    SESSIONS "tipstaff_sessions_open" false "Sessions of the legacy era that are open.";
    INSTANCES "tipstaff_instances_active" false "Instances that may act now.";
    BREAK_GLASS "tipstaff_break_glass_open" false "Agents that run by break-glass, although nobody who may answers for them.";
    APPROVALS "tipstaff_approvals" false "Approvals that wait: for people (`pending`), or for their calls (`granted`).";
    APPROVALS_TOTAL "tipstaff_approvals_total" true "Approvals since the start: `asked` for, `used` by their calls, `expired` before they were.";
    UNDER_GLASS "tipstaff_break_glass_calls_total" true "Calls permitted that only break-glass let.";
    FINDINGS "tipstaff_findings_total" true "What inspection found, by `class` and `direction` (request, response).";
    MASKED "tipstaff_masked_total" true "Messages that went on with masks in them, by `direction`.";
    WITHHELD "tipstaff_withheld_total" true "Calls of which something that came back was withheld for what was found in it.";
    WARNED "tipstaff_warned_total" true "Calls permitted with a warning.";
    RETURNED "tipstaff_credentials_returned_total" true "Tokens and leases that instances, or upstreams, had and that were to be revoked when those were over, or at a stop, by `result`: revoked, irrevocable, failed.";
    ROUTED "tipstaff_routed_total" true "Calls permitted that policy sent to another upstream than was asked.";
    OBSERVING "tipstaff_upstream_observing" false "1 if what policy denies passes at this `upstream` (observe mode), 0 if not.";
    TOOLS "tipstaff_upstream_tools" false "Tools of this `upstream`, by what has become of their definitions (`state`): accepted, new, changed, refused, gone. Those that are new, changed or refused cannot be called.";
    PUT_OFF "tipstaff_upstream_listings_put_off_total" true "Listings of this `upstream` whose changes were not put on record, because its tools change too often.";
    LOOK_ALIKES "tipstaff_tools_look_alike" false "Listed tools that a reader could take for a tool of another name, over all upstreams.";
    NAMES "tipstaff_policy_names_faulty" false "Sponsors and groups that the policies in force name, by what is wrong with the name (`fault`): unknown, renamed, taken.";
    ENTRIES "tipstaff_ledger_entries" false "Durable entries, by `log`.";
    LAG "tipstaff_ledger_checkpoint_lag_entries" false "Durable entries that no published checkpoint covers yet, by `log`.";
    COMMITS "tipstaff_ledger_commits_total" true "Group commits, each one flush, by `log`.";
    BYTES "tipstaff_ledger_bytes_total" true "Bytes of entries and sealed parts made durable, by `log`.";
    QUEUE "tipstaff_ledger_queue" false "Appends that wait for a commit, by `log`.";
    WRITABLE "tipstaff_ledger_writable" false "1 if the last commit was written, 0 if not, by `log`.";
    PUBLISHING "tipstaff_ledger_publishing" false "1 if the last checkpoint was published, 0 if not, by `log`.";
    ANCHORED "tipstaff_anchor_ok" false "1 if the last push to an anchor went through, 0 if not, by the anchor's number in the configuration.";
    HOOKED "tipstaff_webhook_messages_total" true "Attempts to tell the approvals' webhook something, by `result`: taken, failed.";
    HOOK_WAITING "tipstaff_webhook_waiting" false "Messages that the approvals' webhook did not take yet.";
    DISK "tipstaff_disk_free_bytes" false "Bytes that may still be written to the data folder's file system.";
}

/// In the order in which they are counted.
const DIRECTIONS: [&str; 2] = ["request", "response"];

/// `GET /metrics`.
pub(super) async fn metrics(State(routes): Routed) -> Response {
    match routes.blocking(page).await {
        Some(page) => {
            let media_type = "text/plain; version=0.0.4; charset=utf-8";
            cached(with_type(StatusCode::OK, media_type, page), "no-store")
        }
        None => with_type(
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain; charset=utf-8",
            "",
        ),
    }
}

/// The page as it is written.
struct Page(String);

impl Page {
    fn family(&mut self, family: &Family) {
        let Family {
            name,
            counter,
            help,
        } = family;
        let kind = if *counter { "counter" } else { "gauge" };
        let _infallible = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Label values are words, names and versions of ours: none needs escaping.
    fn sample(&mut self, family: &Family, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(family.name);
        for (nth, (label, text)) in labels.iter().enumerate() {
            let before = if nth == 0 { '{' } else { ',' };
            let _infallible = write!(self.0, "{before}{label}=\"{text}\"");
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _infallible = writeln!(self.0, "{after} {value}");
    }

    fn one(&mut self, family: &Family, value: impl Display) {
        self.family(family);
        self.sample(family, &[], value);
    }
}

fn page(shared: &Shared) -> String {
    let mut page = Page(String::new());
    page.family(&BUILD);
    page.sample(&BUILD, &[("version", VERSION)], 1);
    let plane = &shared.plane;
    page.one(&SERVING, u8::from(plane.life().check().is_ok()));
    let counters = plane.metrics();
    page.family(&DECISIONS);
    page.sample(&DECISIONS, &[("effect", "allow")], counters.allowed());
    for (stage, count) in counters.denied() {
        let effect = match stage {
            Stage::Approval => "hold",
            _ => "deny",
        };
        page.sample(
            &DECISIONS,
            &[("effect", effect), ("stage", stage.as_str())],
            count,
        );
    }
    page.family(&ANSWERS);
    for (over, counts) in counters.answers() {
        for (effect, count) in ["deny", "allow"].iter().zip(counts) {
            page.sample(
                &ANSWERS,
                &[("over", over.as_str()), ("effect", effect)],
                count,
            );
        }
    }
    page.family(&OUTCOMES);
    for (result, count) in ["not-sent", "unknown", "completed"]
        .iter()
        .zip(counters.outcomes())
    {
        page.sample(&OUTCOMES, &[("result", result)], count);
    }
    page.family(&REFUSED);
    for (cause, at, count) in plane.refusals().totals() {
        page.sample(&REFUSED, &[("cause", cause), ("at", at)], count);
    }
    page.one(&IN_FLIGHT, plane.in_flight());
    page.one(&SESSIONS, plane.sessions_open());
    let now = shared.clock.now();
    page.one(&INSTANCES, active(plane, now));
    page.one(&BREAK_GLASS, crate::break_glass::open(shared).len());
    page.family(&APPROVALS);
    for (state, count) in crate::approvals::waiting(shared) {
        page.sample(&APPROVALS, &[("state", state)], count);
    }
    page.family(&APPROVALS_TOTAL);
    for (came, count) in counters.approvals() {
        page.sample(&APPROVALS_TOTAL, &[("came", came)], count);
    }
    page.one(&UNDER_GLASS, counters.allowed_under_glass());
    page.family(&FINDINGS);
    for (class, counts) in counters.findings() {
        for (direction, count) in DIRECTIONS.iter().zip(counts) {
            let labels = [("class", class.as_str()), ("direction", direction)];
            page.sample(&FINDINGS, &labels, count);
        }
    }
    page.family(&MASKED);
    for (direction, count) in DIRECTIONS.iter().zip(counters.masks()) {
        page.sample(&MASKED, &[("direction", direction)], count);
    }
    page.one(&WITHHELD, counters.answers_withheld());
    page.one(&WARNED, counters.allowed_with_warning());
    page.family(&RETURNED);
    for (result, count) in plane.returned() {
        page.sample(&RETURNED, &[("result", result.as_str())], count);
    }
    page.one(&ROUTED, counters.sent_elsewhere());
    page.family(&OBSERVING);
    for served in plane.upstreams() {
        let observing = served.observe_until().is_some_and(|until| now < until);
        page.sample(
            &OBSERVING,
            &[("upstream", served.name().as_str())],
            u8::from(observing),
        );
    }
    page.family(&TOOLS);
    for (upstream, pins) in plane.pins() {
        for state in PinState::ALL {
            let states = pins.tools().map(|(_, pin)| pin.state());
            page.sample(
                &TOOLS,
                &[("upstream", upstream.as_str()), ("state", state.as_str())],
                states.filter(|it| *it == state).count(),
            );
        }
    }
    page.family(&PUT_OFF);
    for served in plane.upstreams() {
        let (put_off, _) = served.listings_put_off();
        page.sample(&PUT_OFF, &[("upstream", served.name().as_str())], put_off);
    }
    let alike = plane.look_alikes();
    page.one(&LOOK_ALIKES, alike.iter().filter(|it| !it.same).count());
    page.family(&NAMES);
    let faulty = plane.faulty_names();
    for fault in NameFault::ALL {
        let count = faulty.iter().filter(|it| it.fault == fault).count();
        page.sample(&NAMES, &[("fault", fault.as_str())], count);
    }
    logs(&mut page, shared);
    page.family(&ANCHORED);
    for (nth, anchor) in shared.anchors.states().iter().enumerate() {
        let nth = nth.to_string();
        page.sample(
            &ANCHORED,
            &[("anchor", &nth)],
            u8::from(anchor.failure.is_none()),
        );
    }
    let webhook = shared.webhook.as_ref().map(|it| it.health());
    page.family(&HOOKED);
    if let Some(health) = &webhook {
        page.sample(&HOOKED, &[("result", "taken")], health.taken);
        page.sample(&HOOKED, &[("result", "failed")], health.failed);
    }
    page.family(&HOOK_WAITING);
    if let Some(health) = &webhook {
        page.sample(&HOOK_WAITING, &[], health.waiting);
    }
    page.family(&DISK);
    if let Ok(free) = store::free_bytes(&shared.config.data) {
        page.sample(&DISK, &[], free);
    }
    page.0
}

/// How many instances may act. In parts, so that no command waits for a look at all of them.
fn active(plane: &gateway::Plane, now: Time) -> usize {
    const PART: usize = 1_000;
    let control = plane.control();
    let ids: Vec<_> = control.view(|state| {
        let running = state.unexpired_instances(now);
        running.map(|it| it.id.clone()).collect()
    });
    let parts = ids.chunks(PART).map(|part| {
        control.view(|state| {
            let stands = |id: &&InstanceId| state.standing(id, now).active().is_ok();
            part.iter().filter(stands).count()
        })
    });
    parts.sum()
}

fn logs(page: &mut Page, shared: &Shared) {
    let logs = LogName::ALL.map(|name| {
        let health = shared.log(name).health();
        let reader = shared.log(name).reader();
        // The file itself says what is published: right after a start the counter does not.
        let published = reader.checkpoint().ok().flatten();
        let published = published.map_or(0, |note| super::tiles::published(&note));
        (name, reader.size().saturating_sub(published), health)
    });
    let mut each = |family: &Family, value: &dyn Fn(&store::Health, u64) -> u64| {
        page.family(family);
        for (name, lag, health) in &logs {
            page.sample(family, &[("log", name.as_str())], value(health, *lag));
        }
    };
    each(&ENTRIES, &|health, _| health.entries);
    each(&LAG, &|_, lag| lag);
    each(&COMMITS, &|health, _| health.commits);
    each(&BYTES, &|health, _| health.bytes);
    each(&QUEUE, &|health, _| {
        u64::try_from(health.waiting).unwrap_or(u64::MAX)
    });
    each(&WRITABLE, &|health, _| u64::from(health.writable));
    each(&PUBLISHING, &|health, _| u64::from(health.publishing));
}
