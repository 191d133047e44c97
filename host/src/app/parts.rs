//! Parts of a component: its large core modules that have code alone, and the rest. Components with equal parts, the
//! interpreter of a language for instance, are compiled once and share native code.
//!
//! A part becomes an import of a core module, which the linker provides: the index spaces of the component stay as they
//! were, and so does the order in which modules are instantiated.
//!
//! Not here: validity of the component. Whatever this module does not know stays in the rest, for the compiler to
//! judge.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use wasm_encoder::{
    Component, ComponentImportSection, ComponentSectionId, ComponentTypeRef, CoreTypeSection, ModuleType, RawSection,
};
use wasmparser::Payload;

use self::code_module::{CodeModule, code_module};
use super::sections::TopLevel;

mod code_module;

/// Smallest module that is a part. Smaller ones compile in less time than a file costs.
const PART_BYTES_MIN: usize = 64 << 10;
/// Largest number of parts: each has a file and a mapping.
const PARTS_MAX: usize = 32;
/// Prefix of the names under which parts are imported.
const IMPORT_PREFIX: &str = "bireme-part-";

/// A component in parts.
pub(crate) struct Parts {
    /// The component, with an import for each of the modules.
    pub rest: Part,
    /// Core modules; none if the component is its own rest.
    pub modules: Vec<ModulePart>,
}

/// Bytes that are compiled by themselves.
#[derive(Clone)]
pub(crate) struct Part {
    pub bytes: Bytes,
    /// SHA-256 of `bytes`.
    pub digest: [u8; 32],
}

/// A core module that the rest imports.
#[derive(Clone)]
pub(crate) struct ModulePart {
    /// Name of the import.
    pub import: String,
    pub part: Part,
}

impl Part {
    fn new(bytes: Bytes) -> Self {
        let digest = Sha256::digest(&bytes).into();
        Self { bytes, digest }
    }
}

impl Parts {
    /// Divides a component, whose digest is `digest`.
    pub(crate) fn of(component: &Bytes, digest: [u8; 32]) -> Self {
        divide(component)
            .unwrap_or_else(|| Self { rest: Part { bytes: component.clone(), digest }, modules: Vec::new() })
    }

    /// Returns every part, the rest last.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Part> {
        self.modules.iter().map(|module| &module.part).chain([&self.rest])
    }
}

/// Returns `None` for a component without a module worth sharing, and for one that this module does not know.
fn divide(component: &Bytes) -> Option<Parts> {
    let is_part = |payload| match payload {
        Payload::ModuleSection { unchecked_range, .. } => component.get(unchecked_range).and_then(part_of).is_some(),
        _ => false,
    };
    // Most components have no part, and are not copied.
    if !TopLevel::of(component).map_while(Result::ok).any(is_part) {
        return None;
    }
    let mut rest = Component::new();
    let mut modules = Vec::new();
    for payload in TopLevel::of(component) {
        let payload = payload.ok()?;
        match &payload {
            Payload::Version { .. } | Payload::End(_) => {}
            Payload::ModuleSection { unchecked_range, .. } => {
                let module = component.get(unchecked_range.clone())?;
                let part = if modules.len() < PARTS_MAX { part_of(module) } else { None };
                if let Some(CodeModule { module_type, empty_data }) = part {
                    let import = format!("{IMPORT_PREFIX}{}", modules.len());
                    import_module(&mut rest, &module_type, modules.len() as u32, &import);
                    let bytes = match empty_data {
                        Some(section) => [&module[..section.start], &module[section.end..]].concat().into(),
                        None => component.slice_ref(module),
                    };
                    modules.push(ModulePart { import, part: Part::new(bytes) });
                } else {
                    rest.section(&RawSection { id: ComponentSectionId::CoreModule as u8, data: module });
                }
            }
            Payload::ComponentSection { unchecked_range, .. } => {
                let data = component.get(unchecked_range.clone())?;
                rest.section(&RawSection { id: ComponentSectionId::Component as u8, data });
            }
            // Imports add types to the space of core types, so the component's own would change their numbers.
            Payload::CoreTypeSection(_) => return None,
            payload => {
                if let Payload::ComponentImportSection(imports) = payload
                    && imports
                        .clone()
                        .into_iter()
                        .any(|import| import.is_ok_and(|import| import.name.name.starts_with(IMPORT_PREFIX)))
                {
                    return None;
                }
                let (id, range) = payload.as_section()?;
                rest.section(&RawSection { id, data: component.get(range)? });
            }
        }
    }
    Some(Parts { rest: Part::new(rest.finish().into()), modules })
}

/// Reads a module, if it is a part.
fn part_of(module: &[u8]) -> Option<CodeModule> {
    if module.len() < PART_BYTES_MIN { None } else { code_module(module) }
}

fn import_module(rest: &mut Component, of_module: &ModuleType, core_type: u32, name: &str) {
    let mut types = CoreTypeSection::new();
    types.ty().module(of_module);
    rest.section(&types);
    let mut imports = ComponentImportSection::new();
    imports.import(name, ComponentTypeRef::Module(core_type));
    rest.section(&imports);
}

#[cfg(test)]
mod tests;
