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

use super::isolated::Unjudged;
use super::surroundings::Surroundings;
use super::values::Values;

/// Hubs that are added count from here, so that they are none of the command line's own.
const FIRST_HUB: u32 = 1_000_000;

/// What of `user` reaches out: listens on the host, starts programs, or hands out files.
const OUTWARD: &[&str] = &["hostfwd", "guestfwd", "smb", "smbserver", "tftp"];

/// What of `-nic` concerns the device.
const NIC: &[&str] = &["id", "model", "mac", "macaddr", "addr", "vectors", "name"];

const NO_NETWORK: &str = "no network may be reached: a backend that leads nowhere stands in";
const NO_FORWARDS: &str = "nothing may listen on this host, be started or be handed out";
const TAP: &str = "no network may be reached: a tap in an empty namespace stands in, which takes \
                   the same headers";
const PEER: &str = "no network may be reached; without a tap, which needs a namespace of its own, \
                    the device's state does not load, and that says nothing";

/// What becomes of a network option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Keep,
    Instead(String, &'static str),
}

/// The network of a command line, while its options are gone through.
pub(crate) struct Network<'a> {
    around: &'a dyn Surroundings,
    /// Backends that a virtio-net device uses.
    used_by_virtio: Vec<String>,
    /// What the host said when a tap was first wanted.
    namespace: Option<Result<&'static [&'static str], String>>,
    taps: u32,
    hubs: u32,
    /// What cannot be judged for want of the real thing.
    pub(crate) unjudged: Vec<Unjudged>,
}

impl<'a> Network<'a> {
    pub(crate) fn new(around: &'a dyn Surroundings) -> Self {
        Self {
            around,
            used_by_virtio: Vec::new(),
            namespace: None,
            taps: 0,
            hubs: 0,
            unjudged: Vec::new(),
        }
    }

    /// The namespace that QEMU must run in, or why there is none, if a tap was wanted.
    pub(crate) fn namespace(&self) -> Option<&Result<&'static [&'static str], String>> {
        self.namespace.as_ref()
    }

    /// Notes a device.
    pub(crate) fn device(&mut self, values: &Values) {
        if values.get("driver").is_some_and(is_virtio) {
            self.used_by_virtio
                .extend(values.get("netdev").map(str::to_owned));
        }
    }

    /// `-netdev`.
    pub(crate) fn netdev(&mut self, values: &Values) -> Outcome {
        let id = values.get("id").unwrap_or_default().to_owned();
        let virtio = self.used_by_virtio.contains(&id);
        self.backend(values, &["id"], virtio, &format!("`-netdev {id}`"))
    }

    /// `-nic`.
    pub(crate) fn nic(&mut self, values: &Values) -> Outcome {
        if values.get("type") == Some("none") {
            return Outcome::Keep;
        }
        // On the machine `virt` a NIC of no particular model is virtio's.
        let virtio = values.get("model").is_none_or(is_virtio);
        self.backend(values, NIC, virtio, "`-nic`")
    }

    /// `-net`: on a hub, which no header gets through.
    pub(crate) fn net(&mut self, values: &Values) -> Outcome {
        match values.get("type") {
            Some("nic" | "none") => Outcome::Keep,
            Some("user") => self.user(values),
            // Without any `-net` QEMU would make a network of its own.
            _ => Outcome::Instead("none".to_owned(), NO_NETWORK),
        }
    }

    fn backend(&mut self, values: &Values, keys: &[&str], virtio: bool, what: &str) -> Outcome {
        let kind = values.get("type").unwrap_or_default();
        match kind {
            "user" => return self.user(values),
            "hubport" => return Outcome::Keep,
            _ => {}
        }
        if !(virtio && has_header(kind, values)) {
            return self.hub(values, keys);
        }
        let namespace = self
            .namespace
            .get_or_insert_with(|| self.around.namespace());
        if namespace.is_err() {
            self.unjudged.push(Unjudged {
                what: format!("virtio-net on {what}"),
                sections: vec!["virtio-net".to_owned()],
                ram_blocks: Vec::new(),
                reason: PEER,
            });
            return self.hub(values, keys);
        }
        let other_side = match kind {
            "tap" if uses_vhost(values) => {
                Some("what the kernel's vhost-net can do here is not asked")
            }
            "tap" | "bridge" | "netmap" => None,
            _ => Some("what the other side of it can do is not asked"),
        };
        if let Some(reason) = other_side {
            self.unjudged.push(Unjudged {
                what: format!("the features that {what} leaves to virtio-net"),
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
        Outcome::Instead(values.only_as_keys("tap", keys, &more), TAP)
    }

    /// libslirp saves the guest's connections to forwards out of the guest, and loads one only where its forward is.
    fn user(&mut self, values: &Values) -> Outcome {
        if values.has_any(&["guestfwd"]) {
            self.unjudged.push(Unjudged {
                what: "user networking".to_owned(),
                sections: vec!["slirp".to_owned()],
                ram_blocks: Vec::new(),
                reason: "it may have connections to what `guestfwd` leads to, which must not be \
                         reached",
            });
        }
        if values.has_any(OUTWARD) {
            Outcome::Instead(values.without(OUTWARD, "type"), NO_FORWARDS)
        } else {
            Outcome::Keep
        }
    }

    fn hub(&mut self, values: &Values, keys: &[&str]) -> Outcome {
        let hub = FIRST_HUB.saturating_add(self.hubs).to_string();
        self.hubs += 1;
        let value = values.only_as_keys("hubport", keys, &[("hubid", &hub)]);
        Outcome::Instead(value, NO_NETWORK)
    }
}

fn is_virtio(model: &str) -> bool {
    model == "virtio" || model.starts_with("virtio-net")
}

fn has_header(kind: &str, values: &Values) -> bool {
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
pub(crate) fn is_beyond_a_tap(device: &Values, backend: Option<&str>) -> bool {
    let places = device
        .get("tx_queue_size")
        .and_then(|text| text.parse::<u32>().ok());
    matches!(backend, Some("vhost-user" | "vhost-vdpa"))
        && places.is_some_and(|places| places > 256)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::images::Contents;
    use super::*;

    struct Taps(bool);

    impl Surroundings for Taps {
        fn image_size(&self, _: &Path, _: Contents) -> Option<u64> {
            None
        }

        fn namespace(&self) -> Result<&'static [&'static str], String> {
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
        network.device(&Values::read("virtio-net-pci,netdev=n,mq=on", "driver").unwrap());
        network
    }

    fn netdev(network: &mut Network<'_>, text: &str) -> Option<String> {
        match network.netdev(&Values::read(text, "type").unwrap()) {
            Outcome::Instead(value, _) => Some(value),
            Outcome::Keep => None,
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
        assert_eq!(network.unjudged.len(), 1);
        assert!(network.unjudged[0].covers("0000:00:01.0/virtio-net"));
        assert!(!network.unjudged[0].covers("0000:00:01.0/virtio-net-x"));
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
        assert!(network.unjudged[0].covers("slirp"));
    }

    #[test]
    fn short_forms() {
        let nic = |text: &str| Network::new(&Taps(true)).nic(&Values::read(text, "type").unwrap());
        assert_eq!(nic("none"), Outcome::Keep);
        assert_eq!(
            nic("tap,mac=52:54:00:00:00:01,ifname=x"),
            Outcome::Instead(
                "tap,mac=52:54:00:00:00:01,ifname=cpreg0,script=no,downscript=no".to_owned(),
                TAP
            )
        );
        assert_eq!(
            nic("bridge,model=e1000e"),
            Outcome::Instead("hubport,model=e1000e,hubid=1000000".to_owned(), NO_NETWORK)
        );
        let net = |text: &str| Network::new(&Taps(true)).net(&Values::read(text, "type").unwrap());
        assert_eq!(net("nic,model=virtio"), Outcome::Keep);
        assert_eq!(
            net("tap,ifname=x"),
            Outcome::Instead("none".to_owned(), NO_NETWORK)
        );
    }

    #[test]
    fn long_transmit_queues() {
        let device = Values::read("virtio-net-pci,netdev=n,tx_queue_size=1024", "driver").unwrap();
        assert!(is_beyond_a_tap(&device, Some("vhost-user")));
        assert!(!is_beyond_a_tap(&device, Some("tap")));
    }
}
