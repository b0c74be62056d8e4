//! OAuth for agents: who may have an access token, and who sent a request.
//!
//! [`Issuer`] is both halves. As authorization server it takes a [`TokenRequest`] of an agent that
//! authenticates with a signed assertion (`private_key_jwt`), has the register start or continue
//! an instance, and signs an access token of five minutes for one upstream. As resource server it
//! takes the headers of a request and gives a [`Caller`], which nothing else can make, or a
//! [`Challenge`].
//!
//! A token says who acts, for whom and why. It never grants: what an instance may do is policy's,
//! and whether it may act at all is looked up in the register each time.
//!
//! There are no sockets here, and no clock: functions over headers and forms. This crate never
//! sees an upstream's credential.
//!
//! | module | is |
//! |---|---|
//! | [`jwk`] | keys, read from what others wrote; signatures |
//! | [`client`] | the agent's side: assertions and proofs |
//! | `jws`, `json`, `form`, `request` | strict parsing |
//! | `assertion`, `dpop`, `fresh`, `replay` | who asks, now and once |
//! | `issuer`, `exchange`, `verify`, `access`, `cache`, `metadata` | tokens given and taken |

mod access;
mod assertion;
mod cache;
mod dpop;
mod exchange;
mod form;
mod fresh;
mod issued;
mod issuer;
mod json;
mod jws;
mod metadata;
mod replay;
mod request;
mod signer;
mod uri;
mod verify;

pub mod client;
pub mod jwk;

pub use access::ClaimsError;
pub use assertion::{AssertionError, Unproven};
pub use client::{AgentKey, AgentKeyError, DpopKey, HandingOn};
pub use dpop::ProofError;
pub use exchange::ExchangeError;
pub use form::FormError;
pub use fresh::Stale;
pub use issuer::{Issuer, IssuerConfig, IssuerError, TokenError, TokenResponse, UpstreamExists};
pub use json::JsonError;
pub use jwk::{Algorithm, JwkError, PrivateKey, PublicKey};
pub use jws::JwsError;
#[doc(hidden)]
pub use jws::read_anything;
pub use request::{DPOP, RequestError, RevocationRequest, TokenRequest};
pub use signer::{Es256Key, Es256KeyError, SignError, Signing, TokenSigner};
pub use uri::{PublicUrl, PublicUrlError, Resource, endpoint};
pub use verify::{Caller, Challenge, VerifyError};

#[cfg(test)]
mod tests;
