//! Files that are excepted from a check, each with the reason.

/// Files that a program writes: they may be long, and a table may name what uses it.
pub(crate) const GENERATED_FILES: &[(&str, &str)] = &[
    (
        "crates/cpreg/src/register/tables.rs",
        "`cargo xtask gen-registers` writes it",
    ),
    (
        "crates/cpreg-explain/src/recorded_list_lengths.rs",
        "a test of that crate writes it, for `cargo xtask bless`",
    ),
];

/// Files by hand that are longer than others may be.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[];
