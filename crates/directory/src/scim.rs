//! SCIM 2.0 (RFC 7643, RFC 7644): what a directory says of people and groups.

pub mod error;
pub mod filter;
pub mod patch;
pub mod query;
pub mod resource;
pub mod schema;
