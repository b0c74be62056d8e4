//! Names of tools that a reader could take for one another.
//!
//! A model picks a tool by its name. Two upstreams that offer `read_file` and `read_fiIe`, or both
//! `read_file`, are a question for a person; the comparison is that of UTS 39.

use std::collections::HashMap;

use unicode_normalization::UnicodeNormalization;

/// Why two names are a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// The same name at two upstreams.
    Same,
    /// Different names that look alike.
    Alike,
}

/// Two of the names given, by their places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookAlike {
    /// The one that came first.
    pub first: usize,
    /// The other.
    pub second: usize,
    /// Why.
    pub likeness: Likeness,
}

/// Holds tools' names of several upstreams, each `(upstream, tool)`, against each other. Each is named
/// with the first that it looks like; within one upstream only different names are.
pub fn look_alikes(names: &[(&str, &str)]) -> Vec<LookAlike> {
    let mut alike: HashMap<String, Vec<usize>> = HashMap::new();
    let mut found = Vec::new();
    for (second, (upstream, tool)) in names.iter().enumerate() {
        let keys = skeletons(tool);
        let seen = || {
            keys.iter()
                .filter_map(|key| alike.get(key))
                .flatten()
                .filter_map(|at| names.get(*at).map(|(other, name)| (*at, *other, *name)))
        };
        // A different name first: that is the graver one.
        let different = seen()
            .filter(|(_, _, name)| name != tool)
            .map(|(at, ..)| (at, Likeness::Alike))
            .min_by_key(|(at, _)| *at);
        let elsewhere = seen()
            .filter(|(_, other, _)| other != upstream)
            .map(|(at, ..)| (at, Likeness::Same))
            .min_by_key(|(at, _)| *at);
        found.extend(different.or(elsewhere).map(|(first, likeness)| LookAlike {
            first,
            second,
            likeness,
        }));
        for key in keys {
            alike.entry(key).or_default().push(second);
        }
    }
    found
}

/// What names that look alike have in common: the skeleton of UTS 39, without letter case and without
/// what separates words, which nobody remembers. Two of them, since a capital I looks like a small l
/// to a reader and is a small i to whoever ignores case.
fn skeletons(name: &str) -> [String; 2] {
    let visible: String = name.nfkc().filter(|char| char.is_alphanumeric()).collect();
    let as_read: String = unicode_security::skeleton(&visible).collect();
    let as_spelt: String = unicode_security::skeleton(&visible.to_lowercase()).collect();
    [as_read.to_lowercase(), as_spelt.to_lowercase()]
}

#[cfg(test)]
mod tests;
