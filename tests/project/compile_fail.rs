//! What must not compile does not, with a message that helps.

#[test]
fn misuse_does_not_compile() {
    let tests = trybuild::TestCases::new();
    tests.compile_fail("ui/*.rs");
}
