//! Configuration of a libvirtd that runs as root, without a service manager, cgroups, namespaces
//! and security drivers.

/// Settings of the QEMU driver (`etc/libvirt/qemu.conf`).
pub const QEMU_CONF: &str = "security_driver = \"none\"\nuser = \"root\"\ngroup = \"root\"\n\
                             namespaces = []\ncgroup_controllers = []\n\
                             stdio_handler = \"file\"\nclear_emulator_capabilities = 0\n\
                             seccomp_sandbox = 0\n";

/// Users (`etc/passwd`). libvirtd does not start without the user of its QEMUs.
pub const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          libvirt-qemu:x:64055:64055::/var/lib/libvirt:/bin/false\n";

/// Groups (`etc/group`).
pub const GROUP: &str = "root:x:0:\ntty:x:5:\nkvm:x:104:\nlibvirt:x:120:\nlibvirt-qemu:x:64055:\n";
