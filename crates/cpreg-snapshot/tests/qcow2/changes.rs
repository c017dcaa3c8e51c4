//! Changes of images that `qemu-img` made, checked by `qemu-img`.

use cpreg_snapshot::ErrorKind;
use cpreg_snapshot::qcow2::{Image, Phase, plan_change};
use cpreg_stream::{Edit, ReadAt as _, WriteOptions};

use crate::common::{
    CheckResult, STATE_LEN, TestImage, bytes, check, edit, edits, has_tools, index, noise,
    open_to_write, plan, qemu_img, qemu_io, state_bytes, with_snapshots,
};

/// Properties of images.
const OPTIONS: [&str; 13] = [
    "",
    "compat=0.10",
    "compat=0.10,cluster_size=512",
    "compat=0.10,cluster_size=2M",
    "cluster_size=512",
    "cluster_size=512,refcount_bits=64",
    "cluster_size=1k,refcount_bits=4",
    "cluster_size=4k,refcount_bits=8",
    "cluster_size=2M,refcount_bits=32,compression_type=zstd",
    "lazy_refcounts=on",
    "extended_l2=on,cluster_size=16k",
    "extended_l2=on",
    "cluster_size=512,refcount_bits=4,compression_type=zstd",
];

/// Applies the edit; checks what must change and what must not.
fn check_edit(image: &TestImage, name: &str, edit: &Edit) -> TestImage {
    let old = image.bytes();
    let change = plan(&old, name, edit);
    let new = TestImage::from_bytes(&bytes(&change.to_edit().apply_to(&old)));
    assert_eq!(check(&new.path), CheckResult::Clean);
    qemu_img(&["compare", image.path(), new.path()]);
    for snapshot in Image::open(old.as_slice()).unwrap().saved_vms() {
        let wanted = state_bytes(&old, snapshot.name());
        let wanted = if snapshot.name() == name {
            bytes(&edit.apply_to(&wanted))
        } else {
            wanted
        };
        assert!(state_bytes(&new.bytes(), snapshot.name()) == wanted);
    }
    new
}

#[test]
fn both_methods_of_writing_give_the_same_file() {
    if !has_tools() {
        return;
    }
    for edit in &edits()[..3] {
        let image = with_snapshots("", false);
        let old = image.bytes();
        let change = plan(&old, "one", edit);
        let new = bytes(&change.to_edit().apply_to(&old));
        let source = open_to_write(&image.path);
        let target = image.folder.path().join("copy.qcow2");
        change
            .write_new(&source, &target, WriteOptions::default())
            .unwrap();
        assert!(std::fs::read(&target).unwrap() == new);
        change.write_in_place(&source).unwrap();
        assert!(image.bytes() == new);
    }
}

/// Returns the VM's state of the active tables, as QEMU reads it.
fn active_state(image: &TestImage, count: usize) -> Vec<u8> {
    let count = count.next_multiple_of(512);
    let dump = qemu_io(&image.path, &[&format!("read -b -v 0 {count}")]);
    let lines = dump.lines().filter_map(|line| line.split_once(":  "));
    let numbers = lines.flat_map(|(_, line)| {
        let number = |digits| u8::from_str_radix(digits, 16).unwrap();
        line[..48]
            .split_whitespace()
            .map(number)
            .collect::<Vec<_>>()
    });
    numbers.collect()
}

#[test]
fn all_images_and_edits() {
    if !has_tools() {
        return;
    }
    for options in OPTIONS {
        let is_loaded = options.len() % 2 == 0;
        let image = with_snapshots(options, is_loaded);
        assert_eq!(check(&image.path), CheckResult::Clean, "{options}");
        for edit in edits() {
            check_edit(&image, "one", &edit);
        }
    }
}

#[test]
fn disks_of_snapshots_stay_and_qemu_reads_the_state() {
    if !has_tools() {
        return;
    }
    for options in [
        "",
        "cluster_size=512,refcount_bits=4",
        "extended_l2=on,cluster_size=16k",
    ] {
        for is_loaded in [false, true] {
            let image = with_snapshots(options, is_loaded);
            let edit = &edits()[3];
            let new = check_edit(&image, "one", edit);
            let ids = Image::open(image.bytes()).unwrap();
            for snapshot in ids.snapshots() {
                assert!(image.disk_of(snapshot.id()) == new.disk_of(snapshot.id()));
            }
            let wanted = bytes(&edit.apply_to(&noise(1, STATE_LEN)));
            qemu_img(&["snapshot", "-a", "one", new.path()]);
            assert_eq!(check(&new.path), CheckResult::Clean);
            assert!(active_state(&new, wanted.len())[..wanted.len()] == wanted);
            let names = ["one", "two", "empty", "last"];
            for name in &names[..if is_loaded { 3 } else { 4 }] {
                qemu_img(&["snapshot", "-d", name, new.path()]);
                assert_eq!(check(&new.path), CheckResult::Clean, "{options} {name}");
            }
        }
    }
}

#[test]
fn repeated_changes_stay_clean() {
    if !has_tools() {
        return;
    }
    let mut image = with_snapshots("cluster_size=512,refcount_bits=16", true);
    for round in 0..6 {
        let name = if round % 3 == 0 { "two" } else { "one" };
        let length = state_bytes(&image.bytes(), name).len();
        let middle = length / 2;
        let new = noise(round, 20_000);
        image = check_edit(&image, name, &edit(length, &[(middle, 300, new)]));
    }
}

/// Appends until the refcount table must grow, for each width of counts.
#[test]
fn refcount_tables_grow() {
    if !has_tools() {
        return;
    }
    let mut moved = 0;
    for bits in [16, 64] {
        let options = format!("cluster_size=512,refcount_bits={bits}");
        let mut image = with_snapshots(&options, false);
        for round in 0..3 {
            let length = state_bytes(&image.bytes(), "one").len();
            let appended = noise(round, 3_500_000);
            let edit = edit(length, &[(length - 100, 50, appended)]);
            let change = plan(&image.bytes(), "one", &edit);
            let old = image.bytes();
            let switch = change.phases().iter().find(|it| it.0 == Phase::Switch);
            moved += u32::from(switch.unwrap().1[0].bytes[..12] != old[48..60]);
            image = check_edit(&image, "one", &edit);
        }
    }
    assert!(moved >= 3, "{moved} moves of tables");
}

/// Makes a compressed disk, and gives its second half the place of the VM's state.
fn compressed_state(options: &str) -> TestImage {
    let plain = TestImage::create("", "1025M");
    let text = b"compressible content ".repeat(7000);
    let file = plain.folder.path().join("text");
    std::fs::write(&file, &text[..146_944]).unwrap();
    let write = format!("write -q -s {} 512M 146944", file.display());
    let commands = [
        write.as_str(),
        "write -q -P 3 0 64k",
        "write -q -P 5 513M 64k",
    ];
    qemu_io(&plain.path, &commands);
    let packed = plain.folder.path().join("packed.qcow2");
    let to = packed.to_str().unwrap();
    qemu_img(&[
        "convert",
        "-c",
        "-O",
        "qcow2",
        "-o",
        options,
        plain.path(),
        to,
    ]);
    let mut content = std::fs::read(&packed).unwrap();
    content[24..32].copy_from_slice(&(512_u64 << 20).to_be_bytes());
    let image = TestImage::from_bytes(&content);
    image.snapshot("packed", 146_900);
    image
}

#[test]
fn compressed_clusters() {
    if !has_tools() {
        return;
    }
    for kind in ["zlib", "zstd"] {
        let image = compressed_state(&format!("compression_type={kind}"));
        let state = state_bytes(&image.bytes(), "packed");
        assert!(state == b"compressible content ".repeat(7000)[..146_900]);
        let edits = [
            edit(state.len(), &[(1000, 50, noise(1, 50))]),
            edit(state.len(), &[(70_000, 50, vec![])]),
            edit(state.len(), &[(70_000, 0, noise(2, 100_000))]),
        ];
        for edit in edits {
            let new = check_edit(&image, "packed", &edit);
            qemu_img(&["snapshot", "-d", "packed", new.path()]);
            assert_eq!(check(&new.path), CheckResult::Clean);
        }
    }
}

/// Parts of clusters are zeros or not allocated.
#[test]
fn zeros_and_subclusters() {
    if !has_tools() {
        return;
    }
    let options = "extended_l2=on,cluster_size=16k";
    // One L2 table covers 16 MiB.
    let image = TestImage::create(options, "32M");
    let commands = [
        "write -q -P 1 16M 48k",
        "write -q -z 16403k 3k",
        "discard -q 16430k 2k",
        "write -q -P 2 16440k 512",
        "write -q -z 16480k 32k",
    ];
    qemu_io(&image.path, &commands);
    let raw = image.folder.path().join("raw");
    qemu_img(&["convert", "-O", "raw", image.path(), raw.to_str().unwrap()]);
    let wanted = std::fs::read(raw).unwrap()[16 << 20..][..150_000].to_vec();
    let mut content = image.bytes();
    content[24..32].copy_from_slice(&(16_u64 << 20).to_be_bytes());
    let image = TestImage::from_bytes(&content);
    image.snapshot("zeros", wanted.len());
    assert!(state_bytes(&image.bytes(), "zeros") == wanted);
    check_edit(
        &image,
        "zeros",
        &edit(wanted.len(), &[(20_000, 3, vec![9; 3])]),
    );
    check_edit(&image, "zeros", &edit(wanted.len(), &[(20_000, 3, vec![])]));
}

#[test]
fn identity_changes_nothing() {
    if !has_tools() {
        return;
    }
    let image = with_snapshots("", false);
    let change = plan(&image.bytes(), "one", &Edit::identity(STATE_LEN as u64));
    assert!(change.phases().is_empty());
    assert!(change.to_edit().is_identity());
    let old = image.bytes();
    change.write_in_place(&open_to_write(&image.path)).unwrap();
    assert!(image.bytes() == old);
}

#[test]
fn images_that_stay_unchanged() {
    if !has_tools() {
        return;
    }
    let image = with_snapshots("", false);
    let refused = |content: &[u8], edit: &Edit| {
        let image = Image::open(content).unwrap();
        let snapshot = image.find("one").unwrap().clone();
        plan_change(&image.into_state(&snapshot).unwrap(), edit).unwrap_err()
    };
    let edit = &edits()[0];
    for (at, bits, kind) in [
        (79, 1, ErrorKind::Unfinished),
        (79, 2, ErrorKind::Unfinished),
        (95, 4, ErrorKind::Unsupported),
    ] {
        let mut content = image.bytes();
        content[at] |= bits;
        assert_eq!(refused(&content, edit).kind(), kind);
    }
    let other = Edit::identity(3);
    assert_eq!(refused(&image.bytes(), &other).kind(), ErrorKind::BadEdit);

    // The image changes between plan and write.
    let change = plan(&image.bytes(), "one", edit);
    qemu_img(&["snapshot", "-d", "two", image.path()]);
    let old = image.bytes();
    let error = change
        .write_in_place(&open_to_write(&image.path))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadEdit);
    assert!(image.bytes() == old);
}

#[test]
fn counts_that_do_not_match_are_found() {
    if !has_tools() {
        return;
    }
    let image = with_snapshots("", false);
    let mut content = image.bytes();
    let number =
        |content: &[u8], at: usize| u64::from_be_bytes(content[at..at + 8].try_into().unwrap());
    let block = index(number(&content, index(number(&content, 48))));
    content[block..block + 65536].fill(0);
    let image = Image::open(content.as_slice()).unwrap();
    let snapshot = image.find("one").unwrap().clone();
    let state = image.into_state(&snapshot).unwrap();
    let error = plan_change(&state, &edits()[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(error.hint().unwrap().contains("qemu-img check"), "{error}");
}

#[test]
fn backing_files_keep_their_images() {
    if !has_tools() {
        return;
    }
    let base = TestImage::create("", "4M");
    qemu_io(&base.path, &["write -q -P 1 0 4M"]);
    let options = format!("backing_file={},backing_fmt=qcow2", base.path());
    let image = with_snapshots(&options, false);
    let opened = Image::open(image.bytes()).unwrap();
    assert_eq!(opened.backing_file(), Some(base.path()));
    assert_eq!(opened.length().min(1), 1);
    assert!(opened.source().length().unwrap() > 0);
    check_edit(&image, "one", &edits()[1]);
}
