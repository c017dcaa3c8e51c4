//! Disks: what `null-co` block nodes stand in for.
//!
//! A stand-in has the same name, place on the board, kind of medium, and size, is read-only where the disk was, and
//! reads as zeroes. Every `-replace_blockdev` becomes one, whatever it was built from: those that only others used are left
//! unused. Flash has the same size to the byte, or the machine refuses it; for other disks nothing in the stream depends
//! on it, so one whose size cannot be told gets [`DEFAULT_DISK_SIZE`].

use std::path::Path;

use super::host_queries::HostQueries;
use super::images::ImageFormat;
use super::values::{Values, parse_size};

/// The size of a disk that cannot be told, in bytes. A power of two, as SD cards need it.
const DEFAULT_DISK_SIZE: u64 = 1 << 30;

/// The size of a bank of flash of the machine `virt`, in bytes (hw/arm/virt.c: 128 MiB in two banks).
const FLASH_BANK_SIZE: u64 = 64 << 20;

/// What of a `-drive` concerns the device and not the image.
///
/// The cache mode is the device's too: with `config-wce=off` it decides whether virtio-blk offers the feature of flushing.
const DEVICE_KEYS: &[&str] = &[
    "id",
    "if",
    "bus",
    "unit",
    "index",
    "media",
    "readonly",
    "read-only",
    "node-name",
    "cache",
    "rerror",
    "werror",
    "serial",
];

/// What of a `-drive` says where its contents are.
const IMAGE_KEYS: &[&str] = &[
    "file",
    "driver",
    "filename",
    "backing",
    "path",
    "data-file",
    "image",
    "server",
];

/// A disk's stand-in: the option's new value, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    pub(crate) value: String,
    pub(crate) reason: &'static str,
}

const DISK_REASON: &str = "no disk is opened: an empty one of the same size stands in";
const UNKNOWN_SIZE_REASON: &str = "no disk is opened: an empty one of 1 GiB stands in (the disk's size cannot be told, and no device's state depends on it)";
const FLASH_REASON: &str = "no image is opened: empty flash of 64 MiB stands in (the image's size cannot be told; that is a bank of the machine virt)";

/// The block nodes of a command line, by name, so that one can be followed to another.
#[derive(Debug, Default)]
pub(crate) struct BlockNodes {
    nodes: Vec<(String, Values)>,
    flash: Vec<String>,
}

impl BlockNodes {
    /// Notes a `-replace_blockdev`.
    pub(crate) fn add(&mut self, values: Values) {
        if let Some(name) = values.get("node-name") {
            self.nodes.push((name.to_owned(), values));
        }
    }

    /// Notes that `-machine` has a node as flash.
    pub(crate) fn mark_flash(&mut self, name: &str) {
        self.flash.push(name.to_owned());
    }

    /// `-replace_blockdev` in its stead.
    pub(crate) fn replace_blockdev(&self, values: &Values, around: &dyn HostQueries) -> StandIn {
        let name = values.get("node-name").unwrap_or_default();
        let is_flash = self.flash.iter().any(|flash| flash == name);
        let (bytes, reason) = size_or_default(self.size(values, around, 0), is_flash);
        let more = [("size", &*bytes), ("read-zeroes", "on")];
        StandIn {
            value: values.format_only_as_keys("null-co", &["node-name", "read-only"], &more),
            reason,
        }
    }

    /// `-drive` in its stead; `None` if it has no medium.
    pub(crate) fn replace_drive(
        &self,
        values: &Values,
        around: &dyn HostQueries,
    ) -> Option<StandIn> {
        if !values.has_any(IMAGE_KEYS) {
            return None;
        }
        let is_flash = values.get("if") == Some("pflash");
        let (bytes, reason) = size_or_default(self.drive_size(values, around), is_flash);
        let more = [
            ("driver", "null-co"),
            ("size", &*bytes),
            ("read-zeroes", "on"),
        ];
        // Nothing comes first in a `-drive`.
        let value = values.format_only_as_keys("", DEVICE_KEYS, &more);
        Some(StandIn { value, reason })
    }

    fn drive_size(&self, values: &Values, around: &dyn HostQueries) -> Option<u64> {
        let format = values.get("format").or_else(|| values.get("driver"));
        if let Some(text) = values.get("file") {
            let contents = match format {
                Some("raw") => ImageFormat::Raw,
                Some("qcow2" | "luks") | None => ImageFormat::Detect,
                // `driver=file,file=…` is a protocol's own name for a file.
                Some("file" | "host_device") => ImageFormat::Raw,
                Some(_) => return None,
            };
            return file_size(text, contents, around);
        }
        self.size_with_driver(values, format, around, 0)
    }

    fn size(&self, values: &Values, around: &dyn HostQueries, depth: usize) -> Option<u64> {
        self.size_with_driver(values, values.get("driver"), around, depth)
    }

    fn size_with_driver(
        &self,
        values: &Values,
        driver: Option<&str>,
        around: &dyn HostQueries,
        depth: usize,
    ) -> Option<u64> {
        // Node references could go round in circles.
        if depth > 16 {
            return None;
        }
        let below = |contents| self.child_size(values, contents, around, depth + 1);
        match driver {
            Some("file" | "host_device") => {
                file_size(values.get("filename")?, ImageFormat::Raw, around)
            }
            Some("raw") => {
                let offset = values
                    .get("offset")
                    .and_then(|text| parse_size(text, 1))
                    .unwrap_or(0);
                match values.get("size") {
                    Some(text) => parse_size(text, 1),
                    None => below(ImageFormat::Raw)?.checked_sub(offset),
                }
            }
            Some("qcow2" | "luks") | None => below(ImageFormat::Detect),
            Some("null-co" | "null-aio") => values.get("size").and_then(|text| parse_size(text, 1)),
            Some("throttle" | "copy-on-read" | "blkdebug" | "preallocate" | "compress") => {
                below(ImageFormat::Raw)
            }
            Some(_) => None,
        }
    }

    /// The size of what a node has as its `file`: another node by name, or one within it.
    fn child_size(
        &self,
        values: &Values,
        contents: ImageFormat,
        around: &dyn HostQueries,
        depth: usize,
    ) -> Option<u64> {
        let inner = values.nested("file");
        let node = match values.get("file") {
            Some(name) => &self.nodes.iter().find(|(node, _)| node == name)?.1,
            None => &inner,
        };
        match (node.get("driver"), contents) {
            (Some("file" | "host_device"), _) => file_size(node.get("filename")?, contents, around),
            // The header can be read through what does not change the bytes.
            (Some("throttle" | "copy-on-read" | "preallocate"), _) if depth <= 16 => {
                self.child_size(node, contents, around, depth + 1)
            }
            (Some("raw"), ImageFormat::Detect)
                if !node.has_any(&["offset", "size"]) && depth <= 16 =>
            {
                self.child_size(node, contents, around, depth + 1)
            }
            (None, _) if node.get("filename").is_some() => {
                file_size(node.get("filename")?, contents, around)
            }
            (_, ImageFormat::Raw) => self.size(node, around, depth),
            (_, ImageFormat::Detect) => None,
        }
    }
}

/// `-hda FILE` and the like as a `-drive`, which has `place`.
pub(crate) fn replace_image(path: &str, place: &str, around: &dyn HostQueries) -> StandIn {
    let found = file_size(path, ImageFormat::Detect, around);
    let (bytes, reason) = size_or_default(found, place == "if=pflash");
    StandIn {
        value: format!("{place},driver=null-co,size={bytes},read-zeroes=on"),
        reason,
    }
}

fn size_or_default(found: Option<u64>, is_flash: bool) -> (String, &'static str) {
    let (bytes, reason) = match found {
        Some(bytes) => (bytes, DISK_REASON),
        None if is_flash => (FLASH_BANK_SIZE, FLASH_REASON),
        None => (DEFAULT_DISK_SIZE, UNKNOWN_SIZE_REASON),
    };
    (bytes.to_string(), reason)
}

/// The size of an image that is named as QEMU takes names: a path, `file:PATH`, `json:{…}`, or a network's.
fn file_size(name: &str, contents: ImageFormat, around: &dyn HostQueries) -> Option<u64> {
    if let Some(text) = name.strip_prefix("json:") {
        let values = Values::parse(text, "driver")?;
        return BlockNodes::default().size(&values, around, 0);
    }
    let path = name.strip_prefix("file:").unwrap_or(name);
    // A path has its first slash before any colon; `nbd://host`, `rbd:pool/x`, `fat:rw:dir` do not.
    let protocol = path
        .split('/')
        .next()
        .is_some_and(|first| first.contains(':'));
    if protocol && !name.starts_with("file:") {
        return None;
    }
    around.image_size(Path::new(path), contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sizes;

    impl HostQueries for Sizes {
        fn image_size(&self, path: &Path, contents: ImageFormat) -> Option<u64> {
            match (path.to_str()?, contents) {
                ("/a.qcow2", ImageFormat::Raw) => Some(200_704),
                ("/a.qcow2", ImageFormat::Detect) => Some(10 << 30),
                ("/code.fd", _) => Some(64 << 20),
                ("/with,comma", _) => Some(512),
                _ => None,
            }
        }

        fn network_namespace_command(&self) -> Result<&'static [&'static str], String> {
            Err("none in this test".to_owned())
        }
    }

    fn drive(text: &str) -> Option<String> {
        let values = Values::parse(text, "").unwrap();
        Some(BlockNodes::default().replace_drive(&values, &Sizes)?.value)
    }

    #[test]
    fn drives_keep_their_place_and_size() {
        assert_eq!(
            drive("file=/a.qcow2,format=qcow2,if=none,id=d0,cache=none,aio=native,discard=unmap")
                .unwrap(),
            "if=none,id=d0,cache=none,driver=null-co,size=10737418240,read-zeroes=on"
        );
        assert_eq!(
            drive("if=pflash,format=raw,unit=0,readonly=on,file=/code.fd").unwrap(),
            "if=pflash,unit=0,readonly=on,driver=null-co,size=67108864,read-zeroes=on"
        );
        assert_eq!(
            drive("file=/with,,comma").unwrap(),
            "driver=null-co,size=512,read-zeroes=on"
        );
        assert_eq!(
            drive("file.driver=nbd,file.host=h,if=virtio").unwrap(),
            "if=virtio,driver=null-co,size=1073741824,read-zeroes=on"
        );
        assert_eq!(drive("if=none,id=cd,media=cdrom"), None);
    }

    #[test]
    fn nodes_are_followed_to_the_file() {
        let mut nodes = BlockNodes::default();
        let texts = [
            r#"{"driver":"file","filename":"/a.qcow2","node-name":"s","auto-read-only":true}"#,
            r#"{"node-name":"f","read-only":false,"driver":"qcow2","file":"s","backing":null}"#,
            r#"{"node-name":"t","driver":"throttle","file":"f","throttle-group":"g"}"#,
            "raw,node-name=r,file.driver=file,file.filename=/a.qcow2,offset=512,read-only=on",
            "qcow2,node-name=loop,file=loop",
            "raw,node-name=circle,file=circle",
        ];
        for text in texts {
            nodes.add(Values::parse(text, "driver").unwrap());
        }
        let values: Vec<String> = nodes
            .nodes
            .iter()
            .map(|(_, values)| nodes.replace_blockdev(values, &Sizes).value)
            .collect();
        assert_eq!(
            values,
            [
                "null-co,node-name=s,size=200704,read-zeroes=on",
                "null-co,node-name=f,read-only=off,size=10737418240,read-zeroes=on",
                "null-co,node-name=t,size=10737418240,read-zeroes=on",
                "null-co,node-name=r,read-only=on,size=200192,read-zeroes=on",
                "null-co,node-name=loop,size=1073741824,read-zeroes=on",
                "null-co,node-name=circle,size=1073741824,read-zeroes=on",
            ]
        );
    }

    #[test]
    fn flash_that_the_machine_names_has_a_bank_size() {
        let mut nodes = BlockNodes::default();
        nodes.mark_flash("pf0");
        let values = Values::parse("file,node-name=pf0,filename=/unknown", "driver").unwrap();
        assert_eq!(
            nodes.replace_blockdev(&values, &Sizes).value,
            "null-co,node-name=pf0,size=67108864,read-zeroes=on"
        );
        assert_eq!(
            replace_image("/code.fd", "if=pflash", &Sizes).value,
            "if=pflash,driver=null-co,size=67108864,read-zeroes=on"
        );
        assert_eq!(
            file_size(
                "json:{\"driver\":\"file\",\"filename\":\"/code.fd\"}",
                ImageFormat::Detect,
                &Sizes
            ),
            Some(64 << 20)
        );
        assert_eq!(file_size("nbd://h/x", ImageFormat::Detect, &Sizes), None);
    }
}
