//! Each forbidden order is a compile error, and the expected one.
#![cfg(not(loom))]

#[test]
fn forbidden_orders_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile-fail/*.rs");
}
