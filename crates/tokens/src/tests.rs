//! A whole issuer over a real register in a temporary folder, a client's keys, and tables of what
//! strangers may send.

mod bench;
mod exchange;
mod foreign;
mod forge;
mod metadata;
mod people;
mod rotation;
mod token;
mod vectors;
mod verify;
