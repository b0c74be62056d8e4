//! SCIM 2.0 (RFC 7643, RFC 7644): what a directory says of people and groups.
//!
//! | module | is |
//! |---|---|
//! | [`schema`] | the table of attributes |
//! | [`filter`], [`patch`], [`query`] | what clients write |
//! | [`resource`] | the attributes of one resource |
//! | [`people`], [`groups`] | users as sponsors, and groups of them |
//! | [`service`] | the routes |

pub mod error;
pub mod filter;
pub mod groups;
pub mod patch;
pub mod people;
pub mod query;
pub mod resource;
pub mod schema;
pub mod service;

pub use service::{Admitted, PATH, Scim, Turned};
