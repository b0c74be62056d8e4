//! Everything at once: the whole node in process, real HTTP, real files, scripted upstreams.

#[cfg(test)]
mod walk;
