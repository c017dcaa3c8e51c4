//! Tests with small crates, with and without circles.

use std::fs;

use super::*;

/// Checks a crate of the given files, the first of which is its root.
fn check_files(files: &[(&str, &str)]) -> Vec<Finding> {
    check_files_without(files, &[])
}

fn check_files_without(files: &[(&str, &str)], excepted: &[(&str, &str)]) -> Vec<Finding> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder is made");
        fs::write(path, text).expect("a file is written");
    }
    let root = folder.path().join(files[0].0);
    check_crate(folder.path(), &root, excepted).expect("the crate is read")
}

const ROOT: (&str, &str) = ("lib.rs", "mod a; mod b;");

/// Returns the finding for a circle of `a.rs` and `b.rs`, with the names that each uses.
fn circle_of_a_and_b(of_b: &str, of_a: &str) -> Vec<Finding> {
    vec![format!(
        "a circle of 2 files:\n    a.rs uses b.rs: {of_b}\n    b.rs uses a.rs: {of_a}"
    )]
}

#[test]
fn a_use_in_one_direction_is_no_circle() {
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    let b = ("b.rs", "pub struct B;");
    assert!(check_files(&[ROOT, a, b]).is_empty());
}

#[test]
fn two_files_that_import_each_other_are_a_circle() {
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    let b = ("b.rs", "use super::a::A; pub struct B; fn f(_: A) {}");
    let expected = circle_of_a_and_b("B", "A");
    assert_eq!(check_files(&[ROOT, a, b]), expected);
}

#[test]
fn a_path_in_code_counts_as_an_import_does() {
    let a = ("a.rs", "pub fn a() -> crate::b::B { crate::b::make() }");
    let b = (
        "b.rs",
        "use crate::a; pub struct B; pub fn make() -> B { a::a() }",
    );
    let expected = circle_of_a_and_b("B, make", "a");
    assert_eq!(check_files(&[ROOT, a, b]), expected);
}

#[test]
fn paths_in_macro_calls_patterns_and_attributes_count() {
    for code in [
        "fn f() { assert_eq!(1, crate::b::ONE); }",
        "fn f(n: u8) { match n { crate::b::ONE => {} _ => {} } }",
        "use crate::b; fn f() { print!(\"{}\", [b::ONE]); }",
        "#[arg(value_parser = crate::b::parse)] struct S;",
        "fn f() { use crate::b; b::parse() }",
        "mod inner { pub fn f() { super::super::b::parse() } }",
    ] {
        let a = ("a.rs", format!("pub struct A; {code}"));
        let b = "pub const ONE: u8 = 1; pub fn parse() {} fn f(_: crate::a::A) {}";
        let findings = check_files(&[ROOT, (a.0, &a.1), ("b.rs", b)]);
        assert_eq!(findings.len(), 1, "{code}");
    }
}

#[test]
fn a_constant_in_a_pattern_counts() {
    let a = (
        "a.rs",
        "use crate::b::*; pub struct A; fn f(n: u8) { match n { ONE => {} _ => {} } }",
    );
    let b = ("b.rs", "pub const ONE: u8 = 1; fn f(_: crate::a::A) {}");
    assert_eq!(check_files(&[ROOT, a, b]), circle_of_a_and_b("ONE", "A"));
}

#[test]
fn a_reexported_name_counts_for_the_file_that_defines_it() {
    let root = ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;");
    let a = ("a.rs", "use crate::B; pub struct A(B);");
    let b = ("b.rs", "use crate::A; pub struct B; fn f(_: A) {}");
    let expected = circle_of_a_and_b("B", "A");
    assert_eq!(check_files(&[root, a, b]), expected);
}

#[test]
fn a_reexport_is_no_use() {
    let root = (
        "lib.rs",
        "mod a; pub use a::{A, a}; pub struct Root; fn f(a: u8) -> u8 { a }",
    );
    let a = ("a.rs", "use crate::Root; pub struct A(Root); pub fn a() {}");
    assert!(check_files(&[root, a]).is_empty());
}

#[test]
fn a_child_that_uses_its_parent_makes_a_circle() {
    let root = ("lib.rs", "mod a; pub struct Root; pub fn f() { a::f(); }");
    let a = (
        "a/mod.rs",
        "mod c; use super::Root; pub fn f() { c::f(); } fn g(_: Root) {}",
    );
    let c = ("a/c.rs", "pub fn f() {}");
    let expected =
        ["a circle of 2 files:\n    lib.rs uses a/mod.rs: f\n    a/mod.rs uses lib.rs: Root"];
    assert_eq!(check_files(&[root, a, c]), expected);
}

#[test]
fn names_of_a_glob_import_count_where_they_are_mentioned() {
    let root = ("lib.rs", "mod a; mod b; pub use b::*;");
    let a = ("a.rs", "use super::*; pub struct A; fn f() -> B { B }");
    let b = ("b.rs", "use super::*; pub struct B; fn f(_: a::A) {}");
    assert_eq!(check_files(&[root, a, b]), circle_of_a_and_b("B", "A"));
    let a = ("a.rs", "use super::*; pub struct A;");
    assert!(check_files(&[root, a, b]).is_empty());
}

#[test]
fn a_macro_of_a_module_above_counts() {
    let root = (
        "lib.rs",
        "macro_rules! m { () => {} } mod a; fn f() { a::f() }",
    );
    let a = ("a.rs", "m!(); pub fn f() {}");
    let expected = ["a circle of 2 files:\n    lib.rs uses a.rs: f\n    a.rs uses lib.rs: m!"];
    assert_eq!(check_files(&[root, a]), expected);
}

#[test]
fn uses_by_tests_are_left_out() {
    let a = ("a.rs", "use crate::b::B; pub struct A(B);");
    for code in [
        "#[cfg(test)] mod tests { use crate::a::A; fn f(_: A) {} }",
        "#[cfg(all(test, unix))] use crate::a::A;",
        "#[cfg(test)] fn f(_: crate::a::A) {}",
        "#[cfg(test)] mod missing_file;",
        "impl B { #[cfg(test)] fn f(_: crate::a::A) {} }",
    ] {
        let b = format!("pub struct B; {code}");
        assert!(check_files(&[ROOT, a, ("b.rs", &b)]).is_empty(), "{code}");
    }
    let b = ("b.rs", "pub struct B; #[cfg(not(test))] use crate::a::A;");
    assert_eq!(check_files(&[ROOT, a, b]).len(), 1);
}

#[test]
fn generated_tables_are_left_out_by_name() {
    let a = (
        "a.rs",
        "use crate::b::TABLE; pub struct A; fn f() { TABLE; }",
    );
    let b = ("b.rs", "use crate::a::A; pub const TABLE: [A; 0] = [];");
    assert_eq!(check_files(&[ROOT, a, b]).len(), 1);
    let excepted = [("b.rs", "generated")];
    assert!(check_files_without(&[ROOT, a, b], &excepted).is_empty());
}

#[test]
fn names_that_only_look_alike_are_no_use() {
    let root = (
        "lib.rs",
        "mod a; pub use a::a; fn f() { let a = 1; g(a); } fn g(_: u8) {} pub struct Root;",
    );
    let a = (
        "a.rs",
        "use crate::Root; pub fn a() {} fn f(_: Root, s: std::a::Root) { s.f(); }",
    );
    assert!(check_files(&[root, a]).is_empty());
}

#[test]
fn a_path_that_cannot_be_resolved_is_reported() {
    let a = ("a.rs", "use crate::b::Missing;");
    let findings = check_files(&[ROOT, a, ("b.rs", "")]);
    assert_eq!(findings, ["a.rs: cannot resolve `crate::b::Missing`"]);
    // Other crates may define it.
    for b in [
        "use std::x::Missing;",
        "use std::x::*;",
        "use Missing::x as Missing;",
    ] {
        assert!(check_files(&[ROOT, a, ("b.rs", b)]).is_empty(), "{b}");
    }
    // A macro may define it.
    assert!(check_files(&[ROOT, a, ("b.rs", "define!(Missing);")]).is_empty());
}
