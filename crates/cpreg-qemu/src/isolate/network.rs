//! Network backends: what stands in for them.
//!
//! A virtio-net device puts into its stream whether its backend takes packets with a header of offload flags
//! ("vnet_hdr"), and does not load where the backend differs ("saved image requires vnet_hdr=on",
//! hw/net/virtio-net.c). So the stand-in must be alike in that:
//!
//! | backend | header | stand-in |
//! |---|---|---|
//! | `tap`, `bridge`, `vhost-user`, `vhost-vdpa`, `netmap`, `passt,vhost-user=on` | yes | a tap in a network namespace of its own ([`super::namespace`]); where there can be none, a hub port, and virtio-net's section is not judged |
//! | `user` | no | itself without what listens, answers or starts something: it has a section of its own, `slirp`, which is not judged with `guestfwd` |
//! | `socket`, `stream`, `dgram`, `vde`, `l2tpv3`, `passt`, `af-xdp`, … | no | a hub port with nothing else on the hub |
//! | `hubport` | no | itself |
//!
//! Only virtio-net wants a tap; other NICs load whatever the backend is. The number of queues stays: it is part of the
//! device's state.

use super::host_queries::HostQueries;
use super::isolated_command::UnverifiedPart;
use super::values::Values;

/// Hubs that are added count from here, so that they are none of the command line's own.
const FIRST_HUB: u32 = 1_000_000;

/// What of `user` reaches out: listens on the host, starts programs, or hands out files.
const HOST_ACCESS_KEYS: &[&str] = &["hostfwd", "guestfwd", "smb", "smbserver", "tftp"];

/// What of `-nic` concerns the device.
const NIC_KEYS: &[&str] = &["id", "model", "mac", "macaddr", "addr", "vectors", "name"];

const NETWORK_REASON: &str = "no network may be reached: a backend that leads nowhere stands in";
const FORWARD_REASON: &str = "nothing may listen on this host, be started or be handed out";
const TAP_REASON: &str = "no network may be reached: a tap in an empty namespace stands in, which takes \
                   the same headers";
const PEER_REASON: &str = "no network may be reached; without a tap, which needs a namespace of its own, \
                    the device's state does not load, and that says nothing";

/// What becomes of a network option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkRewrite {
    Keep,
    Replace(String, &'static str),
}

/// The network of a command line, while its options are gone through.
pub(crate) struct Network<'a> {
    host: &'a dyn HostQueries,
    /// Backends that a virtio-net device uses.
    virtio_backends: Vec<String>,
    /// What the host said when a tap was first wanted.
    namespace: Option<Result<&'static [&'static str], String>>,
    taps: u32,
    hubs: u32,
    /// What cannot be judged for want of the real thing.
    pub(crate) unverified: Vec<UnverifiedPart>,
}

impl<'a> Network<'a> {
    pub(crate) fn new(around: &'a dyn HostQueries) -> Self {
        Self {
            host: around,
            virtio_backends: Vec::new(),
            namespace: None,
            taps: 0,
            hubs: 0,
            unverified: Vec::new(),
        }
    }

    /// The namespace that QEMU must run in, or why there is none, if a tap was wanted.
    pub(crate) fn namespace(&self) -> Option<&Result<&'static [&'static str], String>> {
        self.namespace.as_ref()
    }

    /// Notes a device.
    pub(crate) fn add_device(&mut self, values: &Values) {
        if values.get("driver").is_some_and(is_virtio) {
            self.virtio_backends
                .extend(values.get("netdev").map(str::to_owned));
        }
    }

    /// `-netdev`.
    pub(crate) fn rewrite_netdev(&mut self, values: &Values) -> NetworkRewrite {
        let id = values.get("id").unwrap_or_default().to_owned();
        let virtio = self.virtio_backends.contains(&id);
        self.rewrite_backend(values, &["id"], virtio, &format!("`-netdev {id}`"))
    }

    /// `-nic`.
    pub(crate) fn rewrite_nic(&mut self, values: &Values) -> NetworkRewrite {
        if values.get("type") == Some("none") {
            return NetworkRewrite::Keep;
        }
        // On the machine `virt` a NIC of no particular model is virtio's.
        let virtio = values.get("model").is_none_or(is_virtio);
        self.rewrite_backend(values, NIC_KEYS, virtio, "`-nic`")
    }

    /// `-net`: on a hub, which no header gets through.
    pub(crate) fn rewrite_net(&mut self, values: &Values) -> NetworkRewrite {
        match values.get("type") {
            Some("nic" | "none") => NetworkRewrite::Keep,
            Some("user") => self.rewrite_user(values),
            // Without any `-net` QEMU would make a network of its own.
            _ => NetworkRewrite::Replace("none".to_owned(), NETWORK_REASON),
        }
    }

    fn rewrite_backend(
        &mut self,
        values: &Values,
        keys: &[&str],
        virtio: bool,
        what: &str,
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
                description: format!("virtio-net on {what}"),
                sections: vec!["virtio-net".to_owned()],
                ram_blocks: Vec::new(),
                reason: PEER_REASON,
            });
            return self.replace_with_hub(values, keys);
        }
        let other_side = match kind {
            "tap" if uses_vhost(values) => {
                Some("what the kernel's vhost-net can do here is not asked")
            }
            "tap" | "bridge" | "netmap" => None,
            _ => Some("what the other side of it can do is not asked"),
        };
        if let Some(reason) = other_side {
            self.unverified.push(UnverifiedPart {
                description: format!("the features that {what} leaves to virtio-net"),
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

    /// libslirp saves the guest's connections to forwards out of the guest, and loads one only where its forward is.
    fn rewrite_user(&mut self, values: &Values) -> NetworkRewrite {
        if values.has_any(&["guestfwd"]) {
            self.unverified.push(UnverifiedPart {
                description: "user networking".to_owned(),
                sections: vec!["slirp".to_owned()],
                ram_blocks: Vec::new(),
                reason: "it may have connections to what `guestfwd` leads to, which must not be \
                         reached",
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

/// The number of queue pairs: said, or one for each file that was handed over.
fn queues(values: &Values) -> usize {
    let said = values.get("queues").and_then(|text| text.parse().ok());
    let files = values.get("fds").map(|list| list.split(':').count());
    said.or(files).unwrap_or(1)
}

/// Whether a virtio-net device has more places in its transmit queue than another backend than these may have.
pub(crate) fn has_oversized_tx_queue(device: &Values, backend: Option<&str>) -> bool {
    let places = device
        .get("tx_queue_size")
        .and_then(|text| text.parse::<u32>().ok());
    matches!(backend, Some("vhost-user" | "vhost-vdpa"))
        && places.is_some_and(|places| places > 256)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::images::ImageFormat;
    use super::*;

    struct Taps(bool);

    impl HostQueries for Taps {
        fn image_size(&self, _: &Path, _: ImageFormat) -> Option<u64> {
            None
        }

        fn network_namespace_command(&self) -> Result<&'static [&'static str], String> {
            if self.0 {
                Ok(&["unshare"])
            } else {
                Err("not here".to_owned())
            }
        }
    }

    fn with_virtio(can_make_taps: bool) -> Network<'static> {
        let mut network = Network::new(if can_make_taps {
            &Taps(true)
        } else {
            &Taps(false)
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
    fn headers_and_queues_stay() {
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
    fn without_a_namespace_virtio_is_not_judged() {
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
    fn user_networking_stays_but_lets_nobody_in() {
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
    fn connections_to_forwards_are_not_judged() {
        let mut network = with_virtio(true);
        let given = "user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:nc host 80";
        assert_eq!(netdev(&mut network, given).as_deref(), Some("user,id=n"));
        assert!(network.unverified[0].should_skip_section("slirp"));
    }

    #[test]
    fn short_forms() {
        let nic = |text: &str| {
            Network::new(&Taps(true)).rewrite_nic(&Values::parse(text, "type").unwrap())
        };
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
        let net = |text: &str| {
            Network::new(&Taps(true)).rewrite_net(&Values::parse(text, "type").unwrap())
        };
        assert_eq!(net("nic,model=virtio"), NetworkRewrite::Keep);
        assert_eq!(
            net("tap,ifname=x"),
            NetworkRewrite::Replace("none".to_owned(), NETWORK_REASON)
        );
    }

    #[test]
    fn long_transmit_queues() {
        let device = Values::parse("virtio-net-pci,netdev=n,tx_queue_size=1024", "driver").unwrap();
        assert!(has_oversized_tx_queue(&device, Some("vhost-user")));
        assert!(!has_oversized_tx_queue(&device, Some("tap")));
    }
}
