//! Names, times and digests: what stands in URLs, on command lines and in entries.

use std::fmt::Display;
use std::str::FromStr;

use register::{AdminKey, Allow, Email, KeyId, Label, PersonName, Thumbprint, Word};
use vocab::{
    AdminId, AgentId, Digest, Handle, InstanceId, LogName, PurposePath, SponsorId, Time, ToolName,
    TrustDomain, UpstreamName,
};

use crate::text;

/// What was taken as a name is that name, letter for letter; a time is the same time again.
pub fn names(data: &[u8]) -> bool {
    let Some(text) = text(data) else {
        return false;
    };
    let taken = [
        exact::<AdminId>(text),
        exact::<AgentId>(text),
        exact::<Handle>(text),
        exact::<InstanceId>(text),
        exact::<LogName>(text),
        exact::<PurposePath>(text),
        exact::<SponsorId>(text),
        exact::<ToolName>(text),
        exact::<TrustDomain>(text),
        exact::<UpstreamName>(text),
        again::<Digest>(text),
        again::<Time>(text),
        exact::<Allow>(text),
        exact::<KeyId>(text),
        exact::<Thumbprint>(text),
        exact::<Word>(text),
        text.parse::<AdminKey>().is_ok(),
        text.parse::<Email>().is_ok_and(|it| it.as_str() == text),
        text.parse::<PersonName>()
            .is_ok_and(|it| it.as_str() == text),
    ];
    // Nearly any text is one of these.
    let free = [
        text.parse::<Label>().map(|it| it.as_str() == text),
        text.parse::<PersonName>().map(|it| it.as_str() == text),
    ];
    assert!(free.iter().flatten().all(|same| *same));
    taken.contains(&true)
}

fn exact<T: FromStr + Display>(text: &str) -> bool {
    text.parse::<T>().is_ok_and(|name| {
        assert_eq!(name.to_string(), text);
        true
    })
}

fn again<T: FromStr + Display + PartialEq>(text: &str) -> bool {
    text.parse::<T>().is_ok_and(|value| {
        assert!(value.to_string().parse::<T>().is_ok_and(|it| it == value));
        true
    })
}
