//! The crates of the workspace and what each may use.

use crate::result::Finding;
use crate::workspace::{Package, Workspace};

/// What a crate may use of the workspace.
struct Row {
    name: &'static str,
    /// In `[dependencies]` and `[build-dependencies]`.
    uses: &'static [&'static str],
    /// In `[dev-dependencies]`, besides those.
    tests_use: &'static [&'static str],
}

/// Every crate. A crate uses only crates above it.
const TABLE: &[Row] = &[
    Row {
        name: "cpreg",
        uses: &[],
        tests_use: &[],
    },
    Row {
        name: "cpreg-explain",
        uses: &["cpreg"],
        tests_use: &[],
    },
    Row {
        name: "cpreg-hosts",
        uses: &["cpreg"],
        tests_use: &["cpreg-explain"],
    },
    Row {
        name: "cpreg-stream",
        uses: &["cpreg"],
        tests_use: &[],
    },
    Row {
        name: "cpreg-qemu",
        uses: &["cpreg", "cpreg-stream", "cpreg-explain"],
        tests_use: &[],
    },
    Row {
        name: "cpreg-relay",
        uses: &["cpreg", "cpreg-stream", "cpreg-qemu"],
        tests_use: &[],
    },
    Row {
        name: "cpreg-kvm",
        uses: &["cpreg", "cpreg-hosts"],
        tests_use: &[],
    },
    Row {
        name: "cpreg-report",
        uses: &["cpreg", "cpreg-hosts", "cpreg-explain"],
        tests_use: &[],
    },
    Row {
        name: "cpreg-cli",
        uses: &[
            "cpreg",
            "cpreg-explain",
            "cpreg-hosts",
            "cpreg-kvm",
            "cpreg-qemu",
            "cpreg-relay",
            "cpreg-report",
            "cpreg-stream",
        ],
        tests_use: &["cpreg-testdata"],
    },
    Row {
        name: "cpreg-vmm",
        uses: &["cpreg", "cpreg-kvm"],
        tests_use: &["cpreg-hosts"],
    },
    Row {
        name: "compare-binaries",
        uses: &[],
        tests_use: &[],
    },
    Row {
        name: "wheels",
        uses: &[],
        tests_use: &[],
    },
    Row {
        name: "lint",
        uses: &["wheels"],
        tests_use: &[],
    },
    Row {
        name: "cpreg-testdata",
        uses: &["cpreg-stream"],
        tests_use: &[],
    },
    Row {
        name: "gen-data",
        uses: &["cpreg", "cpreg-hosts", "cpreg-stream"],
        tests_use: &[],
    },
    Row {
        name: "e2e-framework",
        uses: &["cpreg-stream", "cpreg-qemu", "cpreg-report"],
        tests_use: &[],
    },
    Row {
        name: "e2e-live",
        uses: &[
            "cpreg",
            "cpreg-stream",
            "cpreg-qemu",
            "cpreg-report",
            "e2e-framework",
        ],
        tests_use: &[],
    },
    Row {
        name: "e2e-lab",
        uses: &["cpreg", "cpreg-hosts", "cpreg-report", "e2e-framework"],
        tests_use: &[],
    },
    Row {
        name: "e2e-model-check",
        uses: &[
            "cpreg",
            "cpreg-explain",
            "cpreg-stream",
            "cpreg-qemu",
            "e2e-framework",
        ],
        tests_use: &[],
    },
    Row {
        name: "benches",
        uses: &[
            "cpreg",
            "cpreg-stream",
            "cpreg-qemu",
            "cpreg-testdata",
            "e2e-framework",
        ],
        tests_use: &[],
    },
    Row {
        name: "fuzz",
        uses: &[
            "cpreg",
            "cpreg-hosts",
            "cpreg-report",
            "cpreg-stream",
            "wheels",
        ],
        tests_use: &[],
    },
    Row {
        name: "xtask",
        uses: &[],
        tests_use: &[],
    },
];

/// Crates that use nothing but `core` and `alloc`, outside their tests.
const WITHOUT_DEPENDENCIES: &[&str] = &["cpreg"];

/// Compares the dependencies of every crate with the table.
pub(crate) fn check(workspace: &Workspace) -> Vec<Finding> {
    findings(&workspace.packages, TABLE)
}

fn findings(packages: &[Package], table: &[Row]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let name = &package.name;
        let Some(row) = table.iter().find(|row| row.name == name) else {
            findings.push(format!("{name}: not in the table of crates"));
            continue;
        };
        let is_bare = WITHOUT_DEPENDENCIES.contains(&row.name);
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            let is_for_development = dependency.is_for_development();
            let is_allowed =
                row.uses.contains(&used) || (is_for_development && row.tests_use.contains(&used));
            if dependency.path.is_none() {
                if is_bare && !is_for_development {
                    findings.push(format!("{name}: uses {used}, and may use no crate"));
                }
            } else if !is_allowed {
                let tests = if is_for_development {
                    "tests use"
                } else {
                    "uses"
                };
                findings.push(format!(
                    "{name}: {tests} {used}, which the table does not allow"
                ));
            }
        }
    }
    for row in table {
        if !packages.iter().any(|package| package.name == row.name) {
            findings.push(format!(
                "{}: in the table of crates, and no crate",
                row.name
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use crate::workspace::Dependency;

    use super::*;

    #[test]
    fn the_table_has_no_circle() {
        for (index, row) in TABLE.iter().enumerate() {
            let above = |name: &str| TABLE[..index].iter().any(|row| row.name == name);
            let known = |name: &str| TABLE.iter().any(|row| row.name == name);
            assert!(row.uses.iter().all(|used| above(used)), "{}", row.name);
            assert!(row.tests_use.iter().all(|used| known(used)), "{}", row.name);
            assert!(!above(row.name), "{} twice", row.name);
        }
    }

    fn package(name: &str, dependencies: &[(&str, Option<&str>, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind, is_member)| Dependency {
                    name: (*name).to_owned(),
                    kind: kind.map(str::to_owned),
                    path: is_member.then(|| name.into()),
                })
                .collect(),
            targets: Vec::new(),
        }
    }

    const SMALL: &[Row] = &[
        Row {
            name: "cpreg",
            uses: &[],
            tests_use: &["data"],
        },
        Row {
            name: "cli",
            uses: &["cpreg"],
            tests_use: &[],
        },
        Row {
            name: "data",
            uses: &[],
            tests_use: &[],
        },
    ];

    #[test]
    fn what_the_table_allows_is_no_finding() {
        let packages = [
            package(
                "cpreg",
                &[
                    ("data", Some("dev"), true),
                    ("proptest", Some("dev"), false),
                ],
            ),
            package(
                "cli",
                &[
                    ("cpreg", None, true),
                    ("cpreg", Some("dev"), true),
                    ("clap", None, false),
                ],
            ),
            package("data", &[]),
        ];
        assert!(findings(&packages, SMALL).is_empty());
    }

    #[test]
    fn what_it_does_not_allow_is() {
        let packages = [
            package(
                "cpreg",
                &[("data", None, true), ("libc", Some("build"), false)],
            ),
            package("cli", &[("data", Some("dev"), true)]),
            package("new", &[]),
        ];
        let expected = [
            "cpreg: uses data, which the table does not allow",
            "cpreg: uses libc, and may use no crate",
            "cli: tests use data, which the table does not allow",
            "new: not in the table of crates",
            "data: in the table of crates, and no crate",
        ];
        assert_eq!(findings(&packages, SMALL), expected);
    }
}
