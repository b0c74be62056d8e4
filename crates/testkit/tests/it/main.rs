//! Everything at once: the whole node in process, real HTTP, real files, scripted upstreams.

#[cfg(test)]
mod access_requests;
#[cfg(test)]
mod admin;
#[cfg(test)]
mod anchors;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod approvers;
#[cfg(test)]
mod authzen;
#[cfg(test)]
mod break_glass;
#[cfg(test)]
mod browsers;
#[cfg(test)]
mod closed;
#[cfg(test)]
mod common;
#[cfg(test)]
mod coverage;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod cutoff;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod delegation;
#[cfg(test)]
mod directory;
#[cfg(test)]
mod eras;
#[cfg(test)]
mod exchanged_tokens;
#[cfg(test)]
mod ext_authz;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inspection;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod load;
#[cfg(test)]
mod names;
#[cfg(test)]
mod no_secret_byte;
#[cfg(test)]
mod offline;
#[cfg(test)]
mod openbao;
#[cfg(test)]
mod people;
#[cfg(test)]
mod people_attacks;
#[cfg(test)]
mod pep;
#[cfg(test)]
mod pins;
#[cfg(test)]
mod replays;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod routed;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod setback;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod stdio;
#[cfg(test)]
mod stops;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod upstream_tokens;
#[cfg(test)]
mod walk;
mod ways;
#[cfg(test)]
mod words;
#[cfg(test)]
mod workloads;
