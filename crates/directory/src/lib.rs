//! The directory: what it says of sponsors, and what follows.
//!
//! [`scim`] is the server that directories provision people and groups to. It never decides what
//! an agent may do: it turns what was said into commands of the register.

pub mod json;
pub mod scim;
