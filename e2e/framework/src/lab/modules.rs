//! Modules of a kernel, and the order of loading them.
//!
//! Debian's packages have no `modules.dep`, because depmod writes that file at installation. This
//! module therefore reads the dependencies from each kernel module. The `.modinfo` of a module is a
//! sequence of texts `name=value`, each terminated by 0. The text `depends=` has names separated by
//! commas. Names may have `-` in place of `_`.
//!
//! The lab folder has the modules decompressed, with names that sort in the order of loading:
//! `00-virtio.ko`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lzma_rust2::XzReader;

use crate::Result;

/// Modules for QEMU's virtio network card. A kernel may have some of them built in.
pub const NETWORK_MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];

/// Copies modules and their dependencies from an unpacked package, if they exist.
///
/// # Errors
/// Returns an error if a module is damaged, or has a missing dependency.
pub fn collect(root: &Path, names: &[&str], into: &Path) -> Result<()> {
    let mut modules = BTreeMap::new();
    find(root, &mut modules)?;
    let mut order = Vec::new();
    fs::create_dir_all(into)?;
    for name in names {
        add_with_dependencies(name, &modules, &mut order)?;
    }
    for (index, (name, module)) in order.iter().enumerate() {
        fs::write(into.join(format!("{index:02}-{name}.ko")), module)?;
    }
    Ok(())
}

/// Returns the modules that [`collect`] left in a folder, in the order of loading.
///
/// # Errors
/// Returns an error if the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries: std::io::Result<Vec<_>> = fs::read_dir(folder)?
        .map(|entry| Ok(entry?.path()))
        .collect();
    let mut modules = entries?;
    modules.sort_unstable();
    Ok(modules)
}

/// Collects the paths of the modules below `folder`, by name.
fn find(folder: &Path, modules: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            find(&entry.path(), modules)?;
        } else if let Some((stem, "" | ".xz")) = name.split_once(".ko") {
            modules.insert(stem.replace('-', "_"), entry.path());
        }
    }
    Ok(())
}

/// Appends a module after all its dependencies. A module without a file is built into the kernel.
fn add_with_dependencies(
    name: &str,
    modules: &BTreeMap<String, PathBuf>,
    order: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let Some(path) = modules.get(name) else {
        return Ok(());
    };
    if order.iter().any(|(other, _)| other == name) {
        return Ok(());
    }
    let mut module = fs::read(path)?;
    if path.extension().is_some_and(|extension| extension == "xz") {
        let mut plain = Vec::new();
        XzReader::new(&module[..], true)
            .read_to_end(&mut plain)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        module = plain;
    }
    for dependency in dependencies(&module) {
        add_with_dependencies(&dependency, modules, order)?;
    }
    order.push((name.to_owned(), module));
    Ok(())
}

/// Returns the names of the modules in `depends=`.
fn dependencies(module: &[u8]) -> Vec<String> {
    let texts = module.split(|byte| *byte == 0);
    let names = texts.filter_map(|text| text.strip_prefix(b"depends="));
    names
        .flat_map(|names| names.split(|byte| *byte == b','))
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_precede_modules_and_occur_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root/lib/modules");
        fs::create_dir_all(&root).unwrap();
        for (name, depends) in [
            ("virtio_pci", "virtio,virtio-ring"),
            ("virtio-ring", "virtio"),
            ("virtio", ""),
            ("virtio_net", "net_failover,virtio,built_in"),
            ("net_failover", ""),
            ("unwanted", ""),
        ] {
            let text = format!("\x7fELF\0license=GPL\0depends={depends}\0vermagic=1\0");
            fs::write(root.join(format!("{name}.ko")), text).unwrap();
        }
        let into = folder.path().join("modules");
        collect(&folder.path().join("root"), &NETWORK_MODULES, &into).unwrap();
        let names: Vec<_> = list(&into)
            .unwrap()
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "00-virtio.ko",
                "01-virtio_ring.ko",
                "02-virtio_pci.ko",
                "03-net_failover.ko",
                "04-virtio_net.ko"
            ]
        );
    }

    #[test]
    fn a_kernel_without_modules_has_an_empty_list() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("modules");
        collect(folder.path(), &NETWORK_MODULES, &into).unwrap();
        assert!(list(&into).unwrap().is_empty());
    }
}
