//! The container image: the command and its licences, for all architectures, in one OCI archive.
//!
//! An OCI archive is a tar of JSON documents and layers, each named by its checksum. The three
//! documents are written here: crates for them would bring two versions of ten other crates.

use std::fs::{self, File};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use crate::checksums::digest;
use crate::program::Programs;
use crate::project::{Project, Result, read_output};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Content of an archive before it is packed.
struct Archive {
    tar: Builder<File>,
    time: u64,
}

/// Writes `cpreg-VERSION-oci.tar` with an image for each architecture, and returns its name.
///
/// # Errors
/// Returns an error if a file cannot be read or written.
pub(crate) fn make(project: &Project, programs: &[Programs], output: &Path) -> Result<String> {
    let name = format!("cpreg-{}-oci.tar", project.version);
    let mut archive = Archive {
        tar: Builder::new(File::create(output.join(&name))?),
        time: project.time,
    };
    let created = creation_time(project.time)?;
    archive.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let mut manifests = Vec::new();
    for programs in programs {
        let layer = layer(project, programs)?;
        // The configuration names the layer before its compression.
        let config = config(project, programs, &digest(&layer), &created);
        let mut writer = GzBuilder::new()
            .mtime(0)
            .write(Vec::new(), Compression::best());
        std::io::Write::write_all(&mut writer, &layer)?;
        let layer = archive.add_blob(LAYER, &writer.finish()?)?;
        let config = archive.add_blob(CONFIG, &serde_json::to_vec(&config)?)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": annotations(project, &created),
        });
        let mut manifest = archive.add_blob(MANIFEST, &serde_json::to_vec(&manifest)?)?;
        manifest["platform"] = json!({
            "architecture": programs.architecture.debian_name(),
            "os": "linux",
        });
        manifests.push(manifest);
    }
    // Programs that take an archive look for one entry with a tag, which leads to all images.
    let images = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let mut images = archive.add_blob(INDEX, &serde_json::to_vec(&images)?)?;
    images["annotations"] = json!({"org.opencontainers.image.ref.name": project.version});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [images]});
    archive.add("index.json", &serde_json::to_vec(&index)?)?;
    archive.tar.finish()?;
    Ok(name)
}

impl Archive {
    fn add(&mut self, path: &str, content: &[u8]) -> Result<()> {
        add_file(&mut self.tar, path, content, 0o644, self.time)
    }

    /// Adds a document or layer, and returns its descriptor.
    fn add_blob(&mut self, media_type: &str, content: &[u8]) -> Result<Value> {
        let digest = digest(content);
        self.add(&format!("blobs/sha256/{digest}"), content)?;
        let digest = format!("sha256:{digest}");
        Ok(json!({"mediaType": media_type, "digest": digest, "size": content.len()}))
    }
}

/// Returns the layer of an image, not compressed.
fn layer(project: &Project, programs: &Programs) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut add_folder = |path: &str, mode: u32| -> Result<()> {
        let mut header = header(mode, project.time, 0);
        header.set_entry_type(EntryType::Directory);
        Ok(tar.append_data(&mut header, path, &[][..])?)
    };
    // Commands write temporary files there.
    add_folder("tmp/", 0o1777)?;
    for folder in [
        "usr/",
        "usr/bin/",
        "usr/share/",
        "usr/share/licenses/",
        "usr/share/licenses/cpreg/",
    ] {
        add_folder(folder, 0o755)?;
    }
    let command = fs::read(&programs.command)
        .map_err(|error| format!("{}: {error}", programs.command.display()))?;
    add_file(&mut tar, "usr/bin/cpreg", &command, 0o755, project.time)?;
    for name in ["LICENSE-APACHE", "LICENSE-MIT"] {
        let path = format!("usr/share/licenses/cpreg/{name}");
        let content = project.read_file(name)?;
        add_file(&mut tar, &path, &content, 0o644, project.time)?;
    }
    Ok(tar.into_inner()?)
}

/// Returns the configuration of an image. `layer` is the checksum of its layer.
fn config(project: &Project, programs: &Programs, layer: &str, created: &str) -> Value {
    json!({
        "created": created,
        "architecture": programs.architecture.debian_name(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/cpreg"],
            "Cmd": ["--help"],
            "Env": ["PATH=/usr/bin"],
            "WorkingDir": "/",
            "Labels": annotations(project, created),
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created": created, "created_by": "cargo xtask dist image"}],
    })
}

fn annotations(project: &Project, created: &str) -> Value {
    json!({
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
        "org.opencontainers.image.title": "cpreg",
        "org.opencontainers.image.version": project.version,
    })
}

/// Returns a time in the form of RFC 3339.
fn creation_time(seconds: u64) -> Result<String> {
    let mut date = std::process::Command::new("date");
    date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "--date"]);
    let date = read_output(date.arg(format!("@{seconds}")))?;
    Ok(date.trim().to_owned())
}

fn header(mode: u32, time: u64, length: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_size(length);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn add_file<W: std::io::Write>(
    tar: &mut Builder<W>,
    path: &str,
    content: &[u8],
    mode: u32,
    time: u64,
) -> Result<()> {
    let mut header = header(mode, time, content.len().try_into()?);
    Ok(tar.append_data(&mut header, path, content)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use super::*;
    use crate::architecture::Architecture;
    use crate::installed_files::stand_in;

    /// Returns the files of an archive, whose names must be the checksums of their contents.
    fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_string_lossy().into_owned();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            if let Some(sum) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(digest(&content), sum);
            }
            (name, content)
        });
        entries.collect()
    }

    #[test]
    fn every_descriptor_leads_to_a_blob() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::stand_in(folder.path());
        let architectures = [Architecture::X86_64, Architecture::Aarch64];
        let programs = architectures.map(|it| stand_in::programs(folder.path(), it));
        let name = make(&project, &programs, folder.path()).unwrap();
        let files = files(&folder.path().join(&name));
        let follow = |descriptor: &Value| -> &Vec<u8> {
            let digest = descriptor["digest"].as_str().unwrap();
            let blob = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(descriptor["size"], blob.len());
            blob
        };
        let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = parse(&files["index.json"]);
        let images = parse(follow(&index["manifests"][0]));
        let mut found = Vec::new();
        for descriptor in images["manifests"].as_array().unwrap() {
            let manifest = parse(follow(descriptor));
            let config = parse(follow(&manifest["config"]));
            let mut layer = Vec::new();
            flate2::read::GzDecoder::new(follow(&manifest["layers"][0]).as_slice())
                .read_to_end(&mut layer)
                .unwrap();
            let expected = format!("sha256:{}", digest(&layer));
            assert_eq!(config["rootfs"]["diff_ids"][0], expected);
            assert_eq!(config["created"], "1970-01-01T00:00:07Z");
            assert_eq!(
                descriptor["platform"]["architecture"],
                config["architecture"]
            );
            found.push(config["architecture"].as_str().unwrap().to_owned());
        }
        assert_eq!(found, ["amd64", "arm64"]);
    }
}
