//! Upstreams' credentials: where they come from, who may have one for how long, and how one is
//! recognised that comes back.
//!
//! An [`Account`] is what one upstream is reached with: sources, never values. Whoever sends asks it
//! for a [`Credential`] each time ([`Account::lease`]), so that what was changed is used by the next
//! call and what is absent, unreadable or late lets nothing go out. A [`Vault`] is the local file
//! that keeps secrets, sealed; a [`Bao`] is an OpenBao or HashiCorp Vault server. Where an upstream
//! wants a token, a [`TokenEndpoint`] is asked for one, and what it gave is kept until shortly before
//! it expires. Where each instance has something of its own, a [`Lessee`] has it, and gives it back
//! when the instance is over. An [`Echo`] finds what was leased in what an upstream says.
//!
//! What this crate must never do: see an agent's token, or an agent's request. It knows nothing of
//! HTTP but the form of headers, and it gives values to nobody but those who send to the upstream
//! that they belong to. A [`Credential`] is not `Clone` and shows nothing of itself.

mod account;
mod bao;
mod bearer;
mod echo;
mod header;
mod leases;
mod lessee;
mod reads;
mod source;
mod vault;

pub use account::{Account, Credential, Fingerprint, Grant, LeaseError};
#[doc(hidden)]
pub use bao::read_bao_answer;
pub use bao::{Bao, BaoAnswering, BaoAuth, BaoError, BaoRequest, BaoServer};
pub use bearer::{
    Asking, RevokeError, Revoking, TOKEN_BYTES_MAX, TokenEndpoint, TokenError, read_token_answer,
};
pub use echo::{ECHO_BYTES_MIN, Echo, MASK};
pub use header::{HeaderError, HeaderTemplate};
pub use leases::Baos;
pub use lessee::{Ending, GivenBack, Lessee};
pub use reads::ReadError;
pub use source::{BaoRef, ReferenceError, SECRET_BYTES_MAX, Source, SourceError};
pub use vault::{Change, Changed, Listed, SECRETS_MAX, Vault, VaultError};
