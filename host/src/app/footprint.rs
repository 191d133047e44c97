//! Footprint of a component in the instance pool: core instances, memories and tables, counted before compilation.
//!
//! Not here: validity of the component, size of the pool (`sandbox`).
//!
//! Invariant: no count exceeds the engine's own, so a component that would run is never refused here. An imported
//! module or component counts as nothing, and the engine's own check stays behind this one.

use std::fmt;

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef, Instance,
    Parser, Payload,
};

use crate::limits;

/// Pool places that one instance of a component takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pub core_instances: u64,
    pub memories: u64,
    pub tables: u64,
}

/// Pool places of one slot.
const MAX: Footprint = Footprint {
    core_instances: limits::CORE_INSTANCES_PER_COMPONENT_MAX as u64,
    memories: limits::MEMORIES_PER_COMPONENT_MAX as u64,
    tables: limits::TABLES_PER_COMPONENT_MAX as u64,
};

/// A component with a larger footprint than a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the component takes {footprint}, over the limit of {MAX}; join its core modules (`wasm-merge`), or compose it of \
     fewer components"
)]
pub struct FootprintError {
    pub footprint: Footprint,
}

impl Footprint {
    /// Counts a component. Counts an unparsable one up to the error, which is the compiler's to report.
    pub(crate) fn of(component: &[u8]) -> Self {
        let mut outer: Vec<Scope> = Vec::new();
        let mut scope = Scope::default();
        for payload in Parser::new(0).parse_all(component) {
            let Ok(payload) = payload else { break };
            match payload {
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                    let is_module = matches!(payload, Payload::ModuleSection { .. });
                    outer.push(std::mem::replace(&mut scope, Scope { is_module, ..Scope::default() }));
                }
                Payload::End(_) => {
                    let Some(parent) = outer.pop() else { break };
                    let inner = std::mem::replace(&mut scope, parent);
                    let space = if inner.is_module { &mut scope.modules } else { &mut scope.components };
                    space.push(Some(inner.footprint));
                }
                other => scope.take_in(&other, &outer),
            }
        }
        outer.into_iter().next().unwrap_or(scope).footprint
    }

    /// Refuses a footprint larger than a slot.
    pub(crate) fn check(self) -> Result<(), FootprintError> {
        let fits =
            self.core_instances <= MAX.core_instances && self.memories <= MAX.memories && self.tables <= MAX.tables;
        if fits { Ok(()) } else { Err(FootprintError { footprint: self }) }
    }

    fn add(&mut self, other: Self) {
        // Instances of instances multiply: sixty levels of two overflow 64 bits.
        self.core_instances = self.core_instances.saturating_add(other.core_instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count, one, many| if count == 1 { one } else { many };
        let Self { core_instances, memories, tables } = *self;
        let instance = plural(core_instances, "core instance", "core instances");
        let memory = plural(memories, "memory", "memories");
        let table = plural(tables, "table", "tables");
        write!(f, "{core_instances} {instance}, {memories} {memory} and {tables} {table}")
    }
}

/// A module or component whose sections are being read.
#[derive(Default)]
struct Scope {
    is_module: bool,
    /// Places of one instance of it.
    footprint: Footprint,
    /// Footprints by index; `None` for an imported one.
    modules: Vec<Option<Footprint>>,
    components: Vec<Option<Footprint>>,
}

impl Scope {
    fn take_in(&mut self, payload: &Payload<'_>, outer: &[Self]) {
        match payload {
            Payload::MemorySection(section) if self.is_module => self.footprint.memories += u64::from(section.count()),
            Payload::TableSection(section) if self.is_module => self.footprint.tables += u64::from(section.count()),
            Payload::InstanceSection(section) => {
                for instance in section.clone().into_iter().flatten() {
                    if let Instance::Instantiate { module_index, .. } = instance {
                        self.footprint.add(Footprint { core_instances: 1, ..Footprint::default() });
                        self.footprint.add(at(&self.modules, module_index).unwrap_or_default());
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone().into_iter().flatten() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance {
                        self.footprint.add(at(&self.components, component_index).unwrap_or_default());
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone().into_iter().flatten() {
                    match import.ty {
                        ComponentTypeRef::Module(_) => self.modules.push(None),
                        ComponentTypeRef::Component(_) => self.components.push(None),
                        _ => {}
                    }
                }
            }
            // An export has an index of its own.
            Payload::ComponentExportSection(section) => {
                for export in section.clone().into_iter().flatten() {
                    match export.kind {
                        ComponentExternalKind::Module => self.modules.push(at(&self.modules, export.index)),
                        ComponentExternalKind::Component => self.components.push(at(&self.components, export.index)),
                        _ => {}
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                section.clone().into_iter().flatten().for_each(|alias| self.alias(&alias, outer));
            }
            _ => {}
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>, outer: &[Self]) {
        match *alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. } => self.modules.push(None),
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => self.components.push(None),
            ComponentAlias::Outer { kind, count, index } => {
                let from = match count {
                    0 => Some(&*self),
                    // 1 is the enclosing component.
                    _ => outer.len().checked_sub(count as usize).and_then(|at| outer.get(at)),
                };
                match kind {
                    ComponentOuterAliasKind::CoreModule => {
                        let module = from.and_then(|from| at(&from.modules, index));
                        self.modules.push(module);
                    }
                    ComponentOuterAliasKind::Component => {
                        let component = from.and_then(|from| at(&from.components, index));
                        self.components.push(component);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn at(space: &[Option<Footprint>], index: u32) -> Option<Footprint> {
    space.get(index as usize).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(component: &str, core_instances: u64, memories: u64, tables: u64) {
        let bytes = wat::parse_str(format!("(component {component})")).unwrap();
        assert_eq!(Footprint::of(&bytes), Footprint { core_instances, memories, tables });
    }

    #[test]
    fn what_is_instantiated_counts_and_what_is_only_there_does_not() {
        check("", 0, 0, 0);
        check("(core module (memory 1) (table 1 funcref))", 0, 0, 0);
        check(
            "(core module $m (memory 1) (table 1 funcref) (table 1 funcref))
             (core instance (instantiate $m)) (core instance (instantiate $m))",
            2,
            2,
            4,
        );
    }

    #[test]
    fn instances_of_components_within_count_once_for_each_instance() {
        check(
            "(component $inner (core module $m (memory 1))
                (core instance (instantiate $m)) (core instance (instantiate $m)))
             (instance (instantiate $inner)) (instance (instantiate $inner)) (instance (instantiate $inner))",
            6,
            6,
            0,
        );
    }

    #[test]
    fn modules_of_the_component_around_are_found() {
        check(
            "(core module $m (table 1 funcref))
             (component $inner (alias outer 1 $m (core module $mine)) (core instance (instantiate $mine)))
             (instance (instantiate $inner))
             (export $again \"m\" (core module $m)) (core instance (instantiate $again))",
            2,
            0,
            2,
        );
    }

    #[test]
    fn a_module_from_outside_is_an_instance_of_unknown_contents() {
        check("(import \"m\" (core module $m)) (core instance (instantiate $m))", 1, 0, 0);
    }

    #[test]
    fn doubling_sixty_times_and_more_is_counted_without_end() {
        let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
        for level in 1..70 {
            let below = level - 1;
            text = format!(
                "(component $c{level} {text} (instance (instantiate $c{below})) (instance (instantiate $c{below})))"
            );
        }
        check(&format!("{text} (instance (instantiate $c69))"), u64::MAX, 0, 0);
    }

    #[test]
    fn junk_counts_as_far_as_it_parses() {
        assert_eq!(Footprint::of(b""), Footprint::default());
        assert_eq!(Footprint::of(b"\0asm\x0d\0\x01\0\xff\xff\xff"), Footprint::default());
    }

    #[test]
    fn what_is_over_a_limit_is_refused_with_the_counts() {
        assert_eq!(MAX.check(), Ok(()));
        let refused = Footprint { core_instances: 40, memories: 1, tables: 2 }.check().unwrap_err().to_string();
        assert!(refused.contains("40 core instances, 1 memory and 2 tables"), "{refused}");
        assert!(refused.contains("limit of 32 core instances, 1 memory and 4 tables"), "{refused}");
        assert!(Footprint { memories: 2, ..Footprint::default() }.check().is_err());
        assert!(Footprint { tables: 5, ..Footprint::default() }.check().is_err());
    }
}
