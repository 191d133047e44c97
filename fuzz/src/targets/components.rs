//! Components up to validation, and their metadata.

use crate::allocations;
use bireme::app::metadata::Metadata;
use bireme::fuzzing::app;
use wasmparser::{Instance, Parser, Payload, Validator, WasmFeatures};

/// A metadata document. What is read is the same when it was written, and in a component.
pub(super) fn metadata(input: &[u8]) -> Result<(), String> {
    let metadata = app::metadata(input)?;
    let written = serde_json::to_vec(&metadata).expect("string keys only");
    assert_eq!(app::metadata(&written).as_ref(), Ok(&metadata), "a document that was read is another one when written");
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    let attached = metadata.attach(COMPONENT);
    assert_eq!(Metadata::read(&attached).expect("what was attached is read"), metadata);
    assert_eq!(Metadata::strip(&attached), COMPONENT);
    routes(&metadata);
    app::over_ceilings(&metadata).into_iter().next().map_or(Ok(()), Err)
}

/// Each function with a route answers its own requests, or one that is more particular does.
fn routes(metadata: &Metadata) {
    let routed: Vec<_> = metadata.functions.iter().filter_map(|function| function.attributes.route.clone()).collect();
    for route in &routed {
        let method = if route.method() == "*" { "GET" } else { route.method() };
        // A literal segment may hold what is no path of a request; such a route answers none.
        if route.path().bytes().all(|byte| byte.is_ascii_graphic()) {
            let found = app::route(&routed, method, route.path());
            let is_found = matches!(found, Ok(Some(_)));
            assert!(is_found || route.path().contains(['{', '%']), "`{route}` is not found among its own: {found:?}");
        }
    }
}

/// A component. Its code and its counts are the same with and without metadata.
pub(super) fn component(input: &[u8]) -> Result<(), String> {
    let ([core_instances, memories, tables], fits) = app::footprint(input);
    let component = app::component(input)?;
    let code = app::code(&component);
    assert!(input.starts_with(code), "the code is another one");
    assert_eq!(Metadata::strip(code), code, "code that still has metadata at its end");
    if let Ok(metadata) = Metadata::read(input) {
        let attached = app::with_metadata(&component, &metadata)?;
        assert_eq!(app::code(&attached), code, "metadata change the code");
        assert_eq!(attached.digest, app::component(&attached.bytes)?.digest, "a digest of other bytes");
    }
    let (held, held_max) = (allocations::peak(), 256 * 1_024 + 64 * input.len());
    assert!(held <= held_max, "the host holds {held} bytes for {}", input.len());
    // Everything that the engine could accept; it has some of these off. The compiler's process validates.
    let valid = Validator::new_with_features(WasmFeatures::all()).validate_all(input);
    if valid.is_ok() {
        let [instances, own] = top_level(input);
        assert!(core_instances >= instances, "{core_instances} core instances, and {instances} at the top alone");
        assert!(instances > 0 || own == 0 || core_instances >= own, "instances of components that count as nothing");
        assert!((memories, tables) == (0, 0) || core_instances > 0, "memories without an instance");
    }
    fits?;
    valid.map(drop).map_err(|error| error.to_string())
}

/// Counts core instances that the top level makes itself: all of them, and those without nested components.
fn top_level(component: &[u8]) -> [u64; 2] {
    let (mut depth, mut instances, mut has_components) = (0, 0, false);
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } => depth += 1,
            Payload::ComponentSection { .. } => (depth, has_components) = (depth + 1, true),
            Payload::End(_) => depth -= 1,
            Payload::InstanceSection(section) if depth == 0 => {
                let made = section.into_iter().flatten().filter(|one| matches!(one, Instance::Instantiate { .. }));
                instances += made.count() as u64;
            }
            _ => {}
        }
    }
    [instances, if has_components { 0 } else { instances }]
}
