//! [`Fleet`]: three nodes with different kernels, and their labels by `cpreg fleet labels`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_framework::Result;
use e2e_framework::cpreg::Cpreg;
use e2e_framework::tool;
use serde_json::Value;
use tempfile::TempDir;

/// Nodes with their kernels. `node2` takes the VMs of all, and no other node takes those of
/// `node1`.
pub(crate) const NODES: [(&str, &str); 3] = [
    ("node1", "linux-6.1.176/neoverse-n1"),
    ("node2", "linux-6.12.107/neoverse-n1"),
    ("node3", "linux-5.10.223/neoverse-n1"),
];

/// Fleet in a folder.
#[derive(Debug)]
pub(crate) struct Fleet {
    cpreg: Cpreg,
    folder: TempDir,
}

impl Fleet {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let lines =
            NODES.map(|(node, host)| format!("{{\"node\":\"{node}\",\"host\":\"{host}\"}}"));
        fs::write(folder.path().join("fleet.jsonl"), lines.join("\n"))?;
        Ok(Self {
            cpreg: Cpreg::build()?,
            folder,
        })
    }

    /// Returns the path of the program.
    pub(crate) fn program(&self) -> &Path {
        self.cpreg.program()
    }

    /// Returns a path in the folder of the fleet.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file to the folder, and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Returns the output of `cpreg fleet labels fleet.jsonl` with further options.
    pub(crate) fn labels(&self, options: &[&str]) -> Result<String> {
        let mut command = Command::new(self.cpreg.program());
        command
            .current_dir(self.folder.path())
            .args(["fleet", "labels", "fleet.jsonl"])
            .args(options);
        tool::output_of(&mut command)
    }

    /// Returns all labels.
    pub(crate) fn report(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.labels(&["--for", "json"])?)?)
    }

    /// Returns the key of a node's only profile.
    pub(crate) fn key(&self, node: &str) -> Result<String> {
        let report = self.report()?;
        let nodes = report["nodes"].as_array().into_iter().flatten();
        let mut keys = nodes.filter(|it| it["node"] == node);
        let key = keys.next().and_then(|it| it["profiles"][0].as_str());
        Ok(key.ok_or("the node has no profile")?.to_owned())
    }
}
