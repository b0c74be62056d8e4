//! The program `tipstaff`: configuration, wiring, listeners, administration and the command line.

pub mod config;
