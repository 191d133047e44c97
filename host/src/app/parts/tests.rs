use super::*;

/// A core module of code alone, of more than `PART_BYTES_MIN` bytes, that imports a memory and a function.
fn library(answer: u32) -> String {
    let filler: String =
        (0..8_000).map(|n| format!("(func (result i32) i32.const {n} i32.const {n} i32.mul i32.load)")).collect();
    format!(
        r#"(core module $library (import "memory" "memory" (memory 1)) (import "host" "twice" (func (param i32) (result i32)))
            (table (export "table") 2 funcref) (global (export "global") i32 (i32.const 1))
            (func (export "answer") (result i32) i32.const {answer} call 0) {filler})"#
    )
}

/// A component whose `run` answers twice the library's number.
fn component(answer: u32, data: &str) -> Bytes {
    let text = format!(
        r#"(component
            (core module $memory (memory (export "memory") 1) (data (i32.const 0) "{data}")
                (func (export "twice") (param i32) (result i32) local.get 0 i32.const 2 i32.mul))
            {}
            (core instance $m (instantiate $memory))
            (core instance $l (instantiate $library (with "memory" (instance $m)) (with "host" (instance $m))))
            (func (export "run") (result u32) (canon lift (core func $l "answer"))))"#,
        library(answer)
    );
    wat::parse_str(text).unwrap().into()
}

fn parts(component: &Bytes) -> Parts {
    Parts::of(component, Sha256::digest(component).into())
}

#[test]
fn a_large_module_of_code_is_a_part_and_components_share_it() {
    let (one, other) = (parts(&component(21, "one")), parts(&component(21, "other")));
    assert_eq!(one.modules.len(), 1);
    assert_eq!(one.modules[0].part.digest, other.modules[0].part.digest);
    assert_ne!(one.rest.digest, other.rest.digest);
    assert!(one.rest.bytes.len() < PART_BYTES_MIN, "{}", one.rest.bytes.len());
    assert_ne!(parts(&component(22, "one")).modules[0].part.digest, one.modules[0].part.digest);
}

#[test]
fn an_empty_data_section_makes_no_other_part() {
    let module = wat::parse_str(library(21).replacen("(core module $library", "(module", 1)).unwrap();
    let with_section = [&module[..], &[11, 1, 0]].concat();
    assert!(wasmparser::validate(&with_section).is_ok());
    let wrapped = |module: &[u8]| {
        let mut component = Component::new();
        component.section(&RawSection { id: ComponentSectionId::CoreModule as u8, data: module });
        parts(&component.finish().into())
    };
    let (plain, with_section) = (wrapped(&module), wrapped(&with_section));
    assert_eq!(plain.modules[0].part.bytes, module);
    assert_eq!(plain.modules[0].part.digest, with_section.modules[0].part.digest);
}

#[test]
fn parts_together_do_what_the_component_does() {
    use wasmtime::component::{Component, Linker};
    let engine = wasmtime::Engine::default();
    let parts = parts(&component(21, "x"));
    let rest = Component::new(&engine, &parts.rest.bytes).unwrap();
    let mut linker = Linker::new(&engine);
    for module in &parts.modules {
        let loaded = wasmtime::Module::new(&engine, &module.part.bytes).unwrap();
        linker.root().module(&module.import, &loaded).unwrap();
    }
    let mut store = wasmtime::Store::new(&engine, ());
    let instance = linker.instantiate(&mut store, &rest).unwrap();
    let run = instance.get_typed_func::<(), (u32,)>(&mut store, "run").unwrap();
    assert_eq!(run.call(&mut store, ()).unwrap(), (42,));
}

#[test]
fn components_of_small_modules_of_modules_with_memory_and_of_unknown_kinds_stay_whole() {
    let large = library(1);
    let with_memory =
        large.replacen("(import \"memory\" \"memory\" (memory 1))", "", 1).replacen("(table", "(memory 1) (table", 1);
    for text in [
        r#"(component (core module (func)))"#.to_owned(),
        format!("(component {with_memory})"),
        format!("(component (core type (module)) {large})"),
        format!(r#"(component (import "bireme-part-0" (core module)) {large})"#),
        format!("(component (component {large}))"),
    ] {
        let component: Bytes = wat::parse_str(&text).unwrap().into();
        let parts = parts(&component);
        assert_eq!(parts.modules.len(), 0, "{}", &text[..80]);
        assert_eq!(parts.rest.bytes, component);
    }
}

#[test]
fn a_component_cut_or_changed_anywhere_is_whole_or_in_parts_and_no_panic() {
    let component = component(21, "x");
    for position in (0..component.len()).step_by(component.len() / 500).chain(0..600) {
        let _ = parts(&component.slice(..position));
        let mut changed = component.to_vec();
        changed[position] ^= 0x15;
        let _ = parts(&changed.into());
    }
}
