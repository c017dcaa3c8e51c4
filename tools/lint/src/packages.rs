//! Checks that the crates below `crates/` can be published.
//!
//! The crates below `crates/` are published, except [`UNPUBLISHED`]. Their manifests are complete,
//! and every file that a packaged source includes is in the package. `cargo package` packs them
//! all, without a build. `cargo package --workspace` without `--no-verify` also builds them.

use std::path::{Component, Path, PathBuf};

use crate::result::{Finding, Result};
use crate::workspace::{Dependency, Package, Workspace, cargo};

/// Crates below `crates/` that only tests and benchmarks of this repository use.
const UNPUBLISHED: &[&str] = &["cpreg-testdata"];

/// Maximum number of keywords of a published crate.
const MAX_KEYWORDS: usize = 5;

/// Files of each package, beside its sources.
const REQUIRED_FILES: [&str; 4] = ["README.md", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE"];

/// Beginnings of macros and functions that read a file at a path relative to their source.
const INCLUDES: [&str; 2] = ["include_str!(\"", "include_bytes!(\""];

/// Beginning of a path outside the package, relative to its manifest.
const OUTSIDE_PATHS: [&str; 2] = [
    "env!(\"CARGO_MANIFEST_DIR\")).join(\"..",
    "env!(\"CARGO_MANIFEST_DIR\"), \"/..",
];

/// Checks all manifests, and packs the published crates.
///
/// # Errors
/// Returns an error if cargo cannot be started, or a source cannot be read.
pub(crate) fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = manifest_findings(workspace);
    if !findings.is_empty() {
        // Cargo names only the first problem.
        return Ok(findings);
    }
    let mut command = cargo();
    command.args(["package", "--workspace", "--no-verify", "--allow-dirty"]);
    command.args(["--quiet", "--target-dir"]);
    command.arg(&workspace.target);
    for package in &workspace.packages {
        if !package.is_published() {
            command.args(["--exclude", &package.name]);
        }
    }
    let output = command.current_dir(&workspace.root).output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Ok(vec![format!("`cargo package`: {}\n{text}", output.status)]);
    }
    for package in &workspace.packages {
        if package.is_published() {
            findings.extend(content_findings(workspace, package)?);
        }
    }
    Ok(findings)
}

/// Finds incomplete manifests.
fn manifest_findings(workspace: &Workspace) -> Vec<Finding> {
    let crates = workspace.root.join("crates");
    let is_published = |name: &str| {
        let package = workspace.packages.iter().find(|it| it.name == name);
        package.is_some_and(Package::is_published)
    };
    let mut findings = Vec::new();
    for package in &workspace.packages {
        let name = &package.name;
        let should_be_published =
            package.manifest_path.starts_with(&crates) && !UNPUBLISHED.contains(&name.as_str());
        if should_be_published != package.is_published() {
            findings.push(if should_be_published {
                format!("{name}: `publish = false`, although it is below crates/")
            } else {
                format!("{name}: lacks `publish = false`")
            });
        } else if package.is_published() {
            let missing = package.missing_fields();
            findings.extend(
                missing
                    .into_iter()
                    .map(|field| format!("{name}: its manifest lacks `{field}`")),
            );
            if package.keywords.len() > MAX_KEYWORDS {
                findings.push(format!("{name}: has more than {MAX_KEYWORDS} keywords"));
            }
            let dependencies = package.dependencies.iter();
            findings.extend(
                dependencies
                    .filter_map(|dependency| dependency_problem(dependency, is_published))
                    .map(|problem| format!("{name}: {problem}")),
            );
        }
    }
    findings
}

impl Package {
    /// Returns `true` if the crate may be published.
    fn is_published(&self) -> bool {
        self.publish.is_none()
    }

    /// Returns the fields that the manifest of a published crate must have, and that are missing.
    fn missing_fields(&self) -> Vec<&'static str> {
        [
            ("description", self.description.is_none()),
            ("license", self.license.is_none()),
            ("documentation", self.documentation.is_none()),
            ("readme", self.readme.is_none()),
            ("rust-version", self.rust_version.is_none()),
            ("keywords", self.keywords.is_empty()),
            ("categories", self.categories.is_empty()),
        ]
        .into_iter()
        .filter_map(|(field, is_missing)| is_missing.then_some(field))
        .collect()
    }
}

/// Returns the reason why a published crate cannot have the dependency.
///
/// Cargo leaves out development dependencies without a version.
fn dependency_problem(
    dependency: &Dependency,
    is_published: impl Fn(&str) -> bool,
) -> Option<String> {
    dependency.path.as_ref()?;
    let name = &dependency.name;
    let has_version = dependency.req != "*";
    if has_version && !is_published(name) {
        return Some(format!(
            "depends on a version of {name}, which is not published"
        ));
    }
    if !has_version && !dependency.is_for_development() {
        return Some(format!("depends on {name} without a version"));
    }
    None
}

/// Finds missing files in the package of a crate.
fn content_findings(workspace: &Workspace, package: &Package) -> Result<Vec<Finding>> {
    let name = &package.name;
    let folder = package.manifest_path.parent().unwrap_or(Path::new("."));
    let mut command = cargo();
    command.args(["package", "--list", "--allow-dirty", "--quiet"]);
    command.args(["--package", name]);
    let output = command.current_dir(&workspace.root).output()?;
    if !output.status.success() {
        return Ok(vec![format!("{name}: `cargo package --list` failed")]);
    }
    let list = String::from_utf8(output.stdout)?;
    let files: Vec<_> = list.lines().map(PathBuf::from).collect();
    let mut findings = Vec::new();
    for required in REQUIRED_FILES {
        if !files.iter().any(|file| file == Path::new(required)) {
            findings.push(format!("{name}: its package lacks {required}"));
        }
    }
    for file in &files {
        if file.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let text = workspace.read_text(&folder.join(file))?;
        let missing = missing_includes(file, &text, &files);
        findings.extend(missing.into_iter().map(|include| {
            format!(
                "{name}: {} includes {include}, which is not in the package",
                file.display()
            )
        }));
        if OUTSIDE_PATHS.iter().any(|path| text.contains(path)) {
            findings.push(format!(
                "{name}: {} reads a file outside the package",
                file.display()
            ));
        }
    }
    Ok(findings)
}

/// Returns the paths of included files that are not in the package.
fn missing_includes(source: &Path, text: &str, files: &[PathBuf]) -> Vec<String> {
    let mut missing = Vec::new();
    for include in INCLUDES {
        for rest in text.split(include).skip(1) {
            let path = rest.split('"').next().unwrap_or_default();
            let resolved = normalize(&source.with_file_name("").join(path));
            if !resolved.is_some_and(|resolved| files.contains(&resolved)) {
                missing.push(path.to_owned());
            }
        }
    }
    missing
}

/// Resolves `..` in a relative path. Returns `None` for a path outside the folder.
fn normalize(path: &Path) -> Option<PathBuf> {
    let mut normalized = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                if !normalized.pop() {
                    return None;
                }
            }
            other => normalized.push(other),
        }
    }
    Some(normalized)
}

#[cfg(test)]
mod tests {
    use cargo_metadata::DependencyKind;

    use super::*;

    fn workspace(packages: Vec<Package>) -> Workspace {
        Workspace {
            packages,
            root: "/w".into(),
            target: "/w/target".into(),
        }
    }

    fn complete(name: &str) -> Package {
        Package {
            name: name.to_owned(),
            manifest_path: format!("/w/crates/{name}/Cargo.toml").into(),
            description: Some("A crate".into()),
            license: Some("MIT".into()),
            documentation: Some("https://docs.rs".into()),
            readme: Some("README.md".into()),
            rust_version: Some("1.88".into()),
            keywords: vec!["kvm".into()],
            categories: vec!["virtualization".into()],
            ..Package::default()
        }
    }

    fn dependency(name: &str, req: &str, kind: DependencyKind) -> Dependency {
        Dependency {
            name: name.to_owned(),
            kind,
            path: Some("/w".into()),
            req: req.to_owned(),
        }
    }

    #[test]
    fn complete_manifests_are_no_findings() {
        let tool = Package {
            name: "tool".into(),
            manifest_path: "/w/tools/tool/Cargo.toml".into(),
            publish: Some(Vec::new()),
            ..Package::default()
        };
        let user = Package {
            dependencies: vec![
                dependency("core", "^0.1.0", DependencyKind::Normal),
                dependency("tool", "*", DependencyKind::Development),
            ],
            ..complete("user")
        };
        let findings = manifest_findings(&workspace(vec![complete("core"), tool, user]));
        assert!(findings.is_empty(), "{findings:?}");
    }

    #[test]
    fn incomplete_manifests_are_findings() {
        let bare = Package {
            keywords: vec!["kvm".into(); 6],
            categories: Vec::new(),
            license: None,
            ..complete("bare")
        };
        let tool = Package {
            manifest_path: "/w/tools/tool/Cargo.toml".into(),
            ..complete("tool")
        };
        let hidden = Package {
            publish: Some(Vec::new()),
            ..complete("hidden")
        };
        let user = Package {
            dependencies: vec![
                dependency("bare", "*", DependencyKind::Normal),
                dependency("hidden", "^0.1.0", DependencyKind::Development),
            ],
            ..complete("user")
        };
        let expected = [
            "bare: its manifest lacks `license`",
            "bare: its manifest lacks `categories`",
            "bare: has more than 5 keywords",
            "tool: lacks `publish = false`",
            "hidden: `publish = false`, although it is below crates/",
            "user: depends on bare without a version",
            "user: depends on a version of hidden, which is not published",
        ];
        let findings = manifest_findings(&workspace(vec![bare, tool, hidden, user]));
        assert_eq!(findings, expected);
    }

    #[test]
    fn missing_includes_are_found() {
        let files: Vec<_> = ["src/a/b.rs", "src/page.css", "README.md"]
            .map(PathBuf::from)
            .to_vec();
        let name = "include_str!";
        let text = format!(
            "{name}(\"../page.css\") {name}(\"../../README.md\") {name}(\"x.txt\") \
             {name}(\"../../../data/y.txt\")"
        );
        let missing = missing_includes(Path::new("src/a/b.rs"), &text, &files);
        assert_eq!(missing, ["x.txt", "../../../data/y.txt"]);
    }
}
