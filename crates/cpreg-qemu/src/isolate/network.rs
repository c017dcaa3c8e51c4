//! Network backends and their stand-ins.
//!
//! The stream of a virtio-net device records if its backend accepts packets with a header of
//! offload flags ("vnet_hdr"). The device does not load if the backend differs ("saved image
//! requires vnet_hdr=on", hw/net/virtio-net.c). The stand-in must match in this respect:
//!
//! - `tap`, `bridge`, `vhost-user`, `vhost-vdpa`, `netmap`, `passt,vhost-user=on` have the header.
//!   The stand-in is a tap in a new network namespace ([`super::namespace`]). If no namespace can
//!   be created, the stand-in is a hub port, and virtio-net's section is not verified.
//! - `user` lacks the header. It stays, without options that listen, answer or start a program. Its
//!   section is `slirp`, which is not verified with `guestfwd`.
//! - `socket`, `stream`, `dgram`, `vde`, `l2tpv3`, `passt`, `af-xdp`, … lack the header. The
//!   stand-in is a hub port, alone on its hub.
//! - `hubport` lacks the header and stays.
//!
//! Only virtio-net needs a tap; other NICs load with any backend. The number of queues stays,
//! because it is part of the device's state.

use super::host_queries::HostQueries;
use super::isolated_command::UnverifiedPart;
use super::values::Values;

/// Number of the first added hub, above those of the command line.
const FIRST_HUB: u32 = 1_000_000;

/// Keys of `user` that listen on the host, start programs, or provide files.
const HOST_ACCESS_KEYS: &[&str] = &["hostfwd", "guestfwd", "smb", "smbserver", "tftp"];

/// Keys of `-nic` that concern the device and not the backend.
const NIC_KEYS: &[&str] = &["id", "model", "mac", "macaddr", "addr", "vectors", "name"];

const NETWORK_REASON: &str = "no network may be accessed: a backend without a peer replaces it";
const FORWARD_REASON: &str =
    "nothing may listen on this host, no program may be started and no file provided";
const TAP_REASON: &str = "no network may be accessed: a tap in an empty namespace replaces it, \
                          which accepts the same headers";
const PEER_REASON: &str = "no network may be accessed; without a tap, which needs a new \
                           namespace, the device's state does not load, which proves nothing";

/// Rewrite of a network option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkRewrite {
    Keep,
    Replace(String, &'static str),
}

/// State of rewriting the network options of a command line.
pub(crate) struct Network<'a> {
    host: &'a dyn HostQueries,
    /// Ids of the backends that virtio-net devices use.
    virtio_backends: Vec<String>,
    /// Answer of the host query for a namespace; `None` if no backend has needed a tap.
    namespace: Option<Result<&'static [&'static str], String>>,
    taps: u32,
    hubs: u32,
    /// Parts that cannot be verified without the real backend.
    pub(crate) unverified: Vec<UnverifiedPart>,
}

impl<'a> Network<'a> {
    pub(crate) fn new(host: &'a dyn HostQueries) -> Self {
        Self {
            host,
            virtio_backends: Vec::new(),
            namespace: None,
            taps: 0,
            hubs: 0,
            unverified: Vec::new(),
        }
    }

    /// Returns the namespace for QEMU, or the reason why none can be created; `None` if no backend
    /// needs a tap.
    pub(crate) fn namespace(&self) -> Option<&Result<&'static [&'static str], String>> {
        self.namespace.as_ref()
    }

    /// Records the backend of a `-device` option, if the device is virtio-net.
    pub(crate) fn add_device(&mut self, values: &Values) {
        if values.get("driver").is_some_and(is_virtio) {
            self.virtio_backends
                .extend(values.get("netdev").map(str::to_owned));
        }
    }

    /// Rewrites a `-netdev` option.
    pub(crate) fn rewrite_netdev(&mut self, values: &Values) -> NetworkRewrite {
        let id = values.get("id").unwrap_or_default().to_owned();
        let virtio = self.virtio_backends.contains(&id);
        self.rewrite_backend(values, &["id"], virtio, &format!("`-netdev {id}`"))
    }

    /// Rewrites a `-nic` option.
    pub(crate) fn rewrite_nic(&mut self, values: &Values) -> NetworkRewrite {
        if values.get("type") == Some("none") {
            return NetworkRewrite::Keep;
        }
        // On the machine `virt` a NIC without a model is virtio-net.
        let virtio = values.get("model").is_none_or(is_virtio);
        self.rewrite_backend(values, NIC_KEYS, virtio, "`-nic`")
    }

    /// Rewrites a `-net` option. Such an option uses a hub, and no offload header passes a hub.
    pub(crate) fn rewrite_net(&mut self, values: &Values) -> NetworkRewrite {
        match values.get("type") {
            Some("nic" | "none") => NetworkRewrite::Keep,
            Some("user") => self.rewrite_user(values),
            // Without any `-net` QEMU would create a default network.
            _ => NetworkRewrite::Replace("none".to_owned(), NETWORK_REASON),
        }
    }

    fn rewrite_backend(
        &mut self,
        values: &Values,
        keys: &[&str],
        virtio: bool,
        option: &str,
    ) -> NetworkRewrite {
        let kind = values.get("type").unwrap_or_default();
        match kind {
            "user" => return self.rewrite_user(values),
            "hubport" => return NetworkRewrite::Keep,
            _ => {}
        }
        if !(virtio && has_vnet_header(kind, values)) {
            return self.replace_with_hub(values, keys);
        }
        let namespace = self
            .namespace
            .get_or_insert_with(|| self.host.network_namespace_command());
        if namespace.is_err() {
            self.unverified.push(UnverifiedPart {
                description: format!("virtio-net on {option}"),
                sections: vec!["virtio-net".to_owned()],
                ram_blocks: Vec::new(),
                reason: PEER_REASON,
            });
            return self.replace_with_hub(values, keys);
        }
        let unverified_reason = match kind {
            "tap" if uses_vhost(values) => {
                Some("cpreg does not query the features of the kernel's vhost-net")
            }
            "tap" | "bridge" | "netmap" => None,
            _ => Some("cpreg does not query the features of the backend's peer"),
        };
        if let Some(reason) = unverified_reason {
            self.unverified.push(UnverifiedPart {
                description: format!("the features that {option} leaves to virtio-net"),
                sections: Vec::new(),
                ram_blocks: Vec::new(),
                reason,
            });
        }
        let name = format!("cpreg{}", self.taps);
        self.taps += 1;
        let queues = queues(values).to_string();
        let mut more = vec![("ifname", &*name), ("script", "no"), ("downscript", "no")];
        if queues != "1" {
            more.push(("queues", &queues));
        }
        more.extend(values.get("vnet_hdr").map(|on| ("vnet_hdr", on)));
        NetworkRewrite::Replace(values.format_only_as_keys("tap", keys, &more), TAP_REASON)
    }

    /// Rewrites a `user` backend.
    ///
    /// libslirp saves the guest's connections to `guestfwd` targets. It loads such a connection
    /// only if its forward exists.
    fn rewrite_user(&mut self, values: &Values) -> NetworkRewrite {
        if values.has_any(&["guestfwd"]) {
            self.unverified.push(UnverifiedPart {
                description: "user networking".to_owned(),
                sections: vec!["slirp".to_owned()],
                ram_blocks: Vec::new(),
                reason: "it may have connections to the target of `guestfwd`, which must not be \
                         accessed",
            });
        }
        if values.has_any(HOST_ACCESS_KEYS) {
            NetworkRewrite::Replace(
                values.format_without(HOST_ACCESS_KEYS, "type"),
                FORWARD_REASON,
            )
        } else {
            NetworkRewrite::Keep
        }
    }

    fn replace_with_hub(&mut self, values: &Values, keys: &[&str]) -> NetworkRewrite {
        let hub = FIRST_HUB.saturating_add(self.hubs).to_string();
        self.hubs += 1;
        let value = values.format_only_as_keys("hubport", keys, &[("hubid", &hub)]);
        NetworkRewrite::Replace(value, NETWORK_REASON)
    }
}

fn is_virtio(model: &str) -> bool {
    model == "virtio" || model.starts_with("virtio-net")
}

fn has_vnet_header(kind: &str, values: &Values) -> bool {
    match kind {
        "tap" | "bridge" | "vhost-user" | "vhost-vdpa" | "netmap" => true,
        "passt" => values.get("vhost-user") == Some("on"),
        _ => false,
    }
}

fn uses_vhost(values: &Values) -> bool {
    values.has_any(&["vhostfd", "vhostfds", "vhostforce"])
        || matches!(values.get("vhost"), Some("on" | "yes" | "true"))
}

/// Returns the number of queue pairs: the given one, else the number of passed descriptors.
fn queues(values: &Values) -> usize {
    let given = values.get("queues").and_then(|text| text.parse().ok());
    let descriptors = values.get("fds").map(|list| list.split(':').count());
    given.or(descriptors).unwrap_or(1)
}

/// Returns `true` if a virtio-net device uses a transmit queue that no stand-in supports.
///
/// Only the backends vhost-user and vhost-vdpa support more than 256 entries.
pub(crate) fn has_oversized_tx_queue(device: &Values, backend: Option<&str>) -> bool {
    let queue_size = device
        .get("tx_queue_size")
        .and_then(|text| text.parse::<u32>().ok());
    matches!(backend, Some("vhost-user" | "vhost-vdpa"))
        && queue_size.is_some_and(|size| size > 256)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::images::ImageFormat;
    use super::*;

    struct TestHost {
        has_namespace: bool,
    }

    impl HostQueries for TestHost {
        fn image_size(&self, _: &Path, _: ImageFormat) -> Option<u64> {
            None
        }

        fn network_namespace_command(&self) -> Result<&'static [&'static str], String> {
            if self.has_namespace {
                Ok(&["unshare"])
            } else {
                Err("not here".to_owned())
            }
        }
    }

    fn with_virtio(has_namespace: bool) -> Network<'static> {
        let mut network = Network::new(if has_namespace {
            &TestHost {
                has_namespace: true,
            }
        } else {
            &TestHost {
                has_namespace: false,
            }
        });
        network.add_device(&Values::parse("virtio-net-pci,netdev=n,mq=on", "driver").unwrap());
        network
    }

    fn netdev(network: &mut Network<'_>, text: &str) -> Option<String> {
        match network.rewrite_netdev(&Values::parse(text, "type").unwrap()) {
            NetworkRewrite::Replace(value, _) => Some(value),
            NetworkRewrite::Keep => None,
        }
    }

    #[test]
    fn headers_and_queues_are_kept() {
        for (given, expected) in [
            (
                "tap,id=n,ifname=vnet0,vhost=on",
                "tap,id=n,ifname=cpreg0,script=no,downscript=no",
            ),
            (
                "tap,fds=3:4:5,id=n,vhostfds=6:7:8",
                "tap,id=n,ifname=cpreg0,script=no,downscript=no,queues=3",
            ),
            (
                "bridge,id=n,br=br0",
                "tap,id=n,ifname=cpreg0,script=no,downscript=no",
            ),
            (
                "vhost-user,id=n,chardev=c,queues=2",
                "tap,id=n,ifname=cpreg0,script=no,downscript=no,queues=2",
            ),
            (
                r#"{"type":"tap","fd":"28","vhost":true,"vhostfd":"30","id":"n"}"#,
                "tap,id=n,ifname=cpreg0,script=no,downscript=no",
            ),
            (
                "tap,id=n,vnet_hdr=off",
                "tap,id=n,ifname=cpreg0,script=no,downscript=no,vnet_hdr=off",
            ),
            ("socket,id=n,listen=:1234", "hubport,id=n,hubid=1000000"),
            (
                "stream,id=n,addr.type=unix,addr.path=/x",
                "hubport,id=n,hubid=1000000",
            ),
            (
                "tap,id=other,ifname=vnet0",
                "hubport,id=other,hubid=1000000",
            ),
        ] {
            assert_eq!(
                netdev(&mut with_virtio(true), given).as_deref(),
                Some(expected),
                "{given}"
            );
        }
    }

    #[test]
    fn without_a_namespace_virtio_is_not_verified() {
        let mut network = with_virtio(false);
        assert_eq!(
            netdev(&mut network, "tap,id=n").as_deref(),
            Some("hubport,id=n,hubid=1000000")
        );
        assert_eq!(
            netdev(&mut network, "tap,id=e1000").as_deref(),
            Some("hubport,id=e1000,hubid=1000001")
        );
        assert_eq!(network.unverified.len(), 1);
        assert!(network.unverified[0].should_skip_section("0000:00:01.0/virtio-net"));
        assert!(!network.unverified[0].should_skip_section("0000:00:01.0/virtio-net-x"));
    }

    #[test]
    fn user_networking_is_kept_without_access_from_outside() {
        let mut network = with_virtio(true);
        assert_eq!(
            netdev(
                &mut network,
                "user,id=n,net=10.0.9.0/24,hostfwd=tcp::2222-:22,hostfwd=tcp::8080-:80,smb=/srv"
            )
            .as_deref(),
            Some("user,id=n,net=10.0.9.0/24")
        );
        assert_eq!(netdev(&mut network, "user,id=n"), None);
        assert_eq!(
            netdev(
                &mut network,
                r#"{"type":"user","id":"n","hostfwd":[{"str":"tcp::2222-:22"}]}"#
            )
            .as_deref(),
            Some(r#"{"id":"n","type":"user"}"#)
        );
    }

    #[test]
    fn connections_to_forwards_are_not_verified() {
        let mut network = with_virtio(true);
        let given = "user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:nc host 80";
        assert_eq!(netdev(&mut network, given).as_deref(), Some("user,id=n"));
        assert!(network.unverified[0].should_skip_section("slirp"));
    }

    #[test]
    fn short_forms_are_rewritten() {
        let host = TestHost {
            has_namespace: true,
        };
        let nic =
            |text: &str| Network::new(&host).rewrite_nic(&Values::parse(text, "type").unwrap());
        assert_eq!(nic("none"), NetworkRewrite::Keep);
        assert_eq!(
            nic("tap,mac=52:54:00:00:00:01,ifname=x"),
            NetworkRewrite::Replace(
                "tap,mac=52:54:00:00:00:01,ifname=cpreg0,script=no,downscript=no".to_owned(),
                TAP_REASON
            )
        );
        assert_eq!(
            nic("bridge,model=e1000e"),
            NetworkRewrite::Replace(
                "hubport,model=e1000e,hubid=1000000".to_owned(),
                NETWORK_REASON
            )
        );
        let net =
            |text: &str| Network::new(&host).rewrite_net(&Values::parse(text, "type").unwrap());
        assert_eq!(net("nic,model=virtio"), NetworkRewrite::Keep);
        assert_eq!(
            net("tap,ifname=x"),
            NetworkRewrite::Replace("none".to_owned(), NETWORK_REASON)
        );
    }

    #[test]
    fn long_transmit_queues_are_detected() {
        let device = Values::parse("virtio-net-pci,netdev=n,tx_queue_size=1024", "driver").unwrap();
        assert!(has_oversized_tx_queue(&device, Some("vhost-user")));
        assert!(!has_oversized_tx_queue(&device, Some("tap")));
    }
}
