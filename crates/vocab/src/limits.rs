//! Every limit of the program, in one place. The unit is in the name.

/// Longest request body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a client may take to send it, in seconds.
pub const BODY_SECONDS_MAX: u64 = 30;
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
/// Most tools of one upstream whose definitions are pinned, those that it lists no more included.
pub const PINNED_TOOLS_MAX: usize = 2 * TOOLS_MAX;
/// Longest list of pins of one upstream, in bytes: what was accepted, and what is listed instead.
pub const PINS_BYTES_MAX: usize = 4 * TOOL_LIST_BYTES_MAX;
/// Least time between two listings that an upstream's notifications ask for, in milliseconds.
pub const LISTINGS_EVERY_MS: u64 = 1_000;
/// Changes of an upstream's tools that are put on record as they come; those after it ever more
/// rarely, until it has been quiet for [`LISTINGS_CALM_SECONDS`].
pub const LISTINGS_BURST: u32 = 16;
/// How long an upstream whose tools changed too often waits at most for its next change to be put
/// on record, in seconds; and for how long it has to be quiet for that to be forgotten.
pub const LISTINGS_CALM_SECONDS: u64 = 60 * 60;
/// Most pages followed in one listing.
pub const PAGES_MAX: usize = 200;
/// Deepest purpose path, in segments.
pub const PURPOSE_DEPTH_MAX: usize = 8;
/// Calls in flight at once for one instance.
pub const INFLIGHT_PER_INSTANCE_MAX: usize = 64;
/// Streams open at once on which one instance hears that it may act no more. A newer one ends the
/// oldest.
pub const STANDING_PER_INSTANCE_MAX: usize = 4;
/// Legacy sessions open at once for one instance.
pub const SESSIONS_PER_INSTANCE_MAX: usize = 32;
/// Entries one group commit takes.
pub const COMMIT_ENTRIES_MAX: usize = 512;
/// Appends waiting for a group commit before new ones are refused.
pub const APPEND_QUEUE_MAX: usize = 4_096;
/// Proofs and assertions remembered so that none is used twice. Each is remembered for as long as
/// it is valid, so this must be well over calls per second times [`PROOF_SECONDS_MAX`].
pub const REPLAY_CACHE_MAX: usize = 1 << 20;
/// Longest arguments of a denied call that are kept, in bytes; of longer ones only size and digest.
pub const DENIED_ARGS_BYTES_MAX: usize = 16 * 1024;
/// Most questions to the client that one answer may have.
pub const INPUT_REQUESTS_MAX: usize = 16;
/// Access tokens whose signature need not be checked again.
pub const TOKEN_CACHE_MAX: usize = 16_384;
/// How long an access token is valid, in seconds.
pub const ACCESS_TOKEN_SECONDS: u64 = 300;
/// Furthest ahead that a client assertion may expire, in seconds.
pub const ASSERTION_SECONDS_MAX: u64 = 300;
/// Oldest DPoP proof that is accepted, in seconds.
pub const PROOF_SECONDS_MAX: u64 = 60;
/// How far the clocks of a node and its callers may differ, in seconds.
///
/// It is small on purpose: a node that was killed is followed by one that serves nobody for so long,
/// since proofs dated ahead of the clock may have been taken before.
pub const CLOCK_LEEWAY_SECONDS: u64 = 5;
/// How many instances an agent may end in a minute, if it may not have more at once. What starts and
/// ends without end would fill the logs.
pub const REVOCATIONS_PER_MINUTE_MIN: u32 = 60;
/// Longest body of a token request, in bytes.
pub const FORM_BYTES_MAX: usize = 64 * 1024;
/// Most parameters in a token request.
pub const FORM_PARAMETERS_MAX: usize = 32;
/// Longest `jti` of a proof or an assertion, in bytes.
pub const JTI_BYTES_MAX: usize = 256;
/// Purposes that one agent may be registered for.
pub const PURPOSES_PER_AGENT_MAX: usize = 64;
/// Lines in one agent's allow list.
pub const ALLOW_LINES_MAX: usize = 100;
/// Live instances that one agent may be allowed.
pub const INSTANCES_PER_AGENT_MAX: u32 = 10_000;
/// Deputies that a sponsor may have.
pub const DEPUTIES_MAX: usize = 8;
/// Members of a group that one entry names as come or gone; it has to fit [`ENTRY_BYTES_MAX`].
pub const GROUP_CHANGES_MAX: usize = 1_000;
/// Hops of delegation that an agent may be allowed below its instances.
pub const DELEGATION_DEPTH_MAX: u8 = 16;
/// How long a credential for one call can be used, in seconds.
pub const ONCE_LIFETIME_SECONDS: u64 = 60;
/// How long after the end of its lifetime the register knows an instance yet, in seconds; from then
/// on only the log does. Somebody who comes back later has to start anew.
pub const INSTANCE_KEPT_SECONDS: u64 = 7 * 24 * 60 * 60;
/// The same of a credential for one call, which nobody comes back with.
pub const ONCE_KEPT_SECONDS: u64 = 60 * 60;
/// Credentials for one call that an instance may have at once.
pub const ONCE_PER_INSTANCE_MAX: u32 = 64;
/// Upstreams and services that one policy enforcement point may ask about.
pub const PEP_SERVES_MAX: usize = 64;
/// Evaluations in one request of a policy enforcement point.
pub const EVALUATIONS_MAX: usize = 100;
/// Evaluations of one request that wait for their records at once.
pub const EVALUATIONS_AT_ONCE: usize = 8;
/// Longest life of an instance that an agent may be given, in seconds.
pub const INSTANCE_LIFETIME_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;
/// Longest life of an agent's key, in seconds.
pub const AGENT_KEY_LIFETIME_SECONDS_MAX: u64 = 400 * 24 * 60 * 60;
/// Longest security event token, in bytes.
pub const SET_BYTES_MAX: usize = 16 * 1024;
/// Security events of one stream that are remembered so that none is done twice.
pub const SETS_REMEMBERED_MAX: usize = 65_536;
/// Credentials that the directory may have at once: one in use, and one that takes its place.
pub const DIRECTORY_TOKENS_MAX: usize = 4;
/// Longest body of a request of the directory's, in bytes.
pub const SCIM_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest filter or path in SCIM, in bytes.
pub const SCIM_FILTER_BYTES_MAX: usize = 4 * 1024;
/// Deepest nesting of a filter.
pub const SCIM_FILTER_DEPTH_MAX: usize = 16;
/// Comparisons in one filter.
pub const SCIM_FILTER_TERMS_MAX: usize = 64;
/// Operations in one PATCH.
pub const SCIM_OPERATIONS_MAX: usize = 1_000;
/// Resources on one page of a SCIM list.
pub const SCIM_PAGE_MAX: usize = 200;
/// Values of one attribute, members of a group apart.
pub const SCIM_VALUES_MAX: usize = 32;
/// Members of one group.
pub const SCIM_MEMBERS_MAX: usize = 50_000;
/// Longest text in an attribute, in bytes.
pub const SCIM_TEXT_BYTES_MAX: usize = 1024;
/// Most details that one authority may have.
pub const AUTHORITY_DETAILS_MAX: usize = 32;
/// Longest authority, in bytes of JSON: an entry holds it, with room for the rest.
pub const AUTHORITY_BYTES_MAX: usize = 16 * 1024;
/// Most locations of one detail.
pub const DETAIL_LOCATIONS_MAX: usize = 16;
/// Most arguments that one detail constrains.
pub const DETAIL_ARGUMENTS_MAX: usize = 32;
/// Longest path to an argument, in bytes.
pub const ARGUMENT_PATH_BYTES_MAX: usize = 256;
/// Deepest path to an argument, in names.
pub const ARGUMENT_PATH_DEPTH_MAX: usize = 8;
/// Longest text in a constraint, in bytes.
pub const CONSTRAINT_TEXT_BYTES_MAX: usize = 1_024;
/// Longest text that a prefix or a pattern in a constraint holds for, in bytes: matching takes as long
/// as both lengths multiplied.
pub const MATCHED_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Most values that one constraint may name.
pub const CONSTRAINT_VALUES_MAX: usize = 64;
/// Longest token that somebody else signed, in bytes.
pub const FOREIGN_TOKEN_BYTES_MAX: usize = 24 * 1024;
/// Most keys in another issuer's JWK set.
pub const FOREIGN_KEYS_MAX: usize = 64;
/// Longest document that is fetched from others (metadata, keys, a client's description), in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// How long fetching one document may take, in seconds.
pub const DOCUMENT_SECONDS_MAX: u64 = 5;
/// Workloads' tokens that are remembered, each for as long as it is valid.
pub const WORKLOADS_REMEMBERED_MAX: usize = 100_000;
/// How long an authorization code is valid, in seconds.
pub const CODE_SECONDS: u64 = 60;
/// How long it is remembered that a code was used, in seconds.
pub const CODE_USED_SECONDS: u64 = 600;
/// Authorization codes that are out or remembered at once.
pub const CODES_MAX: usize = 10_000;
/// Longest life and greatest age of an identity assertion (ID-JAG), in seconds.
pub const ID_JAG_SECONDS_MAX: u64 = 600;
/// Longest file of rules for inspection, in bytes.
pub const INSPECT_RULES_BYTES_MAX: usize = 1024 * 1024;
/// Rules for inspection at once.
pub const INSPECT_RULES_MAX: usize = 2_000;
/// Encodings within encodings that inspection undoes.
pub const INSPECT_DEPTH_MAX: usize = 4;
/// Bytes that inspection decodes of any document, beside twice the document's length.
pub const INSPECT_DECODED_BYTES_MIN: usize = 64 * 1024;
/// Findings in one document, after which it is only said that there are more.
pub const INSPECT_FINDINGS_MAX: usize = 1_000;
/// Matches of one rule in one text.
pub const INSPECT_MATCHES_MAX: usize = 200;
/// How much of a text is kept for what goes on in the next chunk or event, in bytes.
pub const INSPECT_TAIL_BYTES: usize = 512;
/// Texts of one stream of which the end is kept.
pub const INSPECT_TAILS_MAX: usize = 1_024;
