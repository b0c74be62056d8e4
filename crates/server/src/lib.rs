//! The program `tipstaff`: configuration, wiring, listeners, administration and the command line.

pub mod admin;
pub mod anchor;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connect;
pub mod demo;
pub mod doctor;
pub mod http;
pub mod init;
pub mod keys;
pub mod logging;
pub mod node;
pub mod outbound;
pub mod output;
pub mod policies;
pub mod token;
pub mod trace;
pub mod upstream;
