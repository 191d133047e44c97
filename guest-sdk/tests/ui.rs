//! Errors that an author reads: the compiler's words, pinned. `TRYBUILD=overwrite cargo test -p bireme-sdk --test ui`
//! writes them anew.

#[test]
fn mistakes_are_told_at_their_token() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass_*.rs");
    cases.compile_fail("tests/ui/fail_*.rs");
}
