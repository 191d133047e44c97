//! Bindings of the SDK: `guest-sdk/src/host/bindings.rs`, generated from `wit/` once instead of by a macro in each app.
//! The macro's parser of WIT took two fifths of an app's first build.
//!
//! `UPDATE_EXPECT=1 cargo test -p bireme-bindings` writes the file after a change of the contract.

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::expect_file;
    use wit_bindgen_core::wit_parser::Resolve;
    use wit_bindgen_core::{Files, WorldGenerator};
    use wit_bindgen_rust::Opts;

    const HEAD: &str = "// Generated from `wit/` by wit-bindgen; see `tests/bindings`.\n\n";

    #[test]
    fn the_bindings_of_the_sdk_are_those_of_the_contract() {
        let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(wit).unwrap();
        let world = resolve.select_world(&[package], Some("sdk-app")).unwrap();
        let mut files = Files::default();
        let options = Opts { generate_all: true, ..Opts::default() };
        options.build().generate(&mut resolve, world, &mut files).unwrap();
        let (_, source) = files.iter().next().unwrap();
        let source = format!("{HEAD}{}", std::str::from_utf8(source).unwrap());
        expect_file!["../../../guest-sdk/src/host/bindings.rs"].assert_eq(&source);
    }
}
