//! The program as people run it: processes, signals and files.

#[cfg(test)]
mod children;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod delegation;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod node;
mod policies;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod trouble;
#[cfg(test)]
mod upstreams;
#[cfg(test)]
mod witness;
