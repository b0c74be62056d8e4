//! Every limit of the program, in one place. The unit is in the name.

/// Longest request body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest response body or single event taken from an upstream, in bytes.
pub const RESPONSE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Deepest nesting of arrays and objects in a JSON document.
pub const JSON_DEPTH_MAX: usize = 64;
/// Most members and elements in one JSON document.
pub const JSON_NODES_MAX: usize = 200_000;
/// Longest single header value that is looked at, in bytes.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest access token, client assertion or proof, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest ledger entry, in bytes; the tile format cannot carry more than 65,535.
pub const ENTRY_BYTES_MAX: usize = 65_535;
/// Longest sealed part of an entry, in bytes.
pub const SEALED_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Longest tool name, in bytes.
pub const TOOL_NAME_BYTES_MAX: usize = 256;
/// Most tools taken from one upstream.
pub const TOOLS_MAX: usize = 2_000;
/// Longest tool list kept, in bytes.
pub const TOOL_LIST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most pages followed in one listing.
pub const PAGES_MAX: usize = 200;
/// Deepest purpose path, in segments.
pub const PURPOSE_DEPTH_MAX: usize = 8;
/// Calls in flight at once for one instance.
pub const INFLIGHT_PER_INSTANCE_MAX: usize = 64;
/// Legacy sessions open at once for one instance.
pub const SESSIONS_PER_INSTANCE_MAX: usize = 32;
/// Entries one group commit takes.
pub const COMMIT_ENTRIES_MAX: usize = 512;
/// Appends waiting for a group commit before new ones are refused.
pub const APPEND_QUEUE_MAX: usize = 4_096;
/// Proofs and assertions remembered so that none is used twice.
pub const REPLAY_CACHE_MAX: usize = 262_144;
