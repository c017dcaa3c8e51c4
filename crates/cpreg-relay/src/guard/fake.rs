//! Two monitors for tests, played by threads: what they were told, and what becomes of their VMs.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// One of the two QEMUs.
#[derive(Debug)]
pub(super) struct FakeQemu {
    pub(super) run: &'static str,
    pub(super) migration: &'static str,
    /// What `migrate-set-capabilities` has switched on.
    pub(super) capabilities: Vec<String>,
    pub(super) parameters: Value,
    /// What `cont` refuses with, once each.
    pub(super) refusals: VecDeque<&'static str>,
}

/// Both.
#[derive(Debug)]
pub(super) struct World {
    pub(super) source: FakeQemu,
    pub(super) destination: FakeQemu,
    /// What `migrate` leads to: the states of both (run, migration).
    pub(super) states_after_migrate: [(&'static str, &'static str); 2],
    /// Commands that change something, in the order in which they came.
    pub(super) commands: Vec<String>,
}

impl FakeQemu {
    fn new(run: &'static str) -> Self {
        Self {
            run,
            migration: "none",
            capabilities: Vec::new(),
            parameters: json!({}),
            refusals: VecDeque::new(),
        }
    }
}

/// Both, and where they listen.
#[derive(Debug)]
pub(super) struct FakeMonitors {
    folder: TempDir,
    world: Arc<Mutex<World>>,
}

impl FakeMonitors {
    /// A source that runs and a destination that waits; `migrate` moves the VM.
    pub(super) fn new() -> Self {
        let world = World {
            source: FakeQemu::new("running"),
            destination: FakeQemu::new("inmigrate"),
            states_after_migrate: [("postmigrate", "completed"), ("paused", "completed")],
            commands: Vec::new(),
        };
        let monitors = Self {
            folder: tempfile::tempdir().unwrap(),
            world: Arc::new(Mutex::new(world)),
        };
        for is_source in [true, false] {
            let listener = UnixListener::bind(monitors.path(is_source)).unwrap();
            let world = Arc::clone(&monitors.world);
            // One client at a time, as QEMU does.
            thread::spawn(move || {
                for client in listener.incoming() {
                    serve(client.unwrap(), is_source, &world);
                }
            });
        }
        monitors
    }

    pub(super) fn path(&self, is_source: bool) -> PathBuf {
        let name = if is_source { "source" } else { "destination" };
        self.folder.path().join(name)
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

fn serve(client: UnixStream, is_source: bool, world: &Mutex<World>) {
    let mut writer = client.try_clone().unwrap();
    let version = json!({"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""});
    let greeting = json!({"QMP": {"version": version, "capabilities": []}});
    if writeln!(writer, "{greeting}").is_err() {
        return;
    }
    for line in BufReader::new(client).lines() {
        let Ok(line) = line else { return };
        let request: Value = serde_json::from_str(&line).unwrap();
        let command = request["execute"].as_str().unwrap();
        let answer = execute(command, &request["arguments"], is_source, world);
        let mut reply = match answer {
            Ok(value) => json!({"return": value}),
            Err(text) => json!({"error": {"class": "GenericError", "desc": text}}),
        };
        reply["id"] = request["id"].clone();
        if writeln!(writer, "{reply}").is_err() || command == "quit" {
            return;
        }
    }
}

fn execute(
    command: &str,
    arguments: &Value,
    is_source: bool,
    world: &Mutex<World>,
) -> Result<Value, &'static str> {
    let mut world = world.lock().unwrap();
    let world = &mut *world;
    let who = if is_source { "source" } else { "destination" };
    if matches!(
        command,
        "migrate" | "stop" | "cont" | "quit" | "migrate_cancel"
    ) {
        world.commands.push(format!("{who} {command}"));
    }
    let fake = if is_source {
        &mut world.source
    } else {
        &mut world.destination
    };
    match command {
        "query-status" => return Ok(json!({"status": fake.run})),
        "query-migrate" if fake.migration != "none" => {
            return Ok(json!({"status": fake.migration}));
        }
        "query-cpus-fast" => return Ok(json!([{"thread-id": 0}])),
        "query-migrate-parameters" => return Ok(fake.parameters.clone()),
        "query-migrate-capabilities" => {
            let on = fake.capabilities.iter();
            return Ok(on
                .map(|name| json!({"capability": name, "state": true}))
                .collect());
        }
        "migrate-set-capabilities" => {
            for it in arguments["capabilities"].as_array().unwrap() {
                fake.capabilities
                    .push(it["capability"].as_str().unwrap().to_owned());
            }
        }
        "stop" if fake.run == "running" => fake.run = "paused",
        "cont" => {
            if let Some(text) = fake.refusals.pop_front() {
                return Err(text);
            }
            fake.run = "running";
        }
        "migrate" => {
            [
                (world.source.run, world.source.migration),
                (world.destination.run, world.destination.migration),
            ] = world.states_after_migrate;
        }
        _ => {}
    }
    Ok(json!({}))
}
