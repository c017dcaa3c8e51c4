//! Every recorded image is read, and written as it is.

use std::fs::File;

use cpreg_snapshot::libvirt::SaveFormat;
use cpreg_snapshot::{Container, ErrorKind, Format};
use cpreg_stream::{Edit, OpenMethod, Stream};

use crate::common::{IMAGES, SPARSE, assert_same_bytes, no_progress, open, stream, unpack};

#[test]
fn facts_of_every_image_equal_those_of_its_stream() {
    for name in IMAGES {
        let (_folder, path) = unpack(name);
        let image = open(&path);
        let (domain, stream) = (image.domain().clone(), stream(&image));
        assert_eq!(*stream.open_method(), OpenMethod::Description, "{name}");
        assert_eq!(domain.machine.as_deref(), stream.machine(), "{name}");
        let vcpus = usize::try_from(domain.vcpus.unwrap()).unwrap();
        assert_eq!(vcpus, stream.cpus().len(), "{name}");
        assert_eq!(domain.memory, Some(stream.ram_blocks()[0].length), "{name}");
        let format = image.header().format;
        assert!(name.ends_with(format.name()), "{name}: {format:?}");
        assert!(image.header().was_running, "{name}");
        let description = image.description();
        assert!(
            description.container.starts_with("save image of libvirt"),
            "{name}"
        );
        let command = description.command.unwrap();
        assert!(
            command.contains(&format!("-smp {vcpus} -m 64M")),
            "{command}"
        );
    }
}

#[test]
fn unchanged_images_are_written_byte_by_byte() {
    for name in IMAGES {
        let (folder, path) = unpack(name);
        let image = open(&path);
        let identity = Edit::identity(image.stream().length().unwrap());
        let target = folder.path().join("new.save");
        let length = image
            .write_new(&identity, &target, false, &mut no_progress())
            .unwrap();
        let (old, new) = (File::open(&path).unwrap(), File::open(&target).unwrap());
        assert_eq!(new.metadata().unwrap().len(), length);
        assert_same_bytes(&old, &new);
        // An existing file stays.
        let again = image.write_new(&identity, &target, false, &mut no_progress());
        assert!(again.is_err());
        let unchanged = image.write_in_place(&identity, &mut no_progress()).unwrap();
        assert_eq!(unchanged, length);
    }
}

#[test]
fn a_sparse_image_is_also_read_by_a_full_scan() {
    let (_folder, path) = unpack(SPARSE);
    let image = open(&path);
    assert_eq!(image.header().format, SaveFormat::Sparse);
    let verified = Stream::verify(image.stream()).unwrap();
    assert_eq!(*verified.open_method(), OpenMethod::Verified);
    let pages = verified.ram_blocks()[0].mapped_ram.clone().unwrap().pages;
    // QEMU aligns the pages in the file, and not in the stream.
    assert_eq!(
        (pages.start + image.header().stream_offset()) % (1 << 20),
        0
    );
}

#[test]
fn the_container_has_one_vm() {
    let (_folder, path) = unpack(IMAGES[0]);
    let open = || Container::open(File::open(&path).unwrap(), &path, Format::LibvirtImage).unwrap();
    let names: Vec<_> = open().vms().into_iter().map(|vm| vm.name).collect();
    assert_eq!(names, ["max-smp2"]);
    assert!(open().open_vm(Some("max-smp2")).is_ok());
    assert!(open().open_vm(None).is_ok());
    let error = open().open_vm(Some("other")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoVm);
}
