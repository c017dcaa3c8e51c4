//! `cpreg run --print-libvirt`: elements for a domain, which may start on another host.

use crate::run::cpreg;

#[test]
fn the_elements_are_lines_and_name_no_host() {
    // Any file stands for the library, because nothing starts.
    let library = env!("CARGO_BIN_EXE_cpreg");
    let run = cpreg(&["run", "--print-libvirt", "--library", library]);
    assert_eq!(run.status, Some(0), "{run}");
    let lines: Vec<_> = run.stdout.lines().collect();
    assert!(lines.contains(&"<qemu:commandline>"), "{run}");
    assert_eq!(lines.last(), Some(&"</qemu:commandline>"), "{run}");
    assert!(!run.stdout.contains("kernel_release"), "{run}");
    assert!(
        run.stdout
            .contains("&quot;host&quot;:{&quot;emulated&quot;:false}"),
        "{run}"
    );
}
