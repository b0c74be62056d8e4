//! The Model Context Protocol as Tipstaff speaks it: frames, methods, header rules, errors,
//! server-sent events, and the translation between the two eras of the protocol.
//!
//! This crate is pure protocol. It does no IO, decides nothing and knows no policy. It never
//! re-serialises what it forwards: a [`Frame`] keeps the bytes it was read from, and edits are
//! spliced into them by span, so that arguments and members it does not know pass byte for byte.
//!
//! Main types: [`Json`] (a checked document), [`Frame`] (one JSON-RPC message), [`Opening`] (the era
//! that a message over HTTP is of).

pub mod capabilities;
pub mod error;
pub mod frame;
pub mod headers;
pub mod json;
pub mod method;
pub mod sse;
pub mod translate;

pub use error::ProtocolError;
pub use frame::{
    Edit, Frame, FrameError, Notification, Param, ReplyEdit, Request, Response, definition, meta,
};
pub use headers::Opening;
pub use json::{Json, JsonError, Raw, Value};
pub use method::{Era, Free, List, Method, ProtocolVersion};
