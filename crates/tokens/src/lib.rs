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
//! | `foreign`, `fetch`, `provider` | tokens that others sign, and where their keys are |
//! | `workload`, `mcp_client`, `redirect`, `authorize`, `refresh`, `login`, `grants` | workloads, and people with their MCP clients |
//! | `assertion`, `dpop`, `fresh`, `replay` | who asks, now and once |
//! | `issuer`, `exchange`, `verify`, `access`, `cache`, `metadata` | tokens given and taken |
//! | `onward` | what an authorization server of others is told |

mod access;
mod assertion;
mod authorize;
mod cache;
mod dpop;
mod exchange;
mod fetch;
mod foreign;
mod form;
mod fresh;
mod grants;
mod introspect;
mod issued;
mod issuer;
mod json;
mod jws;
mod login;
mod mcp_client;
mod metadata;
mod onward;
mod provider;
mod redirect;
mod refresh;
mod replay;
mod request;
mod signer;
mod uri;
mod verify;
mod workload;

pub mod client;
pub mod jwk;

pub use access::ClaimsError;
pub use assertion::{AssertionError, Unproven};
pub use authorize::{Asked, CodeError, CodeRequest, Consent, NotSentBack, SentBack};
pub use client::{AgentKey, AgentKeyError, DpopKey, HandingOn};
pub use dpop::ProofError;
pub use exchange::ExchangeError;
pub use fetch::{Document, Fetch, FetchError, Fetching, NamedBy, WebUrl, WebUrlError};
#[doc(hidden)]
pub use foreign::read_foreign;
pub use foreign::{
    Claims, Expected, FOREIGN_ALGORITHMS, Foreign, ForeignError, ForeignTyp, KeySet, KeySetError,
};
pub use form::{FormError, basic as client_basic, encode as write_form, read_form};
pub use fresh::Stale;
pub use grants::{Choice, IdJagError, NoPerson, RefreshError};
pub use issuer::{
    Issuer, IssuerConfig, IssuerError, TokenError, TokenResponse, Trust, UpstreamExists,
};
pub use json::JsonError;
pub use jwk::{Algorithm, JwkError, PrivateKey, PublicKey};
pub use jws::JwsError;
#[doc(hidden)]
pub use jws::read_anything;
pub use login::{Begun, Login, LoginConfig, LoginError, PersonClaim, Returned, Sealer};
#[doc(hidden)]
pub use mcp_client::read_client;
pub use mcp_client::{ClientKeys, McpClient, McpClientError, McpClients, Proves};
pub use onward::{SubjectName, VouchError, Vouched};
pub use provider::{Discovered, Provider, ProviderError, Source, discovery_url};
pub use redirect::{RedirectError, RedirectUri};
pub use request::{DPOP, OwnTokenRequest, RequestError, TokenRequest};
pub use signer::{Es256Key, Es256KeyError, SignError, Signing, TokenSigner};
pub use uri::{PublicUrl, PublicUrlError, Resource, endpoint};
pub use verify::{Caller, Challenge, VerifyError, instance_assertion};
pub use workload::{ClaimRule, WorkloadError, WorkloadRule, Workloads};

#[cfg(test)]
mod tests;
