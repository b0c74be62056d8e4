//! The program `tipstaff`: configuration, wiring, listeners, administration and the command line.
//!
//! [`node::Node`] puts the parts together: files, register, issuer, gateway, listeners. Everything a
//! user types is a [`cli::Command`]; what changes the node goes through [`admin`], a Unix socket that
//! knows who is calling. This crate decides nothing, verifies no token and writes no entry of its
//! own making: that is the other crates', and here they meet.

pub mod admin;
pub mod anchor;
pub mod approvals;
pub mod approvers;
mod asking;
pub mod break_glass;
pub mod certificate;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connect;
mod definitions;
pub mod demo;
pub mod doctor;
pub mod fetch;
pub mod handing_on;
pub mod http;
pub mod init;
pub mod inspection;
pub mod keys;
mod lane;
mod listen;
pub mod log_keys;
pub mod logging;
mod names;
pub mod node;
pub mod openbao;
pub mod outbound;
pub mod output;
pub mod people;
pub mod policies;
pub mod quorum;
pub mod review;
pub mod rotation;
pub mod secrets;
pub mod signals;
pub mod token;
pub mod trace;
mod trust;
pub mod upstream;
pub mod upstream_tokens;
pub mod webhook;
pub mod witness;
pub mod wrapping;

/// A call allocates on one thread and frees on the thread that writes its log: with the C library's
/// arenas that is a contended lock for most of what it frees.
#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
