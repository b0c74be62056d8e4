//! The metrics, from the list that `GET /metrics` is written by.

use crate::{code, head, row};

pub(crate) fn page() -> String {
    let mut page = "\
# Metrics

`GET /metrics` answers in the Prometheus text format, to whoever can reach the listener. Counters
start from zero with the node. The values of labels come from closed sets: stages, causes and
places are in [errors.md](errors.md), names of upstreams and logs are the node's own.

"
    .to_owned();
    page.push_str(&head(&["metric", "type", "is"]));
    for family in server::http::FAMILIES {
        let kind = if family.counter { "counter" } else { "gauge" };
        page.push_str(&row(&[&code(family.name), kind, family.help]));
    }
    page
}
