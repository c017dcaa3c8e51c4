//! `cpreg relay --format json`: one document for each migration, also for one that fails or is not
//! started.

use std::io::Write as _;

use serde_json::Value;

use crate::relay::{convert, migrate};
use crate::relay_process::{RelayProcess, folder, load_and_confirm, read, send};
use crate::run::{cpreg_in, without_command};

#[test]
fn json_has_the_report_of_check() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let length = convert(path, "answered", "6.16.xz").len();
    let relay = RelayProcess::start(path, &["--to", "6.16.xz", "--format", "json"]);
    migrate(
        &relay,
        |socket| send(socket, &vm),
        |socket| load_and_confirm(socket, length),
    );
    let (run, _) = relay.end();
    let mut report = run.json();
    assert_eq!(report["outcome"], "completed");
    assert_eq!(
        (&report["migration"], &report["exit_status"]),
        (&1.into(), &0.into())
    );
    assert_eq!(report["error"], Value::Null);
    let mut relayed = report["check"].take();
    let arguments = ["check", "answered", "6.16.xz", "--format", "json"];
    let mut checked = cpreg_in(path, &arguments).json();
    for json in [&mut relayed, &mut checked] {
        let source = json["source"].as_object_mut().expect("an object");
        source.remove("name").expect("a name");
    }
    assert_eq!(without_command(relayed), without_command(checked));
}

/// Checks that a failed migration, and one that is refused before it starts, are documents too.
#[test]
fn json_of_a_migration_that_fails() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let relay = RelayProcess::start(path, &["--to", "6.16.xz", "--format", "json"]);
    // The source breaks off in its RAM.
    drop(relay.source().write_all(&vm[..0x10000]));
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(2), "{run}");
    let report = run.json();
    assert_eq!(report["outcome"], "failed", "{run}");
    assert_eq!(report["error"]["schema"], "cpreg.error/2");
    assert_eq!(report["error"]["kind"], "stream", "{run}");
    assert_eq!(report["error"]["offset"], "0x10000", "{run}");
    assert!(run.stderr.contains("error: the migration failed"), "{run}");

    let refused = cpreg_in(
        path,
        &[
            "relay",
            "--listen",
            "unix:here",
            "--connect",
            "unix:there",
            "--from",
            "6.16.xz",
            "--to",
            "5.10.xz",
            "--format",
            "json",
        ],
    );
    assert_eq!(refused.status, Some(1), "{refused}");
    let report = refused.json();
    assert_eq!(report["outcome"], "not-started", "{refused}");
    assert_eq!(report["check"]["verdict"], "refused", "{refused}");
}
