//! Files that are excepted from a check, each with the reason.

/// Generated files, with their generators. The checks of length, names and format except them.
pub(crate) const GENERATED_FILES: &[(&str, &str)] = &[
    (
        "crates/cpreg/src/register/tables.rs",
        "`cargo xtask gen-registers` writes it",
    ),
    (
        "crates/cpreg/src/destination/accept/id_fields.rs",
        "`cargo xtask gen-id-fields` writes it",
    ),
    (
        "crates/cpreg-explain/src/recorded_list_lengths.rs",
        "a test of that crate writes it, for `cargo xtask bless`",
    ),
];

/// Handwritten files that may be longer than others.
pub(crate) const LONG_FILES: &[(&str, &str)] = &[];
