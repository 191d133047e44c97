//! Core modules that can be parts, with their types: imports and exports.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{EntityType, ModuleType};
use wasmparser::{ExternalKind, FuncType, Parser, Payload, TypeRef};

/// A module of code alone.
pub(super) struct CodeModule {
    pub module_type: ModuleType,
    /// An empty data section. It says nothing, and a snapshot adds one to every module.
    pub empty_data: Option<Range<usize>>,
}

/// Reads a module of code alone. `None` for one with a memory or data of its own, which differ between
/// components and start as an image of the memory only where they are defined; for a malformed one; and for one whose
/// type cannot be written.
pub(super) fn code_module(module: &[u8]) -> Option<CodeModule> {
    let mut space = Space::default();
    let mut of_module = Written::default();
    let mut imports = HashSet::new();
    let mut empty_data = None;
    let (mut rest, mut parser) = (module, Parser::new(0));
    loop {
        let wasmparser::Chunk::Parsed { consumed, payload } = parser.parse(rest, true).ok()? else { return None };
        rest = rest.get(consumed..)?;
        let at = module.len() - rest.len() - consumed;
        match payload {
            Payload::TypeSection(section) => {
                for group in section.into_iter_err_on_gc_types() {
                    space.types.push(group.ok()?);
                }
            }
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    let import = import.ok()?;
                    // Allowed in a module, but not in its type.
                    if !imports.insert((import.module, import.name)) {
                        return None;
                    }
                    let entity = space.import(import.ty, &mut of_module)?;
                    of_module.module.import(import.module, import.name, entity);
                }
            }
            Payload::FunctionSection(section) => {
                for of_function in section {
                    space.functions.push(of_function.ok()?);
                }
            }
            Payload::TableSection(section) => {
                for table in section {
                    space.tables.push(table.ok()?.ty);
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    space.globals.push(global.ok()?.ty);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export.ok()?;
                    let entity = space.export(export.kind, export.index as usize, &mut of_module)?;
                    of_module.module.export(export.name, entity);
                }
            }
            Payload::MemorySection(section) if section.count() > 0 => return None,
            Payload::DataSection(section) if section.count() > 0 => return None,
            Payload::DataSection(_) => empty_data = Some(at..at + consumed),
            Payload::TagSection(_) => return None,
            Payload::CodeSectionStart { size, .. } => {
                rest = rest.get(size as usize..)?;
                parser.skip_section();
            }
            Payload::End(_) => return Some(CodeModule { module_type: of_module.module, empty_data }),
            _ => {}
        }
    }
}

/// Index spaces of the module.
#[derive(Default)]
struct Space {
    types: Vec<FuncType>,
    functions: Vec<u32>,
    tables: Vec<wasmparser::TableType>,
    memories: Vec<wasmparser::MemoryType>,
    globals: Vec<wasmparser::GlobalType>,
}

/// The type so far.
#[derive(Default)]
struct Written {
    module: ModuleType,
    /// Types of functions by their number in the module.
    functions: HashMap<u32, u32>,
}

impl Space {
    fn import(&mut self, of_import: TypeRef, out: &mut Written) -> Option<EntityType> {
        Some(match of_import {
            TypeRef::Func(of_function) => {
                self.functions.push(of_function);
                out.function(&self.types, of_function)?
            }
            TypeRef::Table(table) => {
                self.tables.push(table);
                EntityType::Table(RoundtripReencoder.table_type(table).ok()?)
            }
            TypeRef::Memory(memory) => {
                self.memories.push(memory);
                EntityType::Memory(RoundtripReencoder.memory_type(memory).ok()?)
            }
            TypeRef::Global(global) => {
                self.globals.push(global);
                EntityType::Global(RoundtripReencoder.global_type(global).ok()?)
            }
            _ => return None,
        })
    }

    fn export(&self, kind: ExternalKind, index: usize, out: &mut Written) -> Option<EntityType> {
        Some(match kind {
            ExternalKind::Func => out.function(&self.types, *self.functions.get(index)?)?,
            ExternalKind::Table => EntityType::Table(RoundtripReencoder.table_type(*self.tables.get(index)?).ok()?),
            ExternalKind::Memory => {
                EntityType::Memory(RoundtripReencoder.memory_type(*self.memories.get(index)?).ok()?)
            }
            ExternalKind::Global => EntityType::Global(RoundtripReencoder.global_type(*self.globals.get(index)?).ok()?),
            _ => return None,
        })
    }
}

impl Written {
    fn function(&mut self, types: &[FuncType], of_function: u32) -> Option<EntityType> {
        if let Some(&known) = self.functions.get(&of_function) {
            return Some(EntityType::Function(known));
        }
        let signature = types.get(of_function as usize)?;
        let values = |types: &[wasmparser::ValType]| {
            types.iter().map(|&of_value| RoundtripReencoder.val_type(of_value).ok()).collect::<Option<Vec<_>>>()
        };
        let (parameters, results) = (values(signature.params())?, values(signature.results())?);
        let number = self.functions.len() as u32;
        self.module.ty().function(parameters, results);
        self.functions.insert(of_function, number);
        Some(EntityType::Function(number))
    }
}
