//! Crates of the workspace, and their allowed dependencies.

use crate::result::Finding;
use crate::workspace::{Package, Workspace};

/// Allowed dependencies of a crate within the workspace.
struct CrateRule {
    name: &'static str,
    /// Dependencies in `[dependencies]` and `[build-dependencies]`.
    dependencies: &'static [&'static str],
    /// Additional dependencies in `[dev-dependencies]`.
    dev_dependencies: &'static [&'static str],
}

/// All crates. A crate depends only on crates above it.
const TABLE: &[CrateRule] = &[
    CrateRule {
        name: "cpreg",
        dependencies: &[],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-explain",
        dependencies: &["cpreg"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-hosts",
        dependencies: &["cpreg"],
        dev_dependencies: &["cpreg-explain"],
    },
    CrateRule {
        name: "cpreg-stream",
        dependencies: &["cpreg"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-snapshot",
        dependencies: &["cpreg", "cpreg-stream"],
        dev_dependencies: &["cpreg-explain", "cpreg-hosts", "cpreg-testdata"],
    },
    CrateRule {
        name: "cpreg-qemu",
        dependencies: &["cpreg", "cpreg-stream", "cpreg-explain"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-relay",
        dependencies: &["cpreg", "cpreg-stream", "cpreg-qemu"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-kvm",
        dependencies: &["cpreg", "cpreg-hosts"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-vcpu-filter",
        dependencies: &["cpreg", "cpreg-hosts", "cpreg-kvm"],
        dev_dependencies: &["cpreg-stream"],
    },
    CrateRule {
        name: "cpreg-interpose",
        dependencies: &["cpreg", "cpreg-kvm", "cpreg-vcpu-filter"],
        dev_dependencies: &["cpreg-hosts"],
    },
    CrateRule {
        name: "cpreg-fleet",
        dependencies: &["cpreg", "cpreg-hosts"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-guest-check",
        dependencies: &[],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-report",
        dependencies: &["cpreg", "cpreg-hosts", "cpreg-explain", "cpreg-fleet"],
        dev_dependencies: &["cpreg-guest-check", "cpreg-vcpu-filter"],
    },
    CrateRule {
        name: "cpreg-cli",
        dependencies: &[
            "cpreg",
            "cpreg-explain",
            "cpreg-fleet",
            "cpreg-guest-check",
            "cpreg-hosts",
            "cpreg-kvm",
            "cpreg-qemu",
            "cpreg-relay",
            "cpreg-report",
            "cpreg-snapshot",
            "cpreg-stream",
            "cpreg-vcpu-filter",
        ],
        dev_dependencies: &["cpreg-testdata"],
    },
    CrateRule {
        name: "cpreg-vmm",
        dependencies: &["cpreg", "cpreg-kvm"],
        dev_dependencies: &["cpreg-hosts"],
    },
    CrateRule {
        name: "compare-binaries",
        dependencies: &[],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "wheels",
        dependencies: &[],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "lint",
        dependencies: &["wheels"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "cpreg-testdata",
        dependencies: &["cpreg-stream"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "gen-data",
        dependencies: &["cpreg", "cpreg-hosts", "cpreg-stream"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-framework",
        dependencies: &["cpreg", "cpreg-stream", "cpreg-qemu", "cpreg-report"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "dist",
        dependencies: &["e2e-framework", "wheels"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-live",
        dependencies: &[
            "cpreg",
            "cpreg-stream",
            "cpreg-qemu",
            "cpreg-report",
            "e2e-framework",
        ],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-libvirt",
        dependencies: &["e2e-framework"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-fleet",
        dependencies: &["cpreg-hosts", "e2e-framework"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-page",
        dependencies: &["cpreg-report", "e2e-framework"],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-lab",
        dependencies: &[
            "cpreg",
            "cpreg-hosts",
            "cpreg-report",
            "cpreg-stream",
            "e2e-framework",
        ],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-model-check",
        dependencies: &[
            "cpreg",
            "cpreg-explain",
            "cpreg-stream",
            "cpreg-qemu",
            "e2e-framework",
        ],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "e2e-fake-kvm",
        dependencies: &[
            "cpreg",
            "cpreg-hosts",
            "cpreg-kvm",
            "cpreg-stream",
            "cpreg-vcpu-filter",
        ],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "benches",
        dependencies: &[
            "cpreg",
            "cpreg-fleet",
            "cpreg-hosts",
            "cpreg-stream",
            "cpreg-qemu",
            "cpreg-relay",
            "cpreg-snapshot",
            "cpreg-testdata",
            "e2e-framework",
        ],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "fuzz",
        dependencies: &[
            "cpreg",
            "cpreg-hosts",
            "cpreg-report",
            "cpreg-stream",
            "wheels",
        ],
        dev_dependencies: &[],
    },
    CrateRule {
        name: "xtask",
        dependencies: &[],
        dev_dependencies: &[],
    },
];

/// Crates that depend on no other crate, outside their tests.
const CRATES_WITHOUT_DEPENDENCIES: &[&str] = &["cpreg"];

/// Compares the dependencies of every crate with the table.
pub(crate) fn check(workspace: &Workspace) -> Vec<Finding> {
    findings(&workspace.packages, TABLE)
}

fn findings(packages: &[Package], table: &[CrateRule]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        let name = &package.name;
        let Some(row) = table.iter().find(|row| row.name == name) else {
            findings.push(format!("{name}: not in the table of crates"));
            continue;
        };
        let must_have_no_dependency = CRATES_WITHOUT_DEPENDENCIES.contains(&row.name);
        for dependency in &package.dependencies {
            let dependency_name = dependency.name.as_str();
            let is_for_development = dependency.is_for_development();
            let is_allowed = row.dependencies.contains(&dependency_name)
                || (is_for_development && row.dev_dependencies.contains(&dependency_name));
            if dependency.path.is_none() {
                if must_have_no_dependency && !is_for_development {
                    findings.push(format!(
                        "{name}: uses {dependency_name}, and may use no crate"
                    ));
                }
            } else if !is_allowed {
                let tests = if is_for_development {
                    "tests use"
                } else {
                    "uses"
                };
                findings.push(format!(
                    "{name}: {tests} {dependency_name}, which the table does not allow"
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
    use cargo_metadata::DependencyKind::{self, Development, Normal};

    use crate::workspace::Dependency;

    use super::*;

    #[test]
    fn the_table_has_no_circle() {
        for (index, row) in TABLE.iter().enumerate() {
            let above = |name: &str| TABLE[..index].iter().any(|row| row.name == name);
            let known = |name: &str| TABLE.iter().any(|row| row.name == name);
            assert!(
                row.dependencies.iter().all(|used| above(used)),
                "{}",
                row.name
            );
            assert!(
                row.dev_dependencies.iter().all(|used| known(used)),
                "{}",
                row.name
            );
            assert!(!above(row.name), "{} twice", row.name);
        }
    }

    fn package(name: &str, dependencies: &[(&str, DependencyKind, bool)]) -> Package {
        Package {
            name: name.to_owned(),
            dependencies: dependencies
                .iter()
                .map(|(name, kind, is_member)| Dependency {
                    name: (*name).to_owned(),
                    kind: *kind,
                    path: is_member.then(|| name.into()),
                    req: "*".to_owned(),
                })
                .collect(),
            ..Package::default()
        }
    }

    const TEST_RULES: &[CrateRule] = &[
        CrateRule {
            name: "cpreg",
            dependencies: &[],
            dev_dependencies: &["data"],
        },
        CrateRule {
            name: "cli",
            dependencies: &["cpreg"],
            dev_dependencies: &[],
        },
        CrateRule {
            name: "data",
            dependencies: &[],
            dev_dependencies: &[],
        },
    ];

    #[test]
    fn allowed_dependencies_are_no_findings() {
        let packages = [
            package(
                "cpreg",
                &[
                    ("data", Development, true),
                    ("proptest", Development, false),
                ],
            ),
            package(
                "cli",
                &[
                    ("cpreg", Normal, true),
                    ("cpreg", Development, true),
                    ("clap", Normal, false),
                ],
            ),
            package("data", &[]),
        ];
        assert!(findings(&packages, TEST_RULES).is_empty());
    }

    #[test]
    fn other_dependencies_are_findings() {
        let packages = [
            package(
                "cpreg",
                &[
                    ("data", Normal, true),
                    ("libc", DependencyKind::Build, false),
                ],
            ),
            package("cli", &[("data", Development, true)]),
            package("new", &[]),
        ];
        let expected = [
            "cpreg: uses data, which the table does not allow",
            "cpreg: uses libc, and may use no crate",
            "cli: tests use data, which the table does not allow",
            "new: not in the table of crates",
            "data: in the table of crates, and no crate",
        ];
        assert_eq!(findings(&packages, TEST_RULES), expected);
    }
}
