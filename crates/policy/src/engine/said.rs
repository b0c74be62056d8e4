//! Whom policies name, so that somebody can say which of the names nobody has.

use std::collections::{BTreeMap, BTreeSet};

use super::Engine;
use crate::approval::{Approver, Approvers};
use crate::set::{Policy, type_of};

/// Which policies say a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said<'a> {
    /// Their ids.
    pub policies: BTreeSet<&'a str>,
    /// Whether it certainly is a name, and not some other text.
    pub for_certain: bool,
}

impl<'a> Said<'a> {
    fn add(&mut self, policy: &'a Policy, for_certain: bool) {
        self.policies.insert(&policy.id);
        self.for_certain |= for_certain;
    }
}

impl Engine {
    /// The sponsors that policies name, by name, `@approval` among it.
    pub fn sponsors_said(&self) -> BTreeMap<&str, Said<'_>> {
        let mut all = BTreeMap::<_, Said<'_>>::new();
        for policy in &self.policies {
            let sponsors = policy.literals.iter();
            let sponsors = sponsors.filter(|uid| type_of(uid.type_name()) == "Sponsor");
            let ids = sponsors.map(|uid| uid.id().unescaped());
            let approvers = approvers(policy).filter_map(|it| match it {
                Approver::Person(id) => Some(id.as_str()),
                Approver::Sponsor | Approver::Group(_) => None,
            });
            // The empty one is whoever is erased.
            for id in ids.chain(approvers).filter(|id| !id.is_empty()) {
                all.entry(id).or_default().add(policy, true);
            }
        }
        all
    }

    /// What policies say that could be groups, by name, `@approval` among it.
    pub fn groups_said(&self) -> BTreeMap<&str, Said<'_>> {
        let mut all = BTreeMap::<_, Said<'_>>::new();
        for policy in &self.policies {
            for name in &policy.groups.perhaps {
                let for_certain = policy.groups.named.contains(name);
                all.entry(name.as_str())
                    .or_default()
                    .add(policy, for_certain);
            }
            for it in approvers(policy) {
                if let Approver::Group(name) = it {
                    all.entry(name).or_default().add(policy, true);
                }
            }
        }
        all
    }

    /// The policies that hold calls for people, by id.
    pub fn holding(&self) -> impl Iterator<Item = &str> {
        let holding = self.policies.iter().filter(|it| it.approval.is_some());
        holding.map(|it| &*it.id)
    }
}

fn approvers(policy: &Policy) -> impl Iterator<Item = &Approver> {
    policy.approval.iter().flat_map(Approvers::named)
}
