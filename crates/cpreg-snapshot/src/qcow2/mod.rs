//! VMs that QEMU saved in a qcow2 disk image (`savevm`, Multipass, UTM), read and edited.
//!
//! An internal snapshot has its own L1 table. QEMU stores the VM's state, which is a migration
//! stream, behind the end of the disk: from the first L1 entry that the disk does not use.
//!
//! | file | contents |
//! |---|---|
//! | `header`, `snapshot` | the header and the snapshot table |
//! | `entry` | entries of L1 and L2 tables: the place of a cluster |
//! | `image` | [`Image`]: an open image |
//! | `compressed` | compressed clusters |
//! | `state` | [`SnapshotState`]: the state of a snapshot as bytes |
//! | `refcount` | reference counts: new clusters and released ones |
//! | `edit` | [`plan_change`]: the writes that replace the state of a snapshot |
//! | `change` | [`Change`]: these writes, applied to the file or to a copy |
//! | `disk` | [`Disk`]: an image as a file with saved VMs |
//! | `lock` | [`ImageLock`]: QEMU's locks |
//! | `commands` | [`Commands`]: commands for the disk without the state |

mod change;
mod commands;
mod compressed;
mod disk;
mod edit;
mod entry;
mod header;
mod image;
mod lock;
mod refcount;
mod snapshot;
mod state;

pub use change::{Change, Phase, Write};
pub use commands::Commands;
pub use disk::{Disk, DiskVm};
pub use edit::plan_change;
pub use image::Image;
pub use lock::ImageLock;
pub use snapshot::Snapshot;
pub use state::SnapshotState;
