//! Unix sockets that a service manager creates for the relay.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Stdio;
use std::thread;

use crate::relay::convert;
use crate::relay_process::{RelayProcess, folder, load_and_confirm, read, send};

/// Mode of `SocketMode=0660`.
const MODE: u32 = 0o660;

#[test]
fn a_socket_of_the_service_manager_keeps_its_mode() {
    let folder = folder();
    let path = folder.path();
    let vm = read(path, "answered");
    let expected = convert(path, "answered", "6.16.xz");
    let socket = path.join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(MODE)).expect("a mode");

    let arguments = [
        "--listen",
        "fd:3",
        "--connect",
        "unix:there",
        "--to",
        "6.16.xz",
    ];
    let listener = Stdio::from(OwnedFd::from(listener));
    let relay = RelayProcess::start_with(path, &arguments, listener, Stdio::piped());
    let source = UnixStream::connect(&socket).expect("a connection");
    let (received, arrived) = thread::scope(|scope| {
        let received = scope.spawn(|| send(source, &vm));
        let arrived = load_and_confirm(relay.destination(), expected.len());
        (received.join().expect("no panic"), arrived)
    });
    let (run, _) = relay.end();
    assert_eq!(run.status, Some(0), "{run}");
    assert!(arrived == expected && received.len() == 8);
    // The socket belongs to the service manager.
    let mode = fs::metadata(&socket)
        .expect("a socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, MODE);
}
