//! Disks, replaced by `null-co` block nodes.
//!
//! A stand-in has the disk's name, place on the board, kind of medium and size. It is read-only if
//! the disk was, and reads as zeroes. Every `-blockdev` becomes a stand-in. A node
//! to which only other nodes referred thus remains, but nothing uses it. Flash keeps its exact
//! size, because the machine refuses any other. For other disks, the stream does not depend on the
//! size, and a disk of unknown size has [`DEFAULT_DISK_SIZE`].

use std::path::Path;

use super::host_queries::HostQueries;
use super::images::ImageFormat;
use super::values::{Values, parse_size};

/// Size for a disk of unknown size, in bytes; a power of two, because SD cards require one.
const DEFAULT_DISK_SIZE: u64 = 1 << 30;

/// Size of a bank of flash of the machine `virt`, in bytes (hw/arm/virt.c: 128 MiB in two banks).
const FLASH_BANK_SIZE: u64 = 64 << 20;

/// Keys of a `-drive` that concern the device and not the image.
///
/// The cache mode is one of them, because with `config-wce=off` it determines if virtio-blk offers
/// flushing.
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

/// Keys of a `-drive` that locate its content.
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

/// Stand-in for a disk: the new value of the option, and the reason for the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    pub(crate) value: String,
    pub(crate) reason: &'static str,
}

const DISK_REASON: &str = "no disk is opened: an empty one of the same size replaces it";
const UNKNOWN_SIZE_REASON: &str = "no disk is opened: an empty one of 1 GiB replaces it (the disk's size is unknown; no device state depends on it)";
const FLASH_REASON: &str = "no image is opened: empty flash of 64 MiB replaces it (the image's size is unknown; this is a bank of the machine virt)";

/// Block nodes of a command line by name, to follow references between them.
#[derive(Debug, Default)]
pub(crate) struct BlockNodes {
    nodes: Vec<(String, Values)>,
    flash: Vec<String>,
}

impl BlockNodes {
    /// Adds the node of a `-blockdev` option.
    pub(crate) fn add(&mut self, values: Values) {
        if let Some(name) = values.get("node-name") {
            self.nodes.push((name.to_owned(), values));
        }
    }

    /// Marks the node `name`, which `-machine` uses as flash.
    pub(crate) fn mark_flash(&mut self, name: &str) {
        self.flash.push(name.to_owned());
    }

    /// Returns the stand-in for a `-blockdev`.
    pub(crate) fn replace_blockdev(&self, values: &Values, host: &dyn HostQueries) -> StandIn {
        let name = values.get("node-name").unwrap_or_default();
        let is_flash = self.flash.iter().any(|flash| flash == name);
        let (bytes, reason) = size_or_default(self.size(values, host, 0), is_flash);
        let more = [("size", &*bytes), ("read-zeroes", "on")];
        StandIn {
            value: values.format_only_as_keys("null-co", &["node-name", "read-only"], &more),
            reason,
        }
    }

    /// Returns the stand-in for a `-drive`; `None` if the drive has no medium.
    pub(crate) fn replace_drive(&self, values: &Values, host: &dyn HostQueries) -> Option<StandIn> {
        if !values.has_any(IMAGE_KEYS) {
            return None;
        }
        let is_flash = values.get("if") == Some("pflash");
        let (bytes, reason) = size_or_default(self.drive_size(values, host), is_flash);
        let more = [
            ("driver", "null-co"),
            ("size", &*bytes),
            ("read-zeroes", "on"),
        ];
        // A `-drive` has no leading word.
        let value = values.format_only_as_keys("", DEVICE_KEYS, &more);
        Some(StandIn { value, reason })
    }

    fn drive_size(&self, values: &Values, host: &dyn HostQueries) -> Option<u64> {
        let format = values.get("format").or_else(|| values.get("driver"));
        if let Some(text) = values.get("file") {
            let contents = match format {
                Some("raw") => ImageFormat::Raw,
                Some("qcow2" | "luks") | None => ImageFormat::Detect,
                // In `driver=file,file=…`, the driver is a protocol, and the image is raw.
                Some("file" | "host_device") => ImageFormat::Raw,
                Some(_) => return None,
            };
            return file_size(text, contents, host);
        }
        self.size_with_driver(values, format, host, 0)
    }

    fn size(&self, values: &Values, host: &dyn HostQueries, depth: usize) -> Option<u64> {
        self.size_with_driver(values, values.get("driver"), host, depth)
    }

    fn size_with_driver(
        &self,
        values: &Values,
        driver: Option<&str>,
        host: &dyn HostQueries,
        depth: usize,
    ) -> Option<u64> {
        // Limit the depth, because references between nodes may form a circle.
        if depth > 16 {
            return None;
        }
        let child_size = |contents| self.child_size(values, contents, host, depth + 1);
        match driver {
            Some("file" | "host_device") => {
                file_size(values.get("filename")?, ImageFormat::Raw, host)
            }
            Some("raw") => {
                let offset = values
                    .get("offset")
                    .and_then(|text| parse_size(text, 1))
                    .unwrap_or(0);
                match values.get("size") {
                    Some(text) => parse_size(text, 1),
                    None => child_size(ImageFormat::Raw)?.checked_sub(offset),
                }
            }
            Some("qcow2" | "luks") | None => child_size(ImageFormat::Detect),
            Some("null-co" | "null-aio") => values.get("size").and_then(|text| parse_size(text, 1)),
            Some("throttle" | "copy-on-read" | "blkdebug" | "preallocate" | "compress") => {
                child_size(ImageFormat::Raw)
            }
            Some(_) => None,
        }
    }

    /// Returns the size of a node's `file`, which is another node by name or a nested node.
    fn child_size(
        &self,
        values: &Values,
        contents: ImageFormat,
        host: &dyn HostQueries,
        depth: usize,
    ) -> Option<u64> {
        let inner = values.nested("file");
        let node = match values.get("file") {
            Some(name) => &self.nodes.iter().find(|(node, _)| node == name)?.1,
            None => &inner,
        };
        match (node.get("driver"), contents) {
            (Some("file" | "host_device"), _) => file_size(node.get("filename")?, contents, host),
            // These drivers do not change the bytes, so the header can be read through them.
            (Some("throttle" | "copy-on-read" | "preallocate"), _) if depth <= 16 => {
                self.child_size(node, contents, host, depth + 1)
            }
            (Some("raw"), ImageFormat::Detect)
                if !node.has_any(&["offset", "size"]) && depth <= 16 =>
            {
                self.child_size(node, contents, host, depth + 1)
            }
            (None, _) if node.get("filename").is_some() => {
                file_size(node.get("filename")?, contents, host)
            }
            (_, ImageFormat::Raw) => self.size(node, host, depth),
            (_, ImageFormat::Detect) => None,
        }
    }
}

/// Returns `-hda FILE` and the like as a `-drive` that begins with `place`.
pub(crate) fn replace_image(path: &str, place: &str, host: &dyn HostQueries) -> StandIn {
    let size = file_size(path, ImageFormat::Detect, host);
    let (bytes, reason) = size_or_default(size, place == "if=pflash");
    StandIn {
        value: format!("{place},driver=null-co,size={bytes},read-zeroes=on"),
        reason,
    }
}

fn size_or_default(size: Option<u64>, is_flash: bool) -> (String, &'static str) {
    let (bytes, reason) = match size {
        Some(bytes) => (bytes, DISK_REASON),
        None if is_flash => (FLASH_BANK_SIZE, FLASH_REASON),
        None => (DEFAULT_DISK_SIZE, UNKNOWN_SIZE_REASON),
    };
    (bytes.to_string(), reason)
}

/// Returns the size of an image named as in QEMU: a path, `file:PATH`, `json:{…}`, or a network
/// URL.
fn file_size(name: &str, contents: ImageFormat, host: &dyn HostQueries) -> Option<u64> {
    if let Some(text) = name.strip_prefix("json:") {
        let values = Values::parse(text, "driver")?;
        return BlockNodes::default().size(&values, host, 0);
    }
    let path = name.strip_prefix("file:").unwrap_or(name);
    // A colon before the first slash is a protocol: `nbd://host`, `rbd:pool/x`, `fat:rw:dir`.
    let protocol = path
        .split('/')
        .next()
        .is_some_and(|first| first.contains(':'));
    if protocol && !name.starts_with("file:") {
        return None;
    }
    host.image_size(Path::new(path), contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestHost;

    impl HostQueries for TestHost {
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
        Some(
            BlockNodes::default()
                .replace_drive(&values, &TestHost)?
                .value,
        )
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
            .map(|(_, values)| nodes.replace_blockdev(values, &TestHost).value)
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
    fn flash_of_the_machine_has_the_size_of_a_bank() {
        let mut nodes = BlockNodes::default();
        nodes.mark_flash("pf0");
        let values = Values::parse("file,node-name=pf0,filename=/unknown", "driver").unwrap();
        assert_eq!(
            nodes.replace_blockdev(&values, &TestHost).value,
            "null-co,node-name=pf0,size=67108864,read-zeroes=on"
        );
        assert_eq!(
            replace_image("/code.fd", "if=pflash", &TestHost).value,
            "if=pflash,driver=null-co,size=67108864,read-zeroes=on"
        );
        assert_eq!(
            file_size(
                "json:{\"driver\":\"file\",\"filename\":\"/code.fd\"}",
                ImageFormat::Detect,
                &TestHost
            ),
            Some(64 << 20)
        );
        assert_eq!(file_size("nbd://h/x", ImageFormat::Detect, &TestHost), None);
    }
}
