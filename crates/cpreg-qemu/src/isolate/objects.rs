//! Rewrite of `-object` options.
//!
//! - `memory-backend-file`, `-memfd`, `-shm`, `-ram`: `memory-backend-ram` of the same name and
//!   size, so that the RAM block in the stream has the same name. It has no file, huge pages,
//!   sharing, preallocation or binding to nodes.
//! - `rng-random`, `rng-egd`: `rng-builtin`
//! - `cryptodev-vhost-user`, `cryptodev-backend-lkcf`: `cryptodev-backend-builtin` with the same
//!   number of queues
//! - secrets, TLS credentials, authorisation, filters, inputs, monitors, iommufd, the host side of
//!   a CAN bus: removed, because only replaced options used them
//! - `dbus-vmstate`: removed; its section is not verified
//! - threads, throttle groups, CAN buses, ACPI's generic initiators, cipher suites, builtin
//!   backends: kept
//!
//! The stream does not contain the size of huge pages, unless `postcopy-ram` is enabled at the
//! source (migration/ram.c).

use std::path::Path;

use super::host_queries::HostQueries;
use super::images::ImageFormat;
use super::isolated_command::UnverifiedPart;
use super::values::Values;

/// Rewrite of an `-object` option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ObjectRewrite {
    Keep,
    Replace(String, &'static str),
    Drop(&'static str, Option<UnverifiedPart>),
    Refuse(&'static str),
}

const MEMORY_REASON: &str =
    "the guest's memory is neither filled nor used: no file, no huge pages, no preallocation";
const UNUSED_REASON: &str = "no remaining option uses it";
const RNG_REASON: &str = "no entropy source of this host may be opened";

/// Properties that bind memory to a file, huge pages, nodes or sharing.
const HOST_MEMORY_KEYS: &[&str] = &[
    "mem-path",
    "share",
    "prealloc",
    "prealloc-threads",
    "prealloc-context",
    "host-nodes",
    "policy",
    "hugetlb",
    "hugetlbsize",
    "discard-data",
    "pmem",
    "align",
    "readonly",
    "rom",
    "offset",
    "seal",
];

/// Returns the rewrite of the `-object` option with these values.
pub(crate) fn rewrite_object(values: &Values, host: &dyn HostQueries) -> ObjectRewrite {
    let kind = values.get("qom-type").unwrap_or_default();
    match kind {
        "memory-backend-ram" if !values.has_any(HOST_MEMORY_KEYS) => ObjectRewrite::Keep,
        "memory-backend-ram"
        | "memory-backend-file"
        | "memory-backend-memfd"
        | "memory-backend-shm" => rewrite_memory(values, host),
        "rng-random" | "rng-egd" => ObjectRewrite::Replace(
            values.format_only_as_keys("rng-builtin", &["id"], &[]),
            RNG_REASON,
        ),
        "cryptodev-vhost-user" | "cryptodev-backend-lkcf" => ObjectRewrite::Replace(
            values.format_only_as_keys("cryptodev-backend-builtin", &["id", "queues"], &[]),
            "no process and no kernel interface may be accessed",
        ),
        "iothread"
        | "main-loop"
        | "thread-context"
        | "throttle-group"
        | "rng-builtin"
        | "cryptodev-backend"
        | "cryptodev-backend-builtin"
        | "can-bus"
        | "acpi-generic-initiator"
        | "acpi-generic-port"
        | "tls-cipher-suites" => ObjectRewrite::Keep,
        "secret" | "secret_keyring" | "tls-creds-anon" | "tls-creds-psk" | "tls-creds-x509"
        | "authz-simple" | "authz-list" | "authz-list-file" | "authz-pam"
        | "can-host-socketcan" | "colo-compare" | "input-linux" | "input-barrier" | "iommufd"
        | "pr-manager-helper" | "qtest" | "monitor-hmp" | "monitor-qmp" => {
            ObjectRewrite::Drop(UNUSED_REASON, None)
        }
        _ if kind.starts_with("filter-") => ObjectRewrite::Drop(UNUSED_REASON, None),
        "dbus-vmstate" => {
            let reason = "no D-Bus may be connected to";
            let unverified = UnverifiedPart {
                description: "the object `dbus-vmstate`".to_owned(),
                sections: vec!["dbus-vmstate".to_owned()],
                ram_blocks: Vec::new(),
                reason,
            };
            ObjectRewrite::Drop(reason, Some(unverified))
        }
        _ => ObjectRewrite::Refuse("cpreg does not know what this object accesses on this host"),
    }
}

fn rewrite_memory(values: &Values, host: &dyn HostQueries) -> ObjectRewrite {
    let keys = &[
        "id",
        "size",
        "x-use-canonical-path-for-ramblock-id",
        "merge",
        "dump",
        "reserve",
    ];
    if values.get("size").is_some() {
        return ObjectRewrite::Replace(
            values.format_only_as_keys("memory-backend-ram", keys, &[]),
            MEMORY_REASON,
        );
    }
    // QEMU 10.0 and later use the size of the file if no size is given.
    let file = values.get("mem-path").map(Path::new);
    match file.and_then(|path| host.image_size(path, ImageFormat::Raw)) {
        Some(bytes) => {
            let bytes = bytes.to_string();
            let value = values.format_only_as_keys("memory-backend-ram", keys, &[("size", &bytes)]);
            ObjectRewrite::Replace(value, MEMORY_REASON)
        }
        None => ObjectRewrite::Refuse(
            "its size is not given, and the size of its file is unknown: add `size=`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TestHost;

    impl HostQueries for TestHost {
        fn image_size(&self, path: &Path, _: ImageFormat) -> Option<u64> {
            (path == Path::new("/nvdimm")).then_some(4096)
        }

        fn network_namespace_command(&self) -> Result<&'static [&'static str], String> {
            Err(String::new())
        }
    }

    fn rewrite(text: &str) -> ObjectRewrite {
        rewrite_object(&Values::parse(text, "qom-type").unwrap(), &TestHost)
    }

    #[test]
    fn memory_keeps_its_name_and_size() {
        for (given, expected) in [
            (
                "memory-backend-file,id=m0,size=1G,mem-path=/dev/hugepages,share=on,prealloc=on",
                "memory-backend-ram,id=m0,size=1G",
            ),
            (
                "memory-backend-memfd,id=m0,hugetlb=on,size=1G,x-use-canonical-path-for-ramblock-id=off",
                "memory-backend-ram,id=m0,size=1G,x-use-canonical-path-for-ramblock-id=off",
            ),
            (
                r#"{"qom-type":"memory-backend-ram","id":"m0","size":1073741824,"host-nodes":[0],"policy":"bind"}"#,
                "memory-backend-ram,id=m0,size=1073741824",
            ),
            // The isolated QEMU must not reserve a large VM's memory either.
            (
                "memory-backend-memfd,id=m0,size=1G,reserve=off",
                "memory-backend-ram,id=m0,size=1G,reserve=off",
            ),
            (
                "memory-backend-file,id=m0,mem-path=/nvdimm",
                "memory-backend-ram,id=m0,size=4096",
            ),
        ] {
            assert_eq!(
                rewrite(given),
                ObjectRewrite::Replace(expected.to_owned(), MEMORY_REASON),
                "{given}"
            );
        }
        assert_eq!(
            rewrite("memory-backend-ram,id=m,size=1G"),
            ObjectRewrite::Keep
        );
        assert!(matches!(
            rewrite("memory-backend-file,id=m,mem-path=/none"),
            ObjectRewrite::Refuse(_)
        ));
    }

    /// Objects of `-object help` of QEMU 7.2, 10.0 and 11.1, which include those of 5.2.
    const LISTED: &str = "acpi-generic-initiator acpi-generic-port authz-list authz-list-file authz-simple can-bus \
        can-host-socketcan colo-compare cryptodev-backend cryptodev-backend-builtin cryptodev-vhost-user dbus-vmstate \
        filter-buffer filter-dump filter-mirror filter-redirector filter-replay filter-rewriter input-barrier \
        input-linux iommufd iothread main-loop memory-backend-file memory-backend-memfd memory-backend-ram \
        memory-backend-shm monitor-hmp monitor-qmp pr-manager-helper qtest rng-builtin rng-egd rng-random secret \
        secret_keyring thread-context throttle-group tls-cipher-suites tls-creds-anon tls-creds-psk tls-creds-x509";

    #[test]
    fn every_object_that_qemu_lists_is_classified() {
        for kind in LISTED.split_whitespace() {
            let result = rewrite(&format!("{kind},id=x,size=1M"));
            assert!(!matches!(result, ObjectRewrite::Refuse(_)), "{kind}");
        }
        assert!(matches!(
            rewrite("arm-rme-guest,id=x"),
            ObjectRewrite::Refuse(_)
        ));
    }
}
