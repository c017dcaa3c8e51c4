//! Save images of libvirt: `virsh save`, `virsh managedsave`, the memory file of an external
//! snapshot.
//!
//! | bytes | content |
//! |---|---|
//! | 0 to 92 | [`Header`] |
//! | then | the domain's XML and a zero; the cookie and a zero; zeros |
//! | [`Header::stream_offset`] to the end | QEMU's stream, perhaps compressed |
//!
//! | file | contents |
//! |---|---|
//! | `header` | the header |
//! | `domain` | the parts of the XML that decide about CPU and machine |
//! | `image` | [`Image`]: an open save image, and its edits |
//! | `compression` | the programs that libvirt compresses with |

mod compression;
mod domain;
mod header;
mod image;

pub use domain::Domain;
pub use header::{HEADER_LEN, Header, SaveFormat};
pub use image::{Image, read_metadata};
