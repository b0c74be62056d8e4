//! Which tools an instance may see: those that it could be permitted to call with some arguments.

use cedar_policy::{EntityId, PartialEntities, PartialEntityUid, PartialRequest};
use vocab::{ToolName, UpstreamName};

use crate::engine::{Engine, beyond};
use crate::facts::{InstanceFacts, Target as Called};
use crate::target::Target;

impl Engine {
    /// Whether `tools/list` shows `tool` to this instance.
    ///
    /// Hidden is what its authority does not cover, what no permit could allow whatever the
    /// arguments, and what a forbid denies whatever the arguments. This is a courtesy, not a
    /// control: every call is decided.
    pub fn visible(
        &self,
        instance: &InstanceFacts,
        upstream: &UpstreamName,
        tool: &ToolName,
    ) -> bool {
        let called = Called::Tool { name: tool.clone() };
        if beyond(instance, upstream, &called).is_some() {
            return false;
        }
        self.target_of(upstream, tool)
            .is_some_and(|(index, target)| self.is_shown(instance, index, target))
    }

    /// Whether a listing of what `method` is about (`prompts/list` for `prompts/get`) shows
    /// anything to this instance.
    pub fn visible_method(
        &self,
        instance: &InstanceFacts,
        upstream: &UpstreamName,
        method: &str,
    ) -> bool {
        let called = Called::Method {
            method: method.to_owned(),
            name_or_uri: None,
        };
        if beyond(instance, upstream, &called).is_some() {
            return false;
        }
        self.method_target(upstream, method)
            .is_some_and(|(index, target)| self.is_shown(instance, index, target))
    }

    fn is_shown(&self, instance: &InstanceFacts, index: usize, target: &Target) -> bool {
        // Instances of one shape see the same, unless a policy names one of them.
        let mut shape = instance.clone();
        shape.authority = None;
        shape.handed_on = None;
        shape.above.clear();
        if !self.is_named(&instance.id)
            && let Ok(id) = "i-aaaaaaaaaaaaaaaaaaaaaaaaaa".parse()
        {
            shape.id = id;
        }
        let key = (shape, index);
        if let Some(known) = self.shown.get(&key) {
            return known;
        }
        let slice = self.slice(index, target, instance);
        let shown = slice.broken.is_empty()
            && slice.permits > 0
            && self
                .could_be_permitted(target, instance, &slice.set)
                .unwrap_or(true);
        self.shown.keep(key, shown);
        shown
    }

    /// `None` if partial evaluation gives no answer: then the permits there are decide.
    fn could_be_permitted(
        &self,
        target: &Target,
        instance: &InstanceFacts,
        set: &cedar_policy::PolicySet,
    ) -> Option<bool> {
        let schema = self.schema()?;
        let entities = self.entities(target, instance)?;
        let action = |entity: &cedar_policy::Entity| entity.uid() == target.action_uid;
        let entities = entities.into_iter().filter(|entity| !action(entity));
        let entities = cedar_policy::Entities::from_entities(entities, None).ok()?;
        let entities = PartialEntities::from_concrete(entities, schema).ok()?;
        let principal = EntityId::new(instance.id.as_str());
        let principal = PartialEntityUid::new("Instance".parse().ok()?, Some(principal));
        let request = PartialRequest::new(
            principal,
            target.action_uid.clone(),
            PartialEntityUid::from_concrete(target.resource_uid.clone()),
            None,
            schema,
        )
        .ok()?;
        let response = set.tpe(&request, &entities, schema).ok()?;
        let permit = response.true_permits().next().is_some()
            || response.residual_permits().next().is_some();
        let forbidden = response.true_forbids().next().is_some();
        Some(permit && !forbidden)
    }
}
