//! The configuration file.

use std::path::Path;

use server::config::Config;

use crate::text;

/// A configuration is taken, or the error says something.
pub fn config(data: &[u8]) -> bool {
    let Some(text) = text(data) else {
        return false;
    };
    match Config::parse(Path::new("tipstaff.toml"), text) {
        Ok(_) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}
