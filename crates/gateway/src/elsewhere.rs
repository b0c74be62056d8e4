//! Decisions for those who act on them elsewhere: an MCP server, a service or another gateway that
//! lets through what is permitted here, and asks before it does.
//!
//! An answer discloses policy, so only a registered policy enforcement point gets one, only about
//! what it stands in front of, and only as a record: it is decided like a call, by the same policies
//! and limits, and it is durable before it is told. What came of it is not ours to say.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use ledger::{Actor, ActorKind};
use mcp::Request;
use mcp::error::{Effect, Verdict};
use policy::Target;
use register::Pep;
use serde_json::value::RawValue;
use tokens::{Caller, Challenge};
use tokio::time::timeout;
use vocab::{Digest, InstanceId, RecordRef, UpstreamName};

use crate::call::{self, Denied, Question, UNRECORDED};
use crate::plane::{Plane, Served};
use crate::record::{Inquiry, Over};

/// A policy enforcement point that showed its token.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) pep: Arc<Pep>,
    pub(crate) over: Over,
}

impl Asker {
    /// Who asks; none if that is nobody who may.
    pub(crate) fn known(plane: &Plane, headers: &HeaderMap, over: Over) -> Option<Self> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        // Found by its digest, so that time says nothing of how much of a guess was right.
        let digest = Digest::of(token.trim_start_matches(' ').as_bytes());
        let pep = plane
            .control
            .view(|state| state.pep_of_token(&digest).cloned())?;
        Some(Self { pep, over })
    }

    /// What it asks about, if it may.
    pub(crate) fn served<'a>(
        &self,
        plane: &'a Plane,
        name: &UpstreamName,
    ) -> Option<&'a Arc<Served>> {
        let serves = self.pep.serves.contains(name);
        plane.upstreams.get(name).filter(|_| serves)
    }

    /// The one thing that it asks about, if it is one.
    pub(crate) fn only(&self) -> Option<&UpstreamName> {
        match self.pep.serves.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// Whose request it is that is asked about.
#[derive(Debug)]
pub(crate) enum Who {
    /// Proven by its token, as if the request had come here.
    Proven(Caller),
    /// The asker says so, and is trusted with that.
    Said(InstanceId),
}

impl Who {
    /// The sender of a request with these headers that the asker got at `uri`.
    pub(crate) fn proven(
        plane: &Plane,
        served: &Served,
        headers: &HeaderMap,
        method: &str,
        uri: &str,
    ) -> Result<Self, Challenge> {
        plane
            .issuer
            .verify_at(headers, method, &served.resource, uri)
            .map(Self::Proven)
    }

    pub(crate) const fn instance(&self) -> &InstanceId {
        match self {
            Self::Proven(caller) => caller.instance(),
            Self::Said(id) => id,
        }
    }

    fn actor(&self) -> Actor {
        match self {
            Self::Proven(caller) => call::actor(caller),
            Self::Said(id) => Actor {
                kind: ActorKind::Instance,
                id: id.to_string(),
                credential: "said".to_owned(),
                verified: false,
            },
        }
    }
}

/// What is asked about.
#[derive(Debug)]
pub(crate) struct Matter<'a> {
    pub(crate) served: &'a Arc<Served>,
    /// The MCP method; that of a tool call for whatever is named as one.
    pub(crate) method: &'a str,
    pub(crate) target: &'a Target,
    pub(crate) args: &'a RawValue,
    /// All of the request that will be made, if the asker shows it.
    pub(crate) request: Option<&'a Request>,
    /// The request's id, as the asker writes it.
    pub(crate) id: &'a str,
    pub(crate) trace: Option<&'a str>,
}

/// Decides, records, and only then says.
pub(crate) async fn answer(
    plane: &Arc<Plane>,
    asker: &Asker,
    who: &Who,
    matter: &Matter<'_>,
) -> Verdict {
    if let Err(why) = plane.life.check() {
        return Denied::unrecorded(why).verdict(plane);
    }
    plane.ensure_tools(matter.served).await;
    let (proven, token, token_key) = match who {
        Who::Proven(caller) => (caller.proven(), caller.token_id(), Some(caller.token_key())),
        Who::Said(_) => (false, "", None),
    };
    let params = matter.request.and_then(Request::params_text);
    let question = Question {
        instance: who.instance(),
        proven,
        token,
        token_key,
        actor: who.actor(),
        served: matter.served,
        method: matter.method,
        target: matter.target,
        args: matter.args,
        passing: params.unwrap_or_else(|| matter.args.get()),
        request: matter.request,
        id: matter.id,
        trace: matter.trace,
        asker: Some((&asker.pep, asker.over)),
    };
    let told = ruled(plane, &question).await;
    plane.metrics.told(asker.over, told.effect == Effect::Allow);
    told
}

async fn ruled(plane: &Arc<Plane>, question: &Question<'_>) -> Verdict {
    // If the record comes to be all the same, it is of a permission that nobody was told of.
    let ruling = call::ruled(plane, question, Inquiry);
    match timeout(plane.settings.record_timeout, ruling).await {
        Err(_elapsed) => Denied::unrecorded(UNRECORDED).verdict(plane),
        Ok(Err(denied)) => denied.verdict(plane),
        Ok(Ok((granted, _flight))) => {
            let record = RecordRef::from(granted.receipt());
            let said = granted.value().policy().verdict();
            let mut verdict = call::verdict(
                plane,
                Effect::Allow,
                &said.reason,
                &said.policies,
                Some(record),
            );
            verdict.warnings = granted.value().policy().warnings().to_vec();
            verdict
        }
    }
}

/// What a stranger is told.
pub(crate) fn challenge() -> HeaderValue {
    HeaderValue::from_static(r#"Bearer realm="tipstaff policy enforcement points""#)
}
