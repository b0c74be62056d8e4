//! The sponsors and groups that the policies in force name.

use gateway::{FaultyName, NameFault};

use super::Finding;
use crate::node::Shared;

const AGAIN: &str = "see who that is; if the policies are to mean who has the name now, put them in \
                     force again: `tipstaff policy apply`";

/// Names that nobody has, or that somebody else has than is meant.
pub(super) fn findings(shared: &Shared) -> Vec<Finding> {
    let faulty = shared.plane.faulty_names();
    faulty.iter().map(finding).collect()
}

fn finding(it: &FaultyName) -> Finding {
    let FaultyName { what, name, .. } = it;
    let policies: Vec<String> = it.policies.iter().map(|id| format!("`{id}`")).collect();
    let who = format!("the {what} `{name}`, whom {} names", policies.join(", "));
    let handle = it.handle.as_ref().map_or("?", |handle| handle.as_str());
    let (told, advice) = match it.fault {
        NameFault::Unknown => (
            format!("{who}, is not known"),
            "mend the name, or wait until the directory has it: whoever is added first by that name \
             is meant",
        ),
        NameFault::Renamed => {
            let now = match &it.now {
                Some(now) => format!("is called `{now}` now"),
                None => "is gone, or its name is erased".to_owned(),
            };
            let told = format!("{who}, {now}; the policies mean {handle} by it, as before");
            (
                told,
                "say the new name in the policies, and put them in force: `tipstaff policy apply`",
            )
        }
        NameFault::Taken => (
            format!(
                "{who}, is somebody else now: {handle}. No permit is theirs by that name, and every \
                 forbid is"
            ),
            AGAIN,
        ),
    };
    Finding::warn("policy", told, advice)
}
