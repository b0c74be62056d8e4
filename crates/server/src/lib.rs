//! The program `tipstaff`: configuration, wiring, listeners, administration and the command line.

pub mod admin;
pub mod anchor;
pub mod cli;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod http;
pub mod init;
pub mod keys;
pub mod node;
pub mod outbound;
pub mod output;
pub mod policies;
pub mod trace;
pub mod upstream;
